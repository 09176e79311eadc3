"""Who is whose descendant and who still lives, read from /proc."""

from __future__ import annotations

from pathlib import Path

Process = tuple[int, str]  # id and start time, since an id may be given away again


def descendants(pid: int) -> dict[Process, str]:
    """All processes that `pid` has brought about and that are alive, with their command lines."""
    children: dict[int, list[Process]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        if parent_and_start := _parent_and_start(int(path.name)):
            children.setdefault(parent_and_start[0], []).append(
                (int(path.name), parent_and_start[1])
            )
    family, todo = {}, list(children.get(pid, []))
    while todo:
        process = todo.pop()
        family[process] = _words(process[0])
        todo += children.get(process[0], [])
    return family


def computing(family: dict[Process, str]) -> set[Process]:
    """Without Ray's own agents, which compute nothing and take more than a minute to see that their
    node is gone.
    """
    return {process for process, words in family.items() if not words.endswith("Agent")}


def alive(process: Process) -> bool:
    parent_and_start = _parent_and_start(process[0])
    return parent_and_start is not None and parent_and_start[1] == process[1]


def _parent_and_start(pid: int) -> tuple[int, str] | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else (int(fields[1]), fields[19])


def _words(pid: int) -> str:
    try:
        return (
            Path(f"/proc/{pid}/cmdline")
            .read_bytes()
            .replace(b"\0", b" ")
            .decode(errors="replace")
            .strip()
        )
    except OSError:
        return ""
