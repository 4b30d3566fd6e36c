"""What a site says: tasks with their boards, and methods across tasks."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from unlearn_bench.analysis.table import Row, Section
from unlearn_bench.analysis.verdict import NONE as NO_VERDICT
from unlearn_bench.analysis.verdict import Verdict, distinguished
from unlearn_bench.report.cells import verdict_of
from unlearn_bench.report.findings import caveat
from unlearn_bench.report.provenance import mapping
from unlearn_bench.report.site.folders import Folder
from unlearn_bench.report.text import section_title

TUNED, UNTUNED = "tuned", "not tuned"
# Of a page's file, before a number that tells two apart.
_MOST_SLUG = 80


@dataclass(frozen=True, eq=False)
class Entry:
    """One method in one task, as one folder has it.

    Attributes:
        name: Under which the method is registered; the row's label may say more.
        budget: ``tuned`` or ``not tuned``; empty for retraining and controls.
        origin: How its setting came about, where the suite says so.
        rank: By distance, among the methods of the same folder, task and budget; None where the
            report does not rank it.
        best: Whether the verdict sets it apart from the others: such are bold, as in the report.
    """

    folder: Folder
    section: Section
    row: Row
    name: str
    budget: str
    origin: str
    rank: int | None
    best: bool

    @cached_property
    def verdict(self) -> Verdict | None:
        """The verdict on it, if there is one."""
        found = verdict_of(self.section, self.row)
        return found if found is not None and found.verdict != NO_VERDICT else None


@dataclass(frozen=True, eq=False)
class Board:
    """What may be sorted together: methods of one folder and one budget, or its controls."""

    folder: Folder
    section: Section
    budget: str
    entries: tuple[Entry, ...]

    @property
    def title(self) -> str:
        """Name the folder and what its rows have in common."""
        if not self.budget:
            return f"{self.folder.name}: retraining and controls"
        ranked = sum(entry.rank is not None for entry in self.entries)
        count = f"{len(self.entries)} method{'s' * (len(self.entries) != 1)}"
        other = "" if ranked else ", not ranked beside those of another budget"
        return f"{self.folder.name}: {count}, {self.budget}{other}"


@dataclass(frozen=True, eq=False)
class Task:
    """A dataset, model and scenario, with the boards of every folder that has it.

    Attributes:
        slug: Its page's name.
        sections: Its numbers, and the folder of each.
    """

    title: str
    slug: str
    sections: tuple[tuple[Folder, Section], ...]
    boards: tuple[Board, ...]

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The methods of all its boards."""
        return tuple(e for board in self.boards if board.budget for e in board.entries)


@dataclass(frozen=True, eq=False)
class Method:
    """A method across tasks.

    Attributes:
        slug: Its page's name.
        facts: What suites know of it: access, family, year, source; perhaps nothing.
        entries: Each with its task.
    """

    name: str
    slug: str
    facts: Mapping[str, str]
    entries: tuple[tuple[Task, Entry], ...]


@dataclass(frozen=True, eq=False)
class Site:
    """All that a site says."""

    folders: tuple[Folder, ...]
    tasks: tuple[Task, ...]
    methods: tuple[Method, ...]

    @classmethod
    def of(cls, folders: tuple[Folder, ...]) -> "Site":
        """Gather the tasks and methods of results folders, in their order."""
        found: dict[tuple[str, str, str], list[tuple[Folder, Section]]] = {}
        for folder in folders:
            for section in folder.report.sections:
                place = (section.dataset, section.model, section.scenario)
                found.setdefault(place, []).append((folder, section))
        titles = [section_title(sections[0][1]) for sections in found.values()]
        tasks = tuple(
            Task(title, slug, tuple(sections), tuple(_boards(sections)))
            for title, slug, sections in zip(
                titles, _slugs(titles, "task"), found.values(), strict=True
            )
        )
        return cls(folders, tasks, _methods(folders, tasks))


def no_evidence(section: Section) -> bool:
    """Whether not being told apart means nothing there: no power, or a fake passes as well."""
    return bool(caveat(section))


def _boards(sections: Iterable[tuple[Folder, Section]]) -> Iterable[Board]:
    for folder, section in sections:
        entries = _entries(folder, section)
        for budget in (TUNED, UNTUNED, ""):
            same = tuple(entry for entry in entries if entry.budget == budget)
            if same:
                yield Board(folder, section, budget, same)


def _entries(folder: Folder, section: Section) -> list[Entry]:
    ranks = {row.method: place for place, row in enumerate(section.ranking, 1)}
    # Of unequal budgets nobody is set in bold beside the others.
    best = distinguished(section) - {row.method for row in section.unranked}
    found = []
    for row in section.table.rows:
        known = folder.report.methods.get(row.method, {})
        origin, tuned = section.origins.get(row.method, ("", False))
        found.append(
            Entry(
                folder,
                section,
                row,
                name=str(known.get("name") or row.method),
                budget="" if row.kind != "method" else TUNED if tuned else UNTUNED,
                origin=origin,
                rank=ranks.get(row.method),
                best=row.method in best,
            )
        )
    return found


def _methods(folders: Sequence[Folder], tasks: Sequence[Task]) -> tuple[Method, ...]:
    found: dict[str, list[tuple[Task, Entry]]] = {}
    for task in tasks:
        for entry in task.entries:
            found.setdefault(entry.name, []).append((task, entry))
    names = sorted(found, key=str.casefold)
    return tuple(
        Method(name, slug, _facts(folders, name), tuple(found[name]))
        for name, slug in zip(names, _slugs(names, "method"), strict=True)
    )


def _facts(folders: Sequence[Folder], name: str) -> dict[str, str]:
    """Return what suites say of a method; an early folder says nothing."""
    facts: dict[str, str] = {}
    for folder in folders:
        for label, known in folder.report.methods.items():
            if str(known.get("name") or label) == name:
                for key in ("access", "family", "year", "source"):
                    if mapping(known).get(key):
                        facts.setdefault(key, str(known[key]))
    return facts


def _slugs(names: Sequence[str], otherwise: str) -> tuple[str, ...]:
    """Return a file's name for each name, all different, also where case makes no difference."""
    taken: set[str] = set()
    slugs = []
    for name in names:
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_MOST_SLUG] or otherwise
        number, found = 2, slug
        while found in taken:
            number, found = number + 1, f"{slug}-{number}"
        taken.add(found)
        slugs.append(found)
    return tuple(slugs)
