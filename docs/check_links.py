"""Check every internal link of the built documentation: the file and the place in it exist.

    python docs/check_links.py docs/_build

Prints what is dead and exits with 1 if anything is. Links to other sites are not followed.
"""

import sys
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links of one page, and the places in it that links may name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what one element links to and is called."""
        for name, value in attrs:
            if name in ("href", "src") and value and tag != "link":
                self.links.append(value)
            if (name == "id" or (tag == "a" and name == "name")) and value:
                self.places.add(value)


def dead_links(site: Path) -> dict[str, list[str]]:
    """Return, by page, the internal links that lead nowhere."""
    site = site.resolve()
    pages = {path: Page(path.read_text(errors="replace")) for path in site.rglob("*.html")}
    dead = defaultdict(list)
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            known = pages.get(target)
            place = unquote(parts.fragment)
            if not target.exists() or (known and place not in known.places):
                dead[path.relative_to(site).as_posix()].append(link)
    return dict(dead)


def main() -> None:
    """Check the site named on the command line."""
    dead = dead_links(Path(sys.argv[1]))
    for page, links in sorted(dead.items()):
        for link in links:
            print(f"{page}: {link} leads nowhere")
    sys.exit(1 if dead else 0)


if __name__ == "__main__":
    main()
