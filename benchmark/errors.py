"""The one exception made for people."""

MOST_CHARACTERS = 4000  # of a message


class UserError(Exception):
    """What is wrong, why, and what to do instead, in one sentence that is shown without a
    traceback.

    `exit_code` is what the command line ends with: 2 for usage, 4 where data or weights are
    missing. `stops` says that going on with other cells makes no sense either: a disk that is full
    stays full.
    """

    def __init__(self, message: str, *, exit_code: int = 2, stops: bool = False) -> None:
        super().__init__(_one_line(message))
        self.exit_code = exit_code
        self.stops = stops


def _one_line(message: str) -> str:
    """What a stranger's file brings into a message may be long, of several lines, or steer a
    terminal.
    """
    plain = "".join(
        character if character.isprintable() else "?" for character in " ".join(message.split())
    )
    return (
        plain
        if len(plain) <= MOST_CHARACTERS
        else f"{plain[: MOST_CHARACTERS // 2]} ... {plain[-MOST_CHARACTERS // 2 :]}"
    )


MISSING = 4  # exit code where data, weights or a licence are missing


def nearest(name: str, known: "list[str] | tuple[str, ...]") -> str:
    """', did you mean X?' for the known name most like `name`, or the list of what there is."""
    import difflib

    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known are {', '.join(known) or 'none'}"
