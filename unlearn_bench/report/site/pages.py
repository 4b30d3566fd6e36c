"""The pages of a site, each self-contained: the first page, one per task, one per method."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from unlearn_bench import __version__
from unlearn_bench.analysis.table import DAMAGE_POINTS, Section
from unlearn_bench.analysis.verdict import INDISTINGUISHABLE
from unlearn_bench.report.cells import Cell, cell, verdict_cell
from unlearn_bench.report.findings import caveat, distance_definition, headline
from unlearn_bench.report.pages import environment, scripted
from unlearn_bench.report.site.tasks import (
    TUNED,
    UNTUNED,
    Entry,
    Method,
    Site,
    Task,
    no_evidence,
)
from unlearn_bench.report.text import NONE, gap_reading, intervals, seeds_text, time_range
from unlearn_bench.results.facts import BUILT_IN_FACTS
from unlearn_bench.results.metrics import DISTANCE, MIA_AUC, TIME_RATIO

_UNKNOWN = "unknown"
# Of a board: what a reader compares first. All else stands in the folder's report.
_COLUMNS = (
    DISTANCE,
    TIME_RATIO,
    "forget_accuracy",
    "retain_accuracy",
    "test_retain_accuracy",
    MIA_AUC,
)
_KINDS = {"reference": "retraining", "control": "control"}


@dataclass(frozen=True)
class _Line:
    """A row: what stands first, with its link and remarks, the cells, and what filters ask for."""

    name: str
    link: str
    detail: str
    cells: tuple[Cell, ...]
    tags: tuple[tuple[str, str], ...] = ()
    classes: str = ""
    facets: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class _Group:
    """Rows that are sorted among themselves; without a title where there is one group."""

    title: str
    lines: tuple[_Line, ...]


@dataclass(frozen=True)
class _Facet:
    """A filter: its name, and the values among the rows."""

    key: str
    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class _Table:
    """A table that can be sorted and filtered.

    Attributes:
        headings: Name and class of each column.
        whole: Whether it is shown in full, and does not scroll within the page.
    """

    id: str
    title: str
    headings: tuple[tuple[str, str], ...]
    groups: tuple[_Group, ...]
    facets: tuple[_Facet, ...] = ()
    whole: bool = False

    @property
    def rows(self) -> int:
        """How many there are."""
        return sum(len(group.lines) for group in self.groups)


def render(site: Site) -> dict[str, str]:
    """Return the text of every page by its place in the site."""
    templates = environment()
    shared = {"version": __version__, **scripted(templates, "theme.js", "tables.js")}

    def page(template: str, root: str, **said: Any) -> str:
        return templates.get_template(template).render(root=root, **shared, **said)

    pages = {
        "index.html": page(
            "site-index.html",
            "",
            title=_title(site),
            site=site,
            tasks=_tasks_table(site),
            methods=_methods_table(site),
        )
    }
    for task in site.tasks:
        pages[f"tasks/{task.slug}.html"] = page(
            "site-task.html",
            "../",
            title=task.title,
            board=_board_table(site, task),
            findings=[(folder, headline(section)) for folder, section in task.sections],
            reading=_reading(section for _, section in task.sections),
            caveats=_caveats(task),
            folders=[folder for folder, _ in task.sections],
        )
    for method in site.methods:
        pages[f"methods/{method.slug}.html"] = page(
            "site-method.html",
            "../",
            title=method.name,
            detail=" · ".join(filter(None, (_detail(method), method.facts.get("year")))),
            source=method.facts.get("source", ""),
            address=_arxiv(method.facts.get("source", "")),
            table=_method_table(method),
            reading=_reading(entry.section for _, entry in method.entries),
            caveats=[
                (task.title, entry.folder.name)
                for task, entry in method.entries
                if no_evidence(entry.section)
            ],
        )
    return pages


def _short(section: Section) -> str:
    """Name a task where its model stands beneath."""
    return f"{section.dataset} · {section.scenario}"


def _title(site: Site) -> str:
    tasks, methods = len(site.tasks), len(site.methods)
    return (
        f"{methods} unlearning method{'s' * (methods != 1)} on {tasks} task{'s' * (tasks != 1)}, "
        "compared with retraining"
    )


def _tasks_table(site: Site) -> _Table:
    lines = []
    for task in site.tasks:
        for folder, section in task.sections:
            boards = [b for b in task.boards if b.section is section and b.budget]
            methods = sum(len(board.entries) for board in boards)
            lines.append(
                _Line(
                    _short(section),
                    f"tasks/{task.slug}.html",
                    section.model,
                    (
                        Cell(headline(section), classes="words wide"),
                        Cell(folder.name, classes="words"),
                        Cell(", ".join(b.budget for b in boards) or NONE, classes="words"),
                        Cell(str(methods), key=methods),
                        Cell(str(len(section.seeds)), key=len(section.seeds)),
                    ),
                )
            )
    headings = (
        ("Task", ""),
        ("Finding", "words"),
        ("Results", "words"),
        ("Settings", "words"),
        ("Methods", ""),
        ("Seeds", ""),
    )
    groups = (_Group("", tuple(map(_keyed, lines))),)
    return _Table("tasks", "Tasks", headings, groups, whole=True)


def _keyed(line: _Line) -> _Line:
    """Return a row whose texts sort by what they say."""
    cells = tuple(
        c if c.key is not None or c.value == NONE else Cell(c.value, classes=c.classes, key=c.value)
        for c in line.cells
    )
    return _Line(line.name, line.link, line.detail, cells, line.tags, line.classes, line.facets)


def _methods_table(site: Site) -> _Table:
    groups = []
    for budget in (TUNED, UNTUNED):
        lines = [
            line for method in site.methods if (line := _summary_line(method, budget)) is not None
        ]
        if lines:
            groups.append(_Group(f"{budget[0].upper()}{budget[1:]}", tuple(lines)))
    headings = (
        ("Method", ""),
        ("Results", ""),
        ("Indistinguishable", ""),
        ("Not told apart", ""),
        ("Told apart", ""),
        ("No evidence", ""),
        ("Time, % of retraining", ""),
    )
    facets = _facets(groups, (("access", "Access"), ("family", "Family"), ("budget", "Settings")))
    return _Table("methods", "Methods", headings, tuple(groups), facets)


def _summary_line(method: Method, budget: str) -> _Line | None:
    entries = [entry for _, entry in method.entries if entry.budget == budget]
    if not entries:
        return None
    counts = dict.fromkeys(("passed", "open", "apart", "nothing"), 0)
    for entry in entries:
        counts[_standing(entry)] += 1
    ratios = [
        value.mean
        for entry in entries
        if (value := entry.section.table.value(entry.row.method, TIME_RATIO)) is not None
    ]
    time = median(ratios) if ratios else None
    shown = "" if time is None else time_range([time])
    return _Line(
        method.name,
        f"methods/{method.slug}.html",
        _detail(method),
        (
            Cell(str(len(entries)), key=len(entries)),
            *(
                Cell(str(n) if n else NONE, classes="" if n else "none", key=n)
                for n in counts.values()
            ),
            Cell(shown or NONE, key=time, classes="" if shown else "none"),
        ),
        facets=_facets_of(method, budget),
    )


def _standing(entry: Entry) -> str:
    """Say where a result counts: what is not told apart is evidence only where a fake would be."""
    verdict = entry.verdict
    if verdict is None:
        return "nothing"
    if verdict.told_apart:
        return "apart"
    if no_evidence(entry.section):
        return "nothing"
    return "passed" if verdict.verdict == INDISTINGUISHABLE else "open"


def _detail(method: Method) -> str:
    access = method.facts.get("access")
    reads = f"reads {access}" if access else ""
    return " · ".join(filter(None, (method.facts.get("family"), reads)))


def _arxiv(source: str) -> str:
    """Return the address of a source that is an arXiv number; empty for any other."""
    found = re.fullmatch(r"arXiv:(\d{4}\.\d{4,5})", source)
    return f"https://arxiv.org/abs/{found[1]}" if found else ""


def _facets_of(method: Method, budget: str) -> tuple[tuple[str, str], ...]:
    return (
        ("access", method.facts.get("access", _UNKNOWN)),
        ("family", method.facts.get("family", _UNKNOWN)),
        ("budget", budget),
    )


def _facets(groups: Iterable[_Group], named: Sequence[tuple[str, str]]) -> tuple[_Facet, ...]:
    found: dict[str, dict[str, None]] = {key: {} for key, _ in named}
    for line in (line for group in groups for line in group.lines):
        for key, value in line.facets:
            if key in found:
                found[key].setdefault(value)
    return tuple(
        _Facet(key, name, tuple(sorted(found[key]))) for key, name in named if len(found[key]) > 1
    )


def _columns(sections: Iterable[Section]) -> tuple[str, ...]:
    measured = {column for section in sections for column in section.table.columns}
    return tuple(column for column in _COLUMNS if column in measured)


def _headings(columns: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return (
        ("Rank", ""),
        ("Verdict", "words"),
        *((BUILT_IN_FACTS.heading(column), "") for column in columns),
        ("Seeds", ""),
    )


def _board_table(site: Site, task: Task) -> _Table:
    columns = _columns(section for _, section in task.sections)
    methods = {method.name: method for method in site.methods}
    groups = tuple(
        _Group(
            board.title,
            tuple(_board_line(entry, columns, methods.get(entry.name)) for entry in board.entries),
        )
        for board in task.boards
    )
    named = (
        ("access", "Access"),
        ("budget", "Settings"),
        ("verdict", "Verdict"),
        ("folder", "Results"),
    )
    return _Table(
        "methods", task.title, (("Method", ""), *_headings(columns)), groups, _facets(groups, named)
    )


def _board_line(entry: Entry, columns: Sequence[str], method: Method | None) -> _Line:
    is_method = entry.row.kind == "method" and method is not None
    facets: tuple[tuple[str, str], ...] = (("folder", entry.folder.name),)
    detail, link = _KINDS.get(entry.row.kind, ""), ""
    if is_method:
        assert method is not None
        link = f"../methods/{method.slug}.html"
        detail = _detail(method)
        verdict = entry.verdict.verdict if entry.verdict else "no verdict"
        facets += (*_facets_of(method, entry.budget), ("verdict", verdict))
    return _Line(
        entry.row.method,
        link,
        detail,
        _cells(entry, columns),
        _tags(entry),
        _classes(entry),
        facets,
    )


def _cells(entry: Entry, columns: Sequence[str]) -> tuple[Cell, ...]:
    rank = entry.rank
    return (
        Cell(NONE, classes="none") if rank is None else Cell(str(rank), key=rank),
        verdict_cell(entry.section, entry.row),
        *(cell(entry.section, entry.row, column) for column in columns),
        Cell(seeds_text(entry.row), key=len(entry.row.seeds)),
    )


def _classes(entry: Entry) -> str:
    return f"{entry.row.kind} best" if entry.best else entry.row.kind


def _tags(entry: Entry) -> tuple[tuple[str, str], ...]:
    row = entry.row
    tags = []
    if entry.origin and entry.origin != "default":
        tags.append((entry.origin, "even"))
    if row.damage is not None:
        tags.append((f"retain −{row.damage:.0f} points", "bad"))
    if row.failed:
        total = len(row.seeds) + len(row.failed)
        tags.append((f"failed in {len(row.failed)} of {total} seeds", "bad"))
    return tuple(tags)


def _method_table(method: Method) -> _Table:
    columns = _columns(entry.section for _, entry in method.entries)
    groups = []
    for budget in (TUNED, UNTUNED):
        lines = tuple(
            _method_line(task, entry, columns)
            for task, entry in method.entries
            if entry.budget == budget
        )
        if lines:
            groups.append(_Group(f"{budget[0].upper()}{budget[1:]}", lines))
    facets = _facets(groups, (("budget", "Settings"), ("verdict", "Verdict")))
    return _Table(
        "methods", method.name, (("Task", ""), *_headings(columns)), tuple(groups), facets
    )


def _method_line(task: Task, entry: Entry, columns: Sequence[str]) -> _Line:
    label = f", as {entry.row.method}" if entry.row.method != entry.name else ""
    rank, *rest = _cells(entry, columns)
    if entry.rank is not None:
        rank = Cell(str(entry.rank), second=f"of {len(entry.section.ranking)}", key=entry.rank)
    verdict = entry.verdict.verdict if entry.verdict else "no verdict"
    return _Line(
        _short(entry.section),
        f"../tasks/{task.slug}.html",
        f"{entry.section.model} · {entry.folder.name}{label}",
        (rank, *rest),
        _tags(entry),
        _classes(entry),
        (("budget", entry.budget), ("verdict", verdict)),
    )


def _reading(sections: Iterable[Section]) -> str:
    found = list(sections)
    definitions = dict.fromkeys(distance_definition(s) for s in found if s.compared)
    return " ".join(
        [
            intervals(found),
            f"The second line is the {gap_reading(found)}; under time it is wall time.",
            *definitions,
            f"A loss of {DAMAGE_POINTS:.0f} or more points of retain accuracy is named.",
        ]
    )


def _caveats(task: Task) -> list[tuple[str, str]]:
    said = ((folder.name, caveat(section)) for folder, section in task.sections)
    return [(name, text) for name, text in said if text]
