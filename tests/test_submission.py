"""Submissions: packed without a trace of who made them, read as a stranger's, checked, shown."""

from __future__ import annotations

import base64
import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark import Cell, data, run
from benchmark.errors import UserError
from benchmark.records import predictions, submission
from benchmark.records.record import Identity, key
from benchmark.records.store import Store
from benchmark.report import grouping, submission_checks, unknown_here
from benchmark.report.board import write_board
from benchmark.report.submission_checks import check_submission
from testbed.synthetic import digest, identity, scored, write
from tests.conftest import Invoke

COMMUNITY = Path(__file__).resolve().parent.parent / "results" / "community"
Lines = list[dict[str, Any]]


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Records of cells that are quickly computed."""
    folder = tmp_path_factory.mktemp("submitted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FSBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "fsbench-cache"))
        store = Store(folder)
        cells = [
            Cell(method="zero_shot", dataset="tiny_digits", shots=0, seed=0, backbone="tiny"),
            *(
                Cell(method="nearest_mean", dataset="tiny_digits", shots=1, seed=s, backbone="tiny")
                for s in (1, 2)
            ),
        ]
        assert all(outcome.record for outcome in run(cells, store))
    return store


@pytest.fixture
def packed(computed: Store, tmp_path: Path) -> Path:
    return submission.pack(computed, list(computed.records()), tmp_path, "mine").folder


def forge(folder: Path, change: Callable[[Lines, Lines], object]) -> None:
    """Change what a submission says, as one who knows how checksums and keys are made."""
    files = [folder / submission.RECORDS, folder / submission.PREDICTIONS]
    records, archives = (
        [json.loads(line) for line in file.read_text().splitlines()] for file in files
    )
    change(records, archives)
    for file, lines in zip(files, (records, archives), strict=True):
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    sums = {file.name: submission._digest(file) for file in files}
    facts = {"format": 1, "records": len(records), "sha256": sums}
    (folder / submission.FACTS).write_text(json.dumps(facts))


def reidentified(records: Lines, archives: Lines, **changes: object) -> None:
    """Other identities of all records, under the keys that go with them."""
    for each, packed in zip(records, archives, strict=True):
        each["identity"].update(changes)
        each["key"] = packed["key"] = key(Identity.model_validate(each["identity"]))
    for lines in (records, archives):
        lines.sort(key=lambda each: each["key"])


def archive(predicted: list[int]) -> str:
    return base64.b64encode(predictions.pack(np.array(predicted))).decode()


def rekeyed(records: Lines, archives: Lines) -> None:
    """The result of one seed as that of another, under its key."""
    record = next(each for each in records if each["identity"]["seed"] == 1)
    packed = next(each for each in archives if each["key"] == record["key"])
    record["identity"]["seed"] = 17
    record["key"] = packed["key"] = key(Identity.model_validate(record["identity"]))
    records.sort(key=lambda each: each["key"])


def flattered(records: Lines, archives: Lines) -> None:
    """Predictions without an error, and the counts that go with them."""
    labels = list(data.load("tiny_digits").test.labels)
    for each, packed in zip(records, archives, strict=True):
        each["counts"]["correct"] = each["counts"]["total"]
        packed["archive"] = archive(labels)


@pytest.mark.parametrize("folder", submission.submissions(COMMUNITY), ids=lambda path: path.name)
def test_what_the_community_has_submitted_is_what_it_says(folder: Path) -> None:
    checked = check_submission(folder)
    assert len(checked.records) == submission._facts(folder).records
    assert sum(path.stat().st_size for path in folder.iterdir()) < 20e6


def test_packed_and_read_back_it_is_the_same(computed: Store, packed: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "unpacked")
    before, after = list(computed.records()), submission.unpack(packed, store)
    for ours, theirs in zip(before, after, strict=True):
        assert theirs.model_copy(update={"provenance": {}}) == ours.model_copy(
            update={"provenance": {}}
        )
        assert theirs.provenance.items() <= ours.provenance.items()
        assert theirs.provenance.keys() <= submission.KEPT
        assert store.beside(ours.key).read_bytes() == computed.beside(ours.key).read_bytes()
    checked = check_submission(packed)
    assert (checked.with_labels, len(checked.replayed)) == (3, 2)
    again = submission.pack(computed, before[::-1], tmp_path, "again").folder
    for name in (submission.FACTS, submission.RECORDS, submission.PREDICTIONS):
        assert (again / name).read_bytes() == (packed / name).read_bytes()


FORGED: dict[str, tuple[Callable[[Lines, Lines], object], str]] = {
    "counts": (
        lambda records, _: records[0]["counts"]["correct"].__setitem__(0, 64),
        "are not those of its predictions",
    ),
    "counts moved between classes": (
        lambda records, _: records[0]["counts"]["correct"].reverse(),
        "are not those of its predictions",
    ),
    "predictions of no class": (
        lambda _, archives: archives[0].update(archive=archive([99] * 640)),
        "are not those of its predictions",
    ),
    "fewer classes than there are": (
        lambda records, archives: (
            records[0].update(counts={"correct": [64], "total": [640]}),
            archives[0].update(archive=archive([0] * 640)),
        ),
        "are not those of its predictions",
    ),
    "more classes than there are": (
        lambda records, _: [each.extend([0] * 300_000) for each in records[0]["counts"].values()],
        "are not those of its predictions",
    ),
    "no images": (
        lambda records, archives: (
            reidentified(records, archives, dataset="theirs"),
            [each.update(counts={"correct": [], "total": []}) for each in records],
            [each.update(archive=archive([])) for each in archives],
        ),
        "are not those of its predictions",
    ),
    "another cell's result": (rekeyed, "a cell gives other counts here"),
    "a perfect score": (flattered, "a cell gives other counts here"),
    "identity": (lambda records, _: records[0]["identity"].update(seed=7), "changed or renamed"),
    "a foreign field": (lambda records, _: records[0].update(rank=1), "is not a record of this"),
    "foreign provenance": (
        lambda records, _: records[0]["provenance"].update(host="box"),
        "its key or its provenance is not as `submit` writes it",
    ),
    "a path": (
        lambda records, _: records[0]["notes"].update(file="/srv/me/x.pt"),
        "holds a path in its notes.file",
    ),
    "a key that is a path": (
        lambda records, _: records[0].update(key="../../escaped"),
        "its key or its provenance is not as `submit` writes it",
    ),
    "twice": (lambda records, _: records.append(records[-1]), "has no predictions"),
    "no predictions": (lambda _, archives: archives.pop(), "has no predictions"),
    "predictions of none": (
        lambda _, archives: archives.append({"key": "0" * 12, "archive": ""}),
        "1 predictions of none",
    ),
    "no archive": (
        lambda _, archives: archives[0].update(archive="gASVAAAA"),
        "predictions of record .* cannot be read",
    ),
    "a version that is not there yet": (
        lambda records, archives: reidentified(records, archives, adapter_version=2),
        "is of version 2 of .*, and the newest here is 1",
    ),
    **{
        f"{field} that cannot be printed": (
            lambda records, _, field=field, value=value: records[0]["identity"].update(
                {field: value}
            ),
            f"is not a record of this suite .identity.{field}.*cannot be printed",
        )
        for field, value in (
            ("method", "a\x1b[2J"),
            ("backbone", "a\n| b |"),
            ("precision", "\x1b]0;x\x07"),
            ("weights_digest", "a\nb"),
            ("params", {"a\x1b[31m": 1}),
            ("params", {"a": "\x1b[31m"}),
            ("templates", ["\x1b[2J\x07 a {}."]),
        )
    },
    "a note that cannot be printed": (
        lambda records, _: records[0]["notes"].update(at="\x1b[2J"),
        "holds what cannot be printed in its notes.at",
    ),
    "a device that cannot be printed": (
        lambda records, _: records[0]["provenance"].update(device="\x1b[2J"),
        "holds what cannot be printed in its provenance.device",
    ),
    "in another order": (lambda records, _: records.reverse(), "pack it again"),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_submission_is_refused_in_a_sentence(packed: Path, what: str) -> None:
    change, sentence = FORGED[what]
    forge(packed, change)
    with pytest.raises(UserError, match=sentence):
        check_submission(packed, replays=3)


def test_files_that_are_damaged_missing_or_without_end_are_refused(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = packed / submission.RECORDS
    whole = records.read_bytes()
    records.write_bytes(whole.replace(b"tiny_digits", b"tiny_shapes"))
    with pytest.raises(UserError, match=r"is not the file that submission\.json names"):
        check_submission(packed)
    records.unlink()
    with pytest.raises(UserError, match=r"cannot read .*records\.jsonl"):
        check_submission(packed)
    records.symlink_to("/dev/zero")
    with pytest.raises(UserError, match="it is no regular file"):
        check_submission(packed)
    records.unlink()
    records.write_bytes(whole)
    monkeypatch.setattr(submission, "MOST_LINE", 500)
    with pytest.raises(UserError, match=r"predictions\.jsonl:1 is longer than any submission"):
        check_submission(packed)
    (packed / submission.FACTS).write_text("[" * 100_000)
    with pytest.raises(UserError, match="is no submission"):
        check_submission(packed)


def test_which_cells_are_computed_again_the_submission_does_not_decide(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = submission.unpack(packed, Store(packed.parent / "unpacked"))

    def order(seed: int) -> tuple[str, ...]:
        return tuple(each.key for each in submission_checks._drawn(records, random.Random(seed)))

    assert len(set(map(order, range(20)))) == 6  # 3! orders
    assert order(3) == order(3)
    monkeypatch.setattr(
        submission_checks, "_replayed", lambda drawn, count: ([drawn[0].key] * count, [])
    )
    seeded = [check_submission(packed, replays=1, replay_seed=seed) for seed in range(6)]
    assert [each.replayed for each in seeded] == [order(seed)[:1] for seed in range(6)]
    assert len({check_submission(packed, replays=1).replayed for _ in range(40)}) == 3
    slow = [
        each.model_copy(update={"identity": each.identity.model_copy(update=change)})
        for each in records
        for change in (
            {"params": {"steps": 10**9}}, {"method": "coop"}, {"method": "evil.module"},
            {"dataset": "imagenet"}, {"backbone": "ViT-B-16/openai"}, {"shots": 10**6},
        )
    ]  # fmt: skip
    assert submission_checks._drawn(slow, random.Random(3)) == []


def test_what_could_not_be_looked_into_is_said(packed: Path) -> None:
    forge(packed, lambda records, archives: reidentified(records, archives, adapter_version=0))
    said = str(check_submission(packed, replay_seed=1))
    assert "0 of 2 computed again (of 3 the adapter_version was 0, is 1)" in said
    strange = {"method": "theirs", "backbone": "VITAL/x", "protocol": 99, "weights_digest": "0"}
    strange |= {"dataset": "theirs"}
    forge(packed, lambda records, archives: reidentified(records, archives, **strange))
    said = str(check_submission(packed))
    assert "as they should be" not in said
    assert "0 of 2 computed again (3 of 3 records not of cells that can be" in said
    for name in (
        "the method 'theirs'",
        "the dataset 'theirs'",
        "the backbone 'VITAL/x'",
        "version 99 of the suite's rules",
    ):
        assert name in said
    seen = {"dataset": "tiny_digits", "sources": {"his": "d"}, "learned_on": {"hers": "d"}}
    found = unknown_here.unknown_here([scored(identity("prompt_adapter", **seen), 0.5)])
    assert found[:2] == ("the dataset 'hers'", "the dataset 'his'")
    known = {"method": "zero_shot", "backbone": "tiny", "protocol": 1, "shots": 0}
    known |= {"dataset": "tiny_digits"}
    forge(packed, lambda records, archives: reidentified(records, archives, **known))
    assert "unknown here: the weights 0 of tiny" in str(check_submission(packed, replays=0))


@pytest.mark.parametrize("field", unknown_here.CHOICES)
def test_choices_that_nobody_knows_here_are_named_and_shown(
    packed: Path, tmp_path: Path, field: str
) -> None:
    """They are a stranger's, or of a newer suite; nothing else on the board suffers from them."""
    community = tmp_path / "community"
    for name in ("honest", "other"):
        shutil.copytree(packed, community / name)
    other = community / "other"
    forge(other, lambda *lines: reidentified(*lines, **{field: "unheard"}))
    said = str(check_submission(other))
    assert "0 of 2 computed again (3 of 3 records not of cells that can be" in said
    assert f"unknown here: the {field} 'unheard'" in said
    written = write_board(community, tmp_path / "board")
    assert (written.names, written.records) == (("honest", "other"), 6)


HONEST: dict[str, Callable[[], Identity]] = {
    "few-shot": identity,
    "with a prior": lambda: identity(sources=SHAPES, source_shots=4),
    "no shots": lambda: identity("zero_shot", shots=0, seed=0, val="none"),
    "base-to-new": lambda: identity(
        shots=16, evaluation="base-to-new", classes="new", learned_classes="base"
    ),
    **{
        protocol: lambda protocol=protocol: identity(  # type: ignore[misc]
            shots=16, evaluation=protocol, learned_on=SHAPES, learned_classes="all"
        )
        for protocol in ("cross-dataset", "domain")
    },
    "of a preset": lambda: identity("tip_adapter", preset="released"),
}
SHAPES = {"tiny_shapes": digest("tiny_shapes")}
OTHER_VALUES: dict[str, object] = {
    "adapter_version": 7,
    "shots": 3,
    "seed": 9,
    "protocol": 9,
    "source_shots": 3,
    "params": {"steps": 1.0},
    "underscores": True,
    "templates": ("a perfect {}.",),
    "sources": {"dtd": digest("dtd")},
    "learned_on": SHAPES | {"dtd": digest("dtd")},
    "sampler": "nested",
    "val": "up-to-2",
    "evaluation": "odd",
    "classes": "base",
    "dataset": "dtd",
    "dataset_digest": digest("edited"),
}
UNUSED_AT_NO_SHOTS = {"sampler", "val"}


@pytest.mark.parametrize("protocol", HONEST)
@pytest.mark.parametrize("field", Identity.model_fields)
def test_nobody_takes_the_place_of_an_honest_record(protocol: str, field: str) -> None:
    """By no field: another value makes a place of its own, or what was there before stands."""
    honest = HONEST[protocol]()
    forged = honest.model_copy(update={field: OTHER_VALUES.get(field, "test")})
    pair, notes, conflicts = [scored(honest, 0.6), scored(forged, 1.0)], list[str](), []
    groups = grouping.group_records(pair, notes, superseded=True, conflicts=conflicts)
    shown = [
        record
        for variants in groups.values()
        for datasets in variants.values()
        for records in datasets.values()
        for record in records
    ]
    if protocol == "no shots" and field in UNUSED_AT_NO_SHOTS:
        assert (shown, conflicts) == ([pair[0]], [(pair[1], pair[0])])
        assert notes[0].endswith("; of 1 the counts are others")
    else:
        assert (len(shown), notes) == (2, [])


@pytest.mark.parametrize("value", [1.0, True])
def test_of_equal_values_under_two_names_the_earlier_record_stands(value: float) -> None:
    honest, forged = (scored(identity(params={"steps": each}), 0.5) for each in (1, value))
    assert honest.key != forged.key
    for first, second in ((honest, forged), (forged, honest)):
        notes: list[str] = []
        (variants,) = grouping.group_records([first, second], notes).values()
        assert list(variants.values()) == [{"tiny_digits": [first]}]
        assert "of 1" not in notes[0], "the counts are the same"


@pytest.mark.parametrize(
    "unused", [{"sampler": each} for each in ("nested", "odd", "relaxed")] + [{"val": "none"}]
)
def test_on_the_board_the_first_by_name_stands_where_two_would_take_one_place(
    packed: Path, tmp_path: Path, unused: dict[str, str]
) -> None:
    community = tmp_path / "community"
    for name in ("honest", "other"):
        shutil.copytree(packed, community / name)
    forge(community / "other", lambda *lines: (reidentified(*lines, **unused), flattered(*lines)))
    written = write_board(community, tmp_path / "board")
    (conflict,) = written.conflicts
    theirs = submission.unpack(community / "honest", Store(tmp_path / "unpacked"))
    (key,) = (each.key for each in theirs if each.identity.shots == 0)
    assert f"would take the place of record {key} of honest" in conflict
    lists = "".join(path.read_text() for path in (tmp_path / "board").rglob("*.js"))
    assert all(each.key in lists for each in theirs)
    assert conflict.split()[2] not in lists


@pytest.mark.parametrize(
    ("notes", "what"),
    [
        ({"from": "/home/somebody/weights"}, "a path of this machine"),
        ({"from": "loaded ~/weights/b.pt"}, "a path of this machine"),
        ({"from": "C:\\Users\\me"}, "a path of this machine"),
        ({"from": "file:///home/alice/x"}, "a path of this machine"),
        ({"from": "read [/home/alice/x]"}, "a path of this machine"),
        ({"from": "<~/weights/b.pt>"}, "a path of this machine"),
        ({"by": "made by Wilhelmina"}, "the name of this user or machine"),
        ({"by": "fold 1\nfold 2"}, "what cannot be printed"),
    ],
)
def test_what_says_who_or_where_is_not_packed(
    computed: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    notes: dict[str, str],
    what: str,
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "wilhelmina")
    first = next(computed.records())
    store = Store(Path(shutil.copytree(computed.root, tmp_path / "results")))
    write(store.root, [first.model_copy(update={"notes": notes})])
    with pytest.raises(UserError, match=f"record {first.key} holds {what} in its notes"):
        submission.pack(store, list(store.records()), tmp_path, "mine")
    assert not (tmp_path / "mine").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_submit_packs_what_is_chosen_and_says_what_it_left_out(
    invoke: Invoke, computed: Store, tmp_path: Path
) -> None:
    results = Path(shutil.copytree(computed.root, tmp_path / "results"))
    to = ["--to", tmp_path / "community"]
    nameless = invoke("submit", results)
    assert "a submission needs a name" in nameless.err
    assert "is no name of a submission" in invoke("submit", results, "--name", "../up", *to).err
    made = invoke("submit", results, "--name", "mine", "--method", "nearest_mean", *to)
    assert (made.code, made.err.count("\n")) == (0, 0), made.err
    assert f"2 records in {tmp_path}/community/mine" in made.out
    again = invoke("submit", results, "--name", "mine", *to)
    assert "is there already; give the submission another --name" in again.err
    checked = invoke("submit", "--check", "--replays", 1, *to)
    assert checked.code == 0
    assert "mine: 2 records as they should be, 2 of them held against labels, 1 of 1" in checked.out
    place = to[1]
    assert invoke("submit", "--check", place, "--replays", 0).out.startswith("mine: 2 records")
    for words, sentence in (
        ([place, "--name", "mein"], "there is no submission 'mein' in .*; did you mean 'mine'"),
        ([place, "--name", "../x"], "is no name of a submission"),
        ([place, "--method", "coop"], "leave out the options that choose records"),
        ([results, *to], "are two; name one"),
        ([results], "there are no submissions in"),
    ):
        wrong = invoke("submit", "--check", *words)
        assert (wrong.code, bool(re.search(sentence, wrong.err))) == (2, True), wrong.err
    (results / "records" / "junk.json").write_text("{}")
    refused = invoke("submit", results, "--name", "other", *to)
    assert refused.code == 2
    assert "nothing was packed" in refused.err
    (results / "records" / "junk.json").unlink()
    write(results, [scored(next(computed.records()).identity.model_copy(update={"seed": 9}), 0.5)])
    bare = invoke("submit", results, "--name", "other", *to)
    assert "the predictions of record" in bare.err
    forge(tmp_path / "community" / "mine", lambda records, _: records[0].update(rank=1))
    broken = invoke("submit", "--check", "--name", "mine", *to)
    assert broken.code == 3
    assert "mine: " in broken.err


def test_submit_says_which_records_are_on_data_that_nobody_else_has(
    invoke: Invoke, tmp_path: Path
) -> None:
    store = Store(tmp_path / "results")
    elsewhere = {"evaluation": "cross-dataset", "learned_on": {"my_pets": "d"}}
    for named in (
        identity(),
        identity(dataset="my_pets"),
        identity(dataset="my_pets", seed=2),
        identity("prompt_adapter", sources={"my_cars": "d", "tiny_shapes": "d"}),
        identity("tip_adapter", learned_classes="all", **elsewhere),
    ):
        store.put(scored(named, 0.5), np.zeros(400))
    command = ("submit", store.root, "--to", tmp_path)
    said = invoke(*command, "--name", "all")
    assert said.code == 0
    assert "4 records with images of my_cars, my_pets, which nobody else has: " in said.err
    shipped = invoke(*command, "--name", "tiny", "--suite", "tiny", "--method", "coop")
    assert shipped.code == 0
    assert "nobody else" not in shipped.err


def test_a_grid_is_packed_whole_or_not_at_all(
    invoke: Invoke, computed: Store, tmp_path: Path
) -> None:
    grid = tmp_path / "grid.toml"
    grid.write_text(
        '[[grid]]\nmethods = "nearest_mean"\ndatasets = "tiny_digits"\nshots = 1\nseeds = "1-3"\n'
    )
    submit = ["submit", computed.root, "--name", "mine", "--config", grid, "--to", tmp_path / "all"]
    lacking = invoke(*submit)
    assert (lacking.code, (tmp_path / "all").exists()) == (2, False)
    which = "nearest_mean tiny_digits 1-shot seed 3 tiny"
    assert f"1 of 3 cells of {grid} has no record ({which}); nothing was packed" in lacking.err
    chosen = invoke(*submit, "--seed", "1,2")
    assert (chosen.code, "2 records in" in chosen.out) == (0, True), chosen.err
    assert invoke("submit", "--check", tmp_path / "all", "--replays", 0).code == 0


def test_the_board_shows_all_submissions_and_names_what_contradicts(
    invoke: Invoke, computed: Store, packed: Path, tmp_path: Path
) -> None:
    community = tmp_path / "community"
    for name in ("a", "b"):
        shutil.copytree(packed, community / name)
    page = tmp_path / "board"
    shown = invoke("board", community, "--html", page)
    assert shown.code == 0, shown.err
    assert f"{page}/index.html: 3 records of 2 submissions" in shown.out
    alone = invoke("board", packed.parent, "--html", tmp_path / "alone")
    assert "3 records of 1 submission\n" in alone.out
    table = (page / "submissions.md").read_text()
    assert "| a | 3 | nearest_mean, zero_shot | tiny_digits | tiny |" in table
    assert "Zero-shot CLIP" in "".join(path.read_text() for path in page.glob("*.js"))
    forge(community / "b", flattered)
    assert (
        "has other counts than that of an earlier" in invoke("board", community, "--html", page).err
    )
    forge(community / "b", lambda records, _: records[0]["counts"]["correct"].__setitem__(0, 1))
    unlike = invoke("board", community, "--html", page)
    assert (unlike.code, "b is left out: the counts of record" in unlike.err) == (0, True)
    forge(community / "b", lambda records, _: records[0].update(rank=1))
    partly = invoke("board", community, "--html", page)
    assert (partly.code, "b is left out: " in partly.err) == (0, True)
    assert "there are no submissions in" in invoke("board", tmp_path / "nowhere").err


def test_a_submission_called_as_a_folder_of_the_board_is_none_of_it(
    packed: Path, tmp_path: Path
) -> None:
    community = tmp_path / "community"
    for name in ("all", "board", "honest", "submissions", ".unfinished"):
        shutil.copytree(packed, community / name)
        if name != "honest":
            newer = {"adapter_version": 2}
            forge(community / name, lambda *lines, newer=newer: reidentified(*lines, **newer))
    written = write_board(community, tmp_path / "shown")
    assert (written.names, written.records) == (("honest",), 3)


@pytest.mark.parametrize("name", ["My-Lab", "a\x1b[2J", "a" * 41])
def test_a_folder_that_no_submission_can_be_called_is_left_out_and_named(
    invoke: Invoke, packed: Path, tmp_path: Path, name: str
) -> None:
    community = tmp_path / "community"
    for each in ("honest", name):
        shutil.copytree(packed, community / each)
    shown = invoke("board", community, "--html", tmp_path / "shown")
    assert (shown.code, "3 records of 1 submission\n" in shown.out) == (0, True), shown.err
    assert shown.err.count("is left out: ") == shown.err.count("is no name of a submission") == 1
    checked = invoke("submit", "--check", community, "--replays", 0)
    assert (checked.code, "honest: 3 records" in checked.out) == (3, True)
    assert "is no name of a submission" in checked.err
    assert "\x1b" not in shown.err + checked.err


def test_nobody_takes_the_records_of_others_from_the_board(packed: Path, tmp_path: Path) -> None:
    community = tmp_path / "community"
    for name, changes in (
        ("honest", {}),
        ("newer", {"adapter_version": 2}),
        ("theirs", {"method": "<b>theirs</b>"}),
        ("theirs-newer", {"method": "<b>theirs</b>", "adapter_version": 9}),
    ):
        shutil.copytree(packed, community / name)
        if changes:
            forge(community / name, lambda *lines, changes=changes: reidentified(*lines, **changes))
    written = write_board(community, tmp_path / "board")
    assert written.names == ("honest", "theirs", "theirs-newer")
    (note,) = written.notes
    assert "newer is left out: record" in note
    lists = "".join(path.read_text() for path in (tmp_path / "board").rglob("*.js"))
    for record in submission.unpack(community / "honest", Store(tmp_path / "a")):
        assert record.key in lists
    for record in submission.unpack(community / "theirs", Store(tmp_path / "b")):
        assert record.key in lists
    table = (tmp_path / "board" / "submissions.md").read_text()
    assert "&lt;b&gt;theirs&lt;/b&gt;" in table
    assert "<b>" not in table
