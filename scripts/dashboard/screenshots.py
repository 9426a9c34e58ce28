"""Draw docs/dashboard/*.png: the pages of committed records in Debian's Chromium, in light and dark.

    python scripts/dashboard/screenshots.py                    # in about a minute
    python scripts/dashboard/screenshots.py --history URL      # of a history of yours
    python scripts/dashboard/screenshots.py --out DIR

The report is of one committed session with a live base on a 2-core machine. The history is that of docs/histories.md:
32 real sessions, with a slowdown planted in the 21st.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from enginegate.cli import main
from playwright.sync_api import Page, sync_playwright

REPOSITORY = Path(__file__).resolve().parents[2]
RUN = REPOSITORY / "docs" / "results" / "live" / "records" / "20261126-215631-2b2d"
NIGHTS = REPOSITORY / "docs" / "results" / "history" / "nights.jsonl"
OUT = REPOSITORY / "docs" / "dashboard"
#: Each picture: its name, the colours, the page, and the part at its top; "" for the top of the page.
PICTURES = (
    ("report", "light", "report.html", ""),
    ("report", "dark", "report.html", ""),
    ("tradeoff", "light", "report.html", "tradeoff"),
    ("live", "dark", "report.html", "live"),
    ("history", "light", "site/index.html", "detail"),
    ("history", "dark", "site/index.html", "detail"),
)


def write_pages(folder: Path, history: str) -> None:
    """The pages that are drawn. Raises SystemExit where a command fails."""
    url = history or f"sqlite:///{folder / 'nights.sqlite'}"
    commands = [
        *([] if history else [["history", "import", str(NIGHTS), "--history", url]]),
        ["report", str(RUN), "--out", str(folder / "out"), "--html", str(folder / "report.html")],
        ["history", "--history", url, "--html", str(folder / "site")],
    ]
    for command in commands:
        if main(command) != 0:
            raise SystemExit(f"enginegate {' '.join(command)} failed")


def draw(page: Page, part: str, path: Path) -> None:
    """Scroll to a part, wait for its charts, take what a window shows."""
    if part:
        page.evaluate("part => document.getElementById(part).scrollIntoView({behavior: 'instant'})", part)
        page.locator(f"#{part} .chart svg").first.wait_for()
        page.evaluate("part => document.getElementById(part).scrollIntoView({behavior: 'instant'})", part)
    page.wait_for_timeout(300)
    page.screenshot(path=path)


def run() -> None:
    """Write the pages and take the pictures."""
    parser = argparse.ArgumentParser(description="Draw the pages of committed records, in light and dark.")
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR")
    parser.add_argument("--history", default="", metavar="URL")
    asked = parser.parse_args()
    out: Path = asked.out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        write_pages(Path(folder), asked.history)
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, colours, file, part in PICTURES:
            page = browser.new_page(viewport={"width": 1280, "height": 860}, color_scheme=colours)
            page.goto((Path(folder) / file).as_uri())
            page.wait_for_selector("html[data-ready=yes]")
            draw(page, part, out / f"{name}-{colours}.png")
            page.close()
        browser.close()


if __name__ == "__main__":
    run()
