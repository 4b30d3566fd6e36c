"""The code blocks of the documentation, and what running them takes.

A block is run unless a comment before it says otherwise::

    <!-- test: run -->            train for real, at the smallest size; else runs are planned only
    <!-- test: syntax -->         needs a network, a cluster or a GPU: flags and syntax are checked
    <!-- test: needs NAME, ... -->  files or objects that the reader has
    <!-- test: if MODULE -->      describes a part that this version may lack

Several are joined by a semicolon. Blocks of one page run in order, in one folder.
"""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w+)$")
_MARKS = re.compile(r"^ *<!-- test: (?P<marks>.*) -->$")


@dataclass(frozen=True)
class Snippet:
    """One code block.

    Attributes:
        page: Its file.
        line: Where it begins, from 1.
        language: ``bash``, ``python``, ``yaml``, ...
        text: Its code, without indentation.
        marks: What the comment before it says.
    """

    page: Path
    line: int
    language: str
    text: str
    marks: tuple[str, ...] = field(default=())

    @property
    def needs(self) -> list[str]:
        """What the reader has before this block."""
        named = [mark.removeprefix("needs ") for mark in self.marks if mark.startswith("needs ")]
        return [name.strip() for names in named for name in names.split(",")]

    @property
    def is_there(self) -> bool:
        """Whether this version has what the block describes."""
        parts = [mark.removeprefix("if ") for mark in self.marks if mark.startswith("if ")]
        return all(importlib.util.find_spec(part) for part in parts)

    def commands(self) -> list[list[str]]:
        """Return the commands of a shell block as words, comments apart."""
        text = self.text.replace("\\\n", " ")
        found = []
        for line in text.splitlines():
            words: list[str] = []
            lexer = shlex.shlex(line, posix=True, punctuation_chars="&;|")
            lexer.whitespace_split = True
            for word in lexer:
                if set(word) <= set("&;|"):
                    found.append(words)
                    words = []
                else:
                    words.append(word)
            found.append(words)
        return [words for words in found if words]


def pages() -> list[Path]:
    """Return every page that readers see, the generated ones apart."""
    written = (p for p in DOCS.rglob("*.md") if p.relative_to(DOCS).parts[0] not in GENERATED)
    return [ROOT / "README.md", *sorted(written)]


GENERATED = ("reference", "_build", "_extra")


def snippets(page: Path) -> list[Snippet]:
    """Return the code blocks of a page in order."""
    return list(_blocks(page))


def _blocks(page: Path) -> Iterator[Snippet]:
    lines = page.read_text().splitlines()
    marks: tuple[str, ...] = ()
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if found := _MARKS.match(line):
            marks = tuple(mark.strip() for mark in found["marks"].split(";"))
        elif found := _FENCE.match(line):
            first, indent = number, len(found["indent"])
            while lines[number].strip() != "```":
                number += 1
            text = "\n".join(line[indent:] for line in lines[first:number]) + "\n"
            yield Snippet(page, first, found["language"], text, marks)
            marks = ()
            number += 1
        elif line.strip():
            marks = ()
