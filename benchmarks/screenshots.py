"""Take the README's two pictures of a report: its first screen, and its figures on a dark page.

    python benchmarks/screenshots.py reports/digits

writes ``report.png`` and ``figures.png`` into that folder. Needs Chromium and the ``test`` extra.
"""

import argparse
import shutil
import sys
from pathlib import Path

WIDTH = 1280


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a results folder with report.html")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "/usr/bin/chromium")
    given = parser.parse_args()
    page = (given.folder / "report.html").resolve()
    for needed in (page, Path(given.chromium)):
        if not needed.is_file():
            sys.exit(f"error: no file {needed}; write the report first, and install Chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=given.chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        for name, theme, height, at in (
            ("report", "light", 1240, "header"),
            ("figures", "dark", 1120, ".figures"),
        ):
            tab = browser.new_page(viewport={"width": WIDTH, "height": height}, color_scheme=theme)
            tab.goto(page.as_uri())
            # A little above, so that the section's heading is in the picture.
            tab.evaluate(
                "at => scrollTo(0, Math.max(0, document.querySelector(at)"
                ".getBoundingClientRect().top + scrollY - 70))",
                at,
            )
            out = given.folder / f"{name}.png"
            tab.screenshot(path=out)
            print(out)
        browser.close()


if __name__ == "__main__":
    main()
