"""`python -m benchmark` and the console script `fsbench` are the same."""

import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command line; an interrupt while its modules are still being imported ends it too."""
    try:
        from benchmark import cli
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        exec("")  # as in cli.main: Python would otherwise end the process by a signal
        sys.exit(INTERRUPTED)
    cli.main()


if __name__ == "__main__":
    main()
