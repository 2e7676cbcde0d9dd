"""``harness report`` on many records: how long the site takes, how large and how quick its first page is.

    python benchmarks/report_scale.py                        # 100,000 records: a minute, 0.5 GB in the temporary folder
    python benchmarks/report_scale.py --records 100000,1000000

Records are those of ``results_scale.py``: a hundred runs, or a thousand for a million records, over four hosts, twenty
models and four runtimes. Runs have indexes, as runs that end leave them. The report is the command, in a process of its
own, timed from its start to its end; memory is the sum over all its processes, read from ``/proc`` ten times a second.
The first page is opened from disk in headless Chromium: ``interactive_s`` is the time until its script has run and a
filter answered, the median of five. ``--out FILE`` keeps the JSON. Writing a million records takes longer than their
report: ``--keep DIR`` leaves them there, and finds them there the next time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

LIMITS = {
    100_000: {"build_s": 30.0, "first_page_mb": 1.0, "interactive_s": 2.0},
    1_000_000: {"build_s": 120.0, "first_page_mb": 1.0, "interactive_s": 2.0, "rss_mb": 2000.0},
}
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip
TIMES = 5


def memory_mb(session: int) -> float:
    """Resident memory of all processes of a session, pages that they share counted for each."""
    total = 0
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            total += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return total / 1e6


def built(folder: Path, out: Path) -> tuple[float, float]:
    """Seconds and peak memory of the command."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "report", "--results", str(folder), "--out", str(out)],
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, memory_mb(process.pid))
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit("harness report failed")
    return time.perf_counter() - began, peak


def interactive(page: Path) -> float | None:
    """Seconds until a filter has answered; None where there is no browser."""
    program = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        return None
    if program is None:
        return None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        seconds = []
        for _ in range(TIMES):
            tab = browser.new_page()
            began = time.perf_counter()
            tab.goto(page.as_uri())
            tab.evaluate("""() => {
                const text = document.querySelector('form.filters').elements.text;
                text.value = 'model01';
                text.dispatchEvent(new Event('input', {bubbles: true}));
            }""")
            assert tab.locator("form.filters output").first.text_content().split()[0] != "0"
            seconds.append(time.perf_counter() - began)
            tab.close()
        browser.close()
    return statistics.median(seconds)


def measured(records: int, place: Path) -> dict[str, Any]:
    from results_scale import write_runs

    from harness.results.index import write_index

    folder, out, whole = place / f"runs-{records}", place / f"site-{records}", place / f"runs-{records}.whole"
    if not whole.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_runs(folder, max(10, records // 1000), records)
        for path in folder.glob("*.jsonl"):
            write_index(path)
        whole.touch()
    shutil.rmtree(out, ignore_errors=True)
    before = os.getloadavg()[0]
    seconds, peak = built(folder, out)
    first = out / "index.html"
    pages = list(out.glob("*.html"))
    answered = interactive(first)
    return {
        "build_s": round(seconds, 1),
        "first_page_mb": round(first.stat().st_size / 1e6, 3),
        "interactive_s": None if answered is None else round(answered, 3),
        "rss_mb": round(peak),
        "pages": len(pages),
        "site_mb": round(sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6, 1),
        "load": [round(one, 1) for one in (before, os.getloadavg()[0])],
    }


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--records", default="100000", help="how many, or several numbers with commas")
    options.add_argument("--quick", action="store_true", help="10,000 records")
    options.add_argument("--keep", type=Path, default=None, metavar="DIR", help="runs stay there, and are found there")
    options.add_argument("--out", type=Path, default=None)
    given = options.parse_args()
    found: dict[str, Any] = {}
    for records in [10_000] if given.quick else [int(text) for text in given.records.split(",")]:
        place = given.keep or Path(tempfile.mkdtemp(prefix="report-scale-"))
        try:
            found[str(records)] = measured(records, place)
        finally:
            if not given.keep:
                shutil.rmtree(place, ignore_errors=True)
        for name, limit in LIMITS.get(records, {}).items():
            value = found[str(records)][name]
            word = "not measured" if value is None else "within" if value <= limit else "beyond"
            print(f"{records} records, {name}: {value}, {word} {limit:g}")
    if given.out:
        given.out.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
