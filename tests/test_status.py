"""`status` tells how a grid is getting on from what its runs leave in the folder, and touches
nothing of it.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmark.cli import execute
from benchmark.commands import progress_text, progress_view
from benchmark.records.announcements import announce_plan, announced
from benchmark.records.progress import read_progress
from benchmark.records.store import LEASE_S, Store

ROOT = Path(__file__).resolve().parent.parent
HERE, ELSEWHERE = socket.gethostname(), "some.other.host"
DEAD = 2**22 + 1  # a process number that Linux never gives
KEYS = [f"{number:012x}" for number in range(10)]

SLEEPY = """
import time
from dataclasses import dataclass
from typing import ClassVar

@dataclass(frozen=True)
class Adapter:
    title: ClassVar[str] = "Sleepy"
    paper: ClassVar[str] = "none"
    version: ClassVar[int] = 1
    few_shot: ClassVar[bool] = True

    def fit(self, episode):
        if episode.seed == 3:
            raise ValueError("no sleep at all")
        if episode.seed == 2:
            print("falling asleep")
            time.sleep(600)
        return lambda images: images.features() @ episode.text_features().T
"""


# A folder made by hand: each cell is in the state that its files say


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "results")
    for folder in ("records", "failures", "logs", "locks", "running", "plans"):
        (store.root / folder).mkdir(parents=True)
    return store


def cell(key: str) -> str:
    return f"coop tiny_digits 4-shot seed {int(key, 16)} tiny"


def plan(store: Store, *keys: str, expected_s: float | None = None) -> Path:
    return announce_plan(store, {key: (cell(key), expected_s) for key in keys})


def done(store: Store, key: str) -> None:
    store.path(key).write_text("not even a record: it is not read")


def claimed(
    store: Store,
    key: str,
    host: str,
    pid: int,
    *,
    silent_s: float = 0,
    for_s: float = 0,
    expected_s: float | None = None,
) -> Path:
    """What a worker leaves while it computes: an announcement, and a lease that was last touched
    `silent_s` ago.
    """
    path = store.root / "running" / f"{key}.json"
    path.write_text(
        json.dumps({"cell": cell(key), "host": host, "pid": pid, "expected_s": expected_s})
    )
    lease = store.root / "locks" / f"{key}.lock"
    lease.write_text("a lease")
    now = time.time()
    os.utime(path, (now - for_s, now - for_s))
    os.utime(lease, (now - silent_s, now - silent_s))
    return path


def keys(entries: tuple[Any, ...]) -> list[str]:
    return [each.key for each in entries]


def text(store: Store) -> str:
    return "\n".join(
        line.plain for line in progress_text.lines(read_progress(store), str(store.root))
    )


def test_every_cell_of_a_plan_is_in_one_state(store: Store) -> None:
    plan(store, *KEYS[:6])
    done(store, KEYS[0])
    claimed(store, KEYS[1], HERE, os.getpid(), for_s=5000)
    store.log(KEYS[1]).write_text("[     0.1 s] load\n[     2.0 s] fit\n")
    store.fail(KEYS[2], "ValueError: it broke\n\nthe log\n")
    claimed(store, KEYS[3], HERE, DEAD)
    progress = read_progress(store)
    assert (
        progress.records,
        progress.failures,
        progress.cells,
        progress.done,
        progress.waiting,
    ) == (
        1,
        1,
        6,
        1,
        2,
    )
    assert (keys(progress.running), keys(progress.failed), keys(progress.lost)) == (
        [KEYS[1]],
        [KEYS[2]],
        [KEYS[3]],
    )
    assert (progress.running[0].cell, progress.running[0].pid, progress.running[0].last_words) == (
        cell(KEYS[1]),
        os.getpid(),
        "[     2.0 s] fit",
    )
    assert progress.running[0].for_s == pytest.approx(5000, abs=10)
    assert (progress.failed[0].sentence, progress.failed[0].log) == (
        "ValueError: it broke",
        store.failure(KEYS[2]),
    )
    output = text(store)
    assert "1 of 6 cells done, 1 running, 1 failed, 1 lost, 2 waiting" in output
    assert f"  {cell(KEYS[1])}  1 h 23 min  fit  process {os.getpid()} on {HERE}\n" in output


def test_a_running_cell_takes_one_line_where_the_terminal_is_wide_enough(store: Store) -> None:
    plan(store, *KEYS[:3])
    for key in KEYS[:2]:
        claimed(store, key, HERE, os.getpid() if key == KEYS[0] else os.getppid(), for_s=20)
        store.log(key).write_text("[     2.0 s] a stage with a long description\n")
    progress = read_progress(store)
    *_, first, second = (line.plain for line in progress_text.lines(progress, "r", 120))
    assert first.index("20 s") == second.index("20 s")
    assert first.index("a stage") < first.index("process")
    narrow = [line.plain for line in progress_text.lines(progress, "r", 80)]
    assert max(map(len, narrow)) <= 80
    below = narrow[narrow.index(f"  {cell(KEYS[0])}") + 1]
    process = f"process {os.getpid()} on {HERE}"
    assert below == f"    20 s, a stage with a long description, {process}"


def test_plans_are_counted_once_and_finished_ones_not_at_all(store: Store) -> None:
    plan(store, *KEYS[:4])
    plan(store, *KEYS[2:6])
    plan(store, *KEYS[2:4])
    plan(store, KEYS[9])
    done(store, KEYS[9])
    progress = read_progress(store)
    assert (progress.cells, progress.done, progress.waiting, progress.plans) == (6, 0, 6, 2)
    assert "2 grids are unfinished" in text(store)


@pytest.mark.parametrize(
    ("host", "pid", "silent_s", "alive"),
    [
        (HERE, os.getpid(), 0, True),
        (HERE, DEAD, 0, False),
        (HERE, os.getpid(), 2 * LEASE_S, False),  # the number is another process's by now
        (HERE, 1, 0, True),  # perhaps somebody else's
        (ELSEWHERE, DEAD, LEASE_S / 2, True),
        (ELSEWHERE, DEAD, 2 * LEASE_S, False),
        (ELSEWHERE, DEAD, -3600, True),  # a clock that is ahead
    ],
    ids=("here", "dead", "silent", "others", "elsewhere", "elsewhere silent", "ahead"),
)
def test_a_claim_lives_with_its_process_here_and_with_its_lease_elsewhere(
    store: Store, host: str, pid: int, silent_s: float, alive: bool
) -> None:
    plan(store, KEYS[0])
    claimed(store, KEYS[0], host, pid, silent_s=silent_s)
    progress = read_progress(store)
    assert (keys(progress.running), keys(progress.lost)) == (
        ([KEYS[0]], []) if alive else ([], [KEYS[0]])
    )


def test_an_announcement_without_a_lease_is_nobodys(store: Store) -> None:
    plan(store, KEYS[0])
    with announced(store, KEYS[0], cell(KEYS[0]), None):
        assert keys(read_progress(store).lost) == [KEYS[0]]
        with store.claim(KEYS[0]):
            assert keys(read_progress(store).running) == [KEYS[0]]


def test_a_killed_process_that_had_put_its_record_left_nothing_to_do(store: Store) -> None:
    plan(store, *KEYS[:2])
    claimed(store, KEYS[0], HERE, DEAD)
    done(store, KEYS[0])
    assert (read_progress(store).done, read_progress(store).lost) == (1, ())


def test_what_runs_outside_of_any_plan_is_shown_too(store: Store) -> None:
    claimed(store, KEYS[0], HERE, os.getpid())
    assert read_progress(store).cells == 1
    assert "0 of 1 cell done, 1 running" in text(store)


def test_an_older_failure_is_forgotten_once_the_cell_is_tried_anew(store: Store) -> None:
    store.fail(KEYS[0], "it broke\n\n")
    os.utime(store.failure(KEYS[0]), (1e9, 1e9))
    plan(store, *KEYS[:3])
    assert keys(read_progress(store).failed) == [KEYS[0]]  # nobody is at it
    claimed(store, KEYS[1], HERE, os.getpid())
    assert (read_progress(store).failed, read_progress(store).waiting) == ((), 2)
    claimed(store, KEYS[0], HERE, DEAD)
    assert keys(read_progress(store).lost) == [KEYS[0]]
    os.utime(store.failure(KEYS[0]))
    assert (keys(read_progress(store).failed), read_progress(store).lost) == ([KEYS[0]], ())


def test_a_failure_with_a_plain_traceback_is_named_by_its_last_line(store: Store) -> None:
    plan(store, KEYS[0])
    store.fail(
        KEYS[0],
        f"{cell(KEYS[0])}\n\n"
        "Traceback (most recent call last):\n  File ...\nValueError: it broke\n",
    )
    assert read_progress(store).failed[0].sentence == "ValueError: it broke"


# Time left


def test_time_left_is_what_waits_and_what_is_begun_shared_by_those_at_work(store: Store) -> None:
    plan(store, *KEYS[:4], expected_s=100)
    claimed(store, KEYS[0], HERE, os.getpid(), for_s=40, expected_s=100)
    assert read_progress(store).left_s == pytest.approx(60 + 3 * 100, abs=10)
    # longer than it was thought to take
    claimed(store, KEYS[1], ELSEWHERE, 7, for_s=500, expected_s=100)
    assert read_progress(store).left_s == pytest.approx((60 + 0 + 2 * 100) / 2, abs=10)
    assert " left with 2 workers" in text(store)


def test_batched_cells_share_the_time_that_has_passed(store: Store) -> None:
    plan(store, *KEYS[:3], expected_s=100)
    for key in KEYS[:3]:
        claimed(store, key, HERE, os.getpid(), for_s=120, expected_s=100)
    assert (read_progress(store).workers, read_progress(store).left_s) == (
        1,
        pytest.approx(180, abs=10),
    )
    assert f" of about 5 min 0 s  process {os.getpid()}" in text(store)


def test_what_nothing_is_known_of_is_taken_at_the_mean(store: Store) -> None:
    plan(store, KEYS[0], expected_s=100)
    plan(store, KEYS[1], expected_s=300)
    plan(store, KEYS[2])
    claimed(store, KEYS[0], HERE, os.getpid(), expected_s=100)
    assert read_progress(store).left_s == pytest.approx(100 + 300 + 200, abs=10)


def test_nothing_is_said_of_the_time_where_nothing_is_known_or_nobody_works(store: Store) -> None:
    plan(store, *KEYS[:2])
    claimed(store, KEYS[0], HERE, os.getpid())
    assert read_progress(store).left_s is None
    assert "left" not in text(store)
    claimed(store, KEYS[0], HERE, DEAD, expected_s=5)
    assert read_progress(store).left_s is None
    assert "nobody is working on it; the same command goes on" in text(store)


# What others may have put there

HOSTILE = {
    "cut off": b'{"000000000000": ["coop", 1',
    "empty": b"",
    "not text": b"\xff\x00\xfe",
    "another shape": b"[1, 2, 3]",
    "deep": b"[" * 100_000,
    "a path for a key": b'{"../../etc/passwd": ["coop", 1]}',
    "a time without end": b'{"000000000000": ["coop", Infinity]}',
    "a negative time": b'{"000000000000": ["coop", -1]}',
    "a process that is all processes": (
        b'{"cell": "coop", "host": "vm", "pid": -1, "expected_s": null}'
    ),
    "process nought": b'{"cell": "coop", "host": "vm", "pid": 0}',
    "a huge process": b'{"cell": "coop", "host": "vm", "pid": 99999999999999999999}',
}


@pytest.mark.parametrize("folder", ["plans", "running"])
@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_what_no_run_wrote_is_passed_over_with_a_remark(
    store: Store, folder: str, content: bytes
) -> None:
    plan(store, KEYS[1])
    path = store.root / folder / f"{KEYS[0]}.json"
    path.write_bytes(content)
    remarks: list[str] = []
    progress = read_progress(store, remarks)
    assert (progress.cells, progress.waiting) == (1, 1)
    assert remarks == [f"{path} is not what a run writes there; it is passed over"]


def test_a_remark_goes_to_stderr(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    plan(store, KEYS[1])
    (store.root / "running" / "notes.json").write_text("{}")
    assert execute(["status", "--results", str(store.root)]) == 0
    assert "warning: " in (output := capsys.readouterr()).err
    assert "0 of 1 cell done" in output.out


def test_pipes_folders_and_dangling_links_hold_nobody_up(store: Store) -> None:
    plan(store, KEYS[0])
    for folder in ("plans", "running"):
        os.mkfifo(store.root / folder / f"{KEYS[1]}.json")
        (store.root / folder / f"{KEYS[2]}.json").mkdir()
        (store.root / folder / f"{KEYS[3]}.json").symlink_to(store.root / "nowhere")
    os.mkfifo(store.failure(KEYS[0]))
    os.mkfifo(store.log(KEYS[4]))
    claimed(store, KEYS[4], HERE, os.getpid())
    remarks: list[str] = []
    assert read_progress(store, remarks).cells == 2
    assert len(remarks) == 4


def test_nothing_that_others_wrote_reaches_the_terminal_as_a_command(store: Store) -> None:
    announce_plan(
        store, {KEYS[0]: ("coop \x1b[2J\x1b]0;title\x07[red]x[/red]", 1.0), KEYS[1]: ("a\nb", 1.0)}
    )
    store.fail(KEYS[0], "it \x1b[31mbroke\x9b1m\n")
    claimed(store, KEYS[1], HERE, os.getpid())
    store.log(KEYS[1]).write_bytes(b"50%\r 60%\r\x1b[A\xff 70%\n")
    output = text(store)
    assert all(letter.isprintable() or letter == "\n" for letter in output)
    assert "it broke" in output
    assert "[red]x[/red]" in output
    assert "\ufffd 70%" in output


# The command


def test_a_folder_without_results_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert execute(["status", "--results", str(folder)]) == 2
        assert capsys.readouterr().err.startswith(f"error: there are no results in {folder}")
    assert list(tmp_path.iterdir()) == []


def test_without_a_plan_records_and_failures_are_counted(store: Store) -> None:
    for key in KEYS[:3]:
        done(store, key)
    assert text(store) == f"{store.root}: 3 records, no failures; no grid is under way"
    store.fail(KEYS[4], "it broke\n")
    assert "3 records, 1 failure; no grid" in text(store)


def test_json_is_one_object_with_every_cell_that_is_of_interest(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    plan(store, *KEYS, expected_s=1)
    for key in KEYS[1:]:
        store.fail(key, "it broke\n")
    claimed(store, KEYS[0], ELSEWHERE, 7)
    assert execute(["status", "--json", "--results", str(store.root)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["cells"], shown["done"], shown["waiting"], shown["workers"]) == (10, 0, 0, 1)
    assert [each["key"] for each in shown["failed"]] == KEYS[1:]
    assert (shown["running"][0]["host"], shown["running"][0]["pid"]) == (ELSEWHERE, 7)
    assert Path(shown["failed"][0]["log"]).read_text() == "it broke\n"


def test_many_failures_are_cut_short_for_people(store: Store) -> None:
    many = [f"{number:012x}" for number in range(25)]
    plan(store, *many)
    for key in many:
        store.fail(key, "it broke\n")
    assert text(store).count("it broke") == progress_text.SHOWN
    assert "and 15 more; --json names them all" in text(store)


def test_ten_thousand_records_are_counted_by_name(store: Store) -> None:
    many = [f"{number:012x}" for number in range(10_000)]
    plan(store, *many, KEYS[0].replace("0", "f"))
    for key in many:
        store.path(key).touch()
    progress = read_progress(store)
    assert (progress.records, progress.done, progress.waiting) == (10_000, 10_000, 1)


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_looking_changes_nothing(store: Store) -> None:
    plan(store, *KEYS[:3])
    claimed(store, KEYS[0], HERE, DEAD)
    claimed(store, KEYS[1], ELSEWHERE, 7, silent_s=2 * LEASE_S)
    before = listing(store.root)
    assert execute(["status", "--results", str(store.root)]) == 0
    assert listing(store.root) == before


def test_looking_imports_no_torch(store: Store) -> None:
    done(store, KEYS[0])
    command = ["status", "--results", str(store.root)]
    script = (
        f"import sys; from benchmark.cli import execute; execute({command}); "
        "print('torch' in sys.modules)"
    )
    assert subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.endswith("False\n")


# Watching


def terminal() -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(
        file=stream,
        force_terminal=True,
        width=80,
        height=30,
        color_system=None,
        _environ={"TERM": "xterm"},
    ), stream


def after(looks: int, then: Callable[[], object]) -> Callable[[float], None]:
    """A pause that does something at its so-manieth time instead of waiting."""
    count = iter(range(1, 1000))
    return lambda seconds: then() if next(count) == looks else None  # type: ignore[func-returns-value]


def test_a_watch_ends_when_the_last_cell_does(store: Store) -> None:
    plan(store, *KEYS[:2])
    done(store, KEYS[0])
    announcement = claimed(store, KEYS[1], HERE, os.getpid())

    def end() -> None:
        done(store, KEYS[1])
        announcement.unlink()

    seen: list[int] = []
    progress = progress_view.watch(
        store, lambda now: seen.append(len(now.running)), [], after(3, end)
    )
    assert seen == [1, 1, 1]
    assert (progress.records, progress.running) == (2, ())


def test_a_watch_waits_a_while_for_a_worker_that_has_not_begun_its_next_cell(store: Store) -> None:
    plan(store, *KEYS[:2])
    seen: list[int] = []
    progress_view.watch(store, lambda now: seen.append(len(now.running)), [], lambda seconds: None)
    assert seen == [0] * progress_view.QUIET_READINGS
    seen.clear()
    begin = after(3, lambda: claimed(store, KEYS[0], ELSEWHERE, 7))
    with pytest.raises(StopIteration):  # it goes on for as long as the cell runs
        progress_view.watch(store, lambda now: seen.append(len(now.running)), [], begin)
    assert seen[:4] == [0, 0, 0, 1]


def test_a_watch_ends_at_once_where_nothing_can_come(store: Store) -> None:
    plan(store, *KEYS[:1])
    store.fail(KEYS[0], "it broke\n")
    assert progress_view.watch(
        store, lambda now: pytest.fail("there is nothing to wait for"), []
    ).failed


def test_ctrl_c_is_the_usual_end_of_a_watch(store: Store) -> None:
    plan(store, *KEYS[:1])
    claimed(store, KEYS[0], HERE, os.getpid())

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    assert progress_view.watch(store, lambda now: None, [], interrupt).running


def test_on_a_terminal_long_lines_are_cut_and_the_picture_goes_away(store: Store) -> None:
    plan(store, *KEYS[:1])
    announce_plan(store, {KEYS[2]: ("coop " + "n_ctx=16 " * 20, None)})
    store.fail(KEYS[2], "it broke\n")
    out, stream = terminal()
    with progress_view.picture(out, "results") as show:
        show(read_progress(store))
        show(read_progress(store))
    shown = stream.getvalue()
    assert "0 of 2 cells done, 1 failed, 1 waiting" in shown
    assert "…" in shown
    assert shown.rstrip().endswith("\x1b[2K")


def test_without_a_terminal_a_watch_prints_a_line_when_something_happens(store: Store) -> None:
    plan(store, *KEYS[:2])
    claimed(store, KEYS[0], HERE, os.getpid())
    written: list[int] = []
    with progress_view.changes(lambda now: written.append(now.done)) as show:
        for _ in range(3):
            show(read_progress(store))
        done(store, KEYS[1])
        show(read_progress(store))
    assert written == [0, 1]


# Runs in processes of their own


@contextmanager
def running(tmp_path: Path, *around: str, seeds: str = "1,3,2") -> Iterator[subprocess.Popen[str]]:
    """A run that makes one record, fails once, and falls asleep over a third cell."""
    (tmp_path / "lab").mkdir(exist_ok=True)
    (tmp_path / "lab" / "sleepy.py").write_text(SLEEPY)
    grid = [
        "--method",
        "lab.sleepy",
        "--dataset",
        "tiny_digits",
        "--shots",
        "1",
        "--seed",
        seeds,
        "--results",
        str(tmp_path / "results"),
    ]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    command = [*around, sys.executable, "-m", "benchmark", "run", *grid]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while (
            not _asleep(tmp_path / "results")
            and process.poll() is None
            and time.monotonic() < deadline
        ):
            time.sleep(0.2)
        yield process
    finally:
        process.kill()
        process.wait()


def _asleep(results: Path) -> bool:
    return any(
        "falling asleep" in each.last_words for each in read_progress(Store(results)).running
    )


def test_a_real_run_is_seen_from_outside_and_when_it_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_view, "PAUSE_S", 0.01)
    command = ["status", "--results", str(tmp_path / "results")]
    with running(tmp_path) as process:
        assert execute([*command, "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert (shown["cells"], shown["done"], shown["waiting"]) == (3, 1, 0)
        assert [each["pid"] for each in shown["running"]] == [process.pid]
        assert [each["sentence"] for each in shown["failed"]] == ["ValueError: no sleep at all"]
    assert execute([*command, "--watch"]) == 0  # nothing is said to be running, so it ends
    output = capsys.readouterr().out
    assert "1 of 3 cells done, 1 failed, 1 lost" in output
    assert "nobody is working on it; the same command goes on" in output


def test_an_interrupted_run_leaves_its_cell_waiting(tmp_path: Path) -> None:
    with running(tmp_path, seeds="1,2") as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    progress = read_progress(Store(tmp_path / "results"))
    assert (progress.done, progress.waiting, progress.running, progress.lost) == (1, 1, (), ())


def permitted(*around: str) -> None:
    try:
        tried = subprocess.run([*around, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip(f"{around[0]} is not installed")
    if tried.returncode:
        pytest.skip(f"{' '.join(around)} is not permitted here: {tried.stderr.strip()}")


def test_a_run_on_another_host_is_alive_as_long_as_it_is_heard_of(tmp_path: Path) -> None:
    namespace = ["unshare", "--uts", "--map-root-user"]
    permitted(*namespace)
    hostname = (
        f"import socket, os, sys; socket.sethostname({ELSEWHERE!r}); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    results = Store(tmp_path / "results")
    with running(tmp_path, *namespace, sys.executable, "-c", hostname, seeds="2"):
        assert [each.host for each in read_progress(results).running] == [ELSEWHERE]
    (last,) = read_progress(results).running  # killed, but from here nobody can know yet
    lease = results.root / "locks" / f"{last.key}.lock"
    os.utime(lease, (time.time() - 2 * LEASE_S,) * 2)
    assert keys(read_progress(results).lost) == [last.key]


def test_a_folder_that_may_only_be_read_is_enough(store: Store) -> None:
    namespace = ["unshare", "--mount", "--map-root-user"]
    permitted(*namespace)
    plan(store, *KEYS[:2])
    claimed(store, KEYS[0], HERE, os.getpid(), for_s=5000)
    root = shlex.quote(str(store.root))
    look_at = f"{shlex.quote(sys.executable)} -m benchmark status --results {root}"
    script = (
        f"mount --bind {root} {root} && mount -o remount,ro,bind {root} && "
        f"! touch {root}/x && {look_at}"
    )
    output = subprocess.run(
        [*namespace, "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (output.returncode, "1 running, 1 waiting" in output.stdout) == (0, True), output.stderr
