"""`python -m benchmark` and the console script `fsbench` are the same."""

from benchmark.cli import main

if __name__ == "__main__":
    main()
