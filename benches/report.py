"""How long reports take over 10,000 records, and how soon pages of 5,000 and 50,000 are there:
`python -m benches.report`. Each command, and each browser, is a fresh process; best of three.

Wall and processor seconds are both told: on a machine that others use, only the second means
something.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from testbed import chromium
from testbed.study import study
from testbed.synthetic import CLASSIC, grid, write

METHODS = [f"method_{index}" for index in range(15)]
BACKBONES = ("RN50/openai", "RN101/openai", "ViT-B-32/openai", "ViT-B-16/openai")
CLASSES = 199  # the eleven have 2,191 classes
STUDIES = {(16, 2): 1.0, (78, 4): 3.0}  # rows and backbones -> seconds until the page can be used
CLICK = """(async () => {
    const began = performance.now();
    document.querySelector('#matrix [data-column=dtd]').click();
    document.body.offsetHeight;
    await new Promise((then) => requestAnimationFrame(() => setTimeout(then)));
    return performance.now() - began;
})()"""


def seconds(*arguments: str) -> tuple[float, float]:
    """Wall and processor seconds of one command."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "benchmark", *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (
        time.perf_counter() - start,
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    )


def scan(folder: Path) -> float:
    from benchmark.records.store import Store

    start = time.perf_counter()
    list(Store(folder).records())
    return time.perf_counter() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        store, page, figures = (Path(name) / each for each in ("store", "page", "figures"))
        count = len(write(store, grid(METHODS, CLASSIC, backbones=BACKBONES, classes=CLASSES)))
        scan_s = min(scan(store) for _ in range(3))
        print(f"{count} records of {CLASSES} classes: scanned in {scan_s:.2f} s (at most 2)")
        commands = {
            "--help (at most 0.4)": ["--help"],
            "list methods (at most 0.4)": ["list", "methods"],
            "report, method x shots (at most 3)": [
                "report",
                *("--table", "method-shots", "--results", str(store)),
            ],
            "report, dataset x shots (at most 3)": ["report", "--results", str(store)],
            "report --figures, 4,950 records of two backbones (at most 5)": [
                *("report", "--figures", str(figures), "--results", str(store)),
                *("--backbone", ",".join(BACKBONES[:2])),
            ],
            "report --html (at most 20)": ["report", "--html", str(page), "--results", str(store)],
            "export": ["export", "--results", str(store)],
        }
        for what, arguments in commands.items():
            wall_s, processor_s = min(seconds(*arguments) for _ in range(3))
            print(f"{what}: {wall_s:.2f} s, of which {processor_s:.2f} s on a processor")
        weight = sum(
            path.stat().st_size
            for path in page.rglob("*")
            if path.is_file() and path.suffix != ".png"
        )
        print(
            f"page without images: {weight / 1e6:.1f} MB (at most 5), "
            f"of which at once {at_once(page) / 1e6:.2f} MB"
        )
        pages(Path(name))


def pages(folder: Path) -> None:
    """Build the page of every study and open it."""
    for (rows, backbones), most in STUDIES.items():
        store, page = folder / f"store-{rows}", folder / f"page-{rows}"
        count = len(write(store, study(rows, backbones)))
        wall_s, processor_s = seconds("report", "--html", str(page), "--results", str(store))
        print(
            f"page of {count} records: written in {wall_s:.1f} s, of which {processor_s:.1f} s "
            f"on a processor; at once {at_once(page) / 1e6:.2f} MB"
        )
        if chromium.browser_path():
            paint, ready, click = map(min, zip(*(opened(page) for _ in range(3)), strict=True))
            print(
                f"  first paint {paint:.2f} s, drawn and usable {ready:.2f} s (at most {most}), "
                f"sorted after a click in {click:.2f} s"
            )


def opened(page: Path) -> tuple[float, float, float]:
    """Seconds in a fresh browser: first paint, everything drawn, and a click on a heading."""
    with (
        tempfile.TemporaryDirectory() as profile,
        chromium.tab(page / "index.html", Path(profile)) as tab,
    ):
        tab.screen(1440, 900)
        paint = tab.ask("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        ready = tab.ask("performance.getEntriesByType('navigation')[0].loadEventEnd")
        return paint / 1000, ready / 1000, tab.ask(CLICK) / 1000


def at_once(page: Path) -> int:
    return sum((page / name).stat().st_size for name in ("index.html", "data.js"))


if __name__ == "__main__":
    main()
