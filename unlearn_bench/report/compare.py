"""Two results folders side by side: what changed, and which differences are beyond noise.

Every method that both have in the same setting is compared by its distance to retraining, the
primary metrics and its time. B - A is paired by seed where three seeds or more are shared, and
Welch's where each has three of its own; fewer tell nothing. Its error is over seeds and examples,
so that three seeds which agree by chance are not taken for exact. A difference is beyond noise
if its t-test, with Holm's adjustment over the metrics of that method, says so at 5 %: of two
folders that differ by chance alone, each method is flagged in at most one comparison of twenty.

B is **worse** than A, for ``--fail-if-worse``, by each of these and nothing else:

- a method's distance to retraining grew beyond noise, and by more than one point;
- its verdict fell to DISTINGUISHABLE; a fall to UNDECIDED happens to re-runs by chance;
- a run failed whose seed had a result in A;
- a setting, a method or a seed with a result in A has none in B, or B lacks a compared metric
  that A has for the same method, unless that is allowed;
- a method or retraining takes more than 1.5 times as long, beyond noise, on the same hardware;
- B has more planned runs without any result than A, or shares nothing with A.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unlearn_bench.analysis.apart import each
from unlearn_bench.analysis.estimate import Estimate
from unlearn_bench.analysis.table import Section
from unlearn_bench.analysis.verdict import (
    DISTINGUISHABLE,
    INDISTINGUISHABLE,
    UNDECIDED,
    verdicts,
)
from unlearn_bench.report.changes import Change, Folder, changes
from unlearn_bench.report.differences import (
    BEYOND,
    FEWEST,
    SAME,
    TIME,
    UNTOLD,
    Difference,
    as_csv,
    compared,
    setting,
)
from unlearn_bench.report.differences import differences as differences_of
from unlearn_bench.report.provenance import Report, read_report
from unlearn_bench.report.text import (
    NONE,
    TextTable,
    format_gap,
    format_value,
    section_title,
)
from unlearn_bench.results.metrics import DISTANCE
from unlearn_bench.results.records import read_suite

# Points and ratio below which no growth counts as worse, however sure it is.
WORSE_POINTS, WORSE_RATIO = 1.0, 1.5


@dataclass(frozen=True)
class Comparison:
    """What two results folders have in common and what not.

    Attributes:
        changes: What differs in the protocol.
        differences: All metrics of all methods that both have.
        verdicts: Verdicts that changed, one sentence each.
        worse: Why the second is worse; empty if it is not.
        tables: All of it for a reader, in order.
    """

    names: tuple[str, str]
    changes: tuple[Change, ...]
    differences: tuple[Difference, ...]
    verdicts: tuple[str, ...]
    worse: tuple[str, ...]
    tables: tuple[TextTable, ...]


def compare(first: Path, second: Path, *, allow_missing: bool = False) -> Comparison:
    """Compare two results folders.

    Args:
        first: The folder to hold against, A.
        second: The folder that is judged, B.
        allow_missing: Do not call B worse for what it was not asked for: a suite shrunk on purpose.

    Raises:
        OutputError: If one of them is no results folder.
    """
    a, b = read_report(first), read_report(second)
    suites = [read_suite(f) if (f / "suite.json").exists() else {} for f in (first, second)]
    same_hardware = a.provenance.hardware == b.provenance.hardware
    folders = (
        Folder(suite, report.records, report.provenance.hardware)
        for suite, report in zip(suites, (a, b), strict=True)
    )
    changed = changes(*folders)
    pairs = _pairs(a, b)
    differences = tuple(d for one, other in pairs for d in differences_of(one, other))
    fallen, turned = _verdicts(pairs)
    worse = (
        *_worse_numbers(differences, same_hardware),
        *fallen,
        *_failures(pairs),
        *_incomplete(a, b, differences),
        *(() if allow_missing else _absent(a, b)),
    )
    names = (str(first), str(second))
    tables = _tables(names, changed, pairs, differences, turned, same_hardware)
    return Comparison(names, changed, differences, turned, worse, tables)


_HEADING = "# Two runs compared"


def _refuse_foreign(path: Path, first_line: str) -> None:
    """Refuse to overwrite a file that does not begin as ours do."""
    from unlearn_bench.core.errors import OutputError, RefusedError
    from unlearn_bench.core.reading import opened

    try:
        with opened(path) as stream:
            ours = stream.readline(len(first_line) + 2).rstrip() == first_line.encode()
    except FileNotFoundError:
        return
    except (OSError, RefusedError):
        ours = False
    if not ours:
        raise OutputError(
            f"{path} would be overwritten, and is no comparison that unlearn-bench wrote; choose "
            "another --out"
        )


def write_comparison(found: Comparison, folder: Path) -> Path:
    """Write ``compare.md`` and ``compare.csv``, every difference a line; return the first's path.

    Raises:
        OutputError: If the folder cannot be written, or has another file of one of these names.
    """
    from unlearn_bench.core.files import write_atomically
    from unlearn_bench.report.markdown import escape, render_table

    text = as_csv(found.differences)
    _refuse_foreign(folder / "compare.md", _HEADING)
    _refuse_foreign(folder / "compare.csv", text.partition("\n")[0])
    blocks = [_HEADING]
    for table in found.tables:
        blocks += [f"## {escape(table.title)}"] if table.title else []
        blocks += [escape(table.finding)] if table.finding else []
        blocks += [render_table(table)] if table.rows else []
    blocks += ["## Worse", "\n".join(f"- {escape(reason)}" for reason in found.worse) or "Nothing."]
    write_atomically(folder / "compare.csv", text)
    write_atomically(folder / "compare.md", "\n\n".join(blocks) + "\n")
    return folder / "compare.md"


def _pairs(a: Report, b: Report) -> list[tuple[Section, Section]]:
    others = {setting(section): section for section in each(b.sections)}
    return [(s, others[setting(s)]) for s in each(a.sections) if setting(s) in others]


def _worse_numbers(differences: Sequence[Difference], same_hardware: bool) -> Iterator[str]:
    for d in differences:
        if d.state != BEYOND or d.change.mean <= 0:
            continue
        where = f"{d.method} ({' · '.join(d.setting)})"
        values = f"{format_value(d.metric, d.first)} to {format_value(d.metric, d.second)}"
        if d.column == DISTANCE and d.kind == "method" and d.change.mean > WORSE_POINTS:
            yield f"{where}: distance to retraining grew from {values} points"
        slower = d.second.mean > WORSE_RATIO * d.first.mean
        if d.column == TIME and d.kind != "control" and slower and same_hardware:
            ratio = d.second.mean / d.first.mean if d.first.mean else float("inf")
            yield f"{where}: time grew from {values}, {ratio:.1f} times"


def _verdicts(pairs: Sequence[tuple[Section, Section]]) -> tuple[list[str], tuple[str, ...]]:
    """Return the verdicts of methods that fell, and all that changed, a sentence each."""
    fallen, changed = [], []
    for a, b in pairs:
        after = {v.method: v for v in verdicts(b)}
        for v in verdicts(a):
            w = after.get(v.method)
            if w is None or (v.verdict, v.apart) == (w.verdict, w.apart):
                continue
            words = [
                verdict.verdict
                + (f" by {', '.join(map(a.facts.label, verdict.apart))}" if verdict.apart else "")
                for verdict in (v, w)
            ]
            sentence = f"{v.method} ({section_title(a)}): verdict from {words[0]} to {words[1]}"
            changed.append(sentence)
            could_be_retraining = v.verdict in (INDISTINGUISHABLE, UNDECIDED)
            if v.kind == "method" and could_be_retraining and w.verdict == DISTINGUISHABLE:
                fallen.append(sentence)
    return fallen, tuple(changed)


def _failures(pairs: Sequence[tuple[Section, Section]]) -> Iterator[str]:
    for a, b in pairs:
        finished = {row.method: set(row.seeds) for row in a.table.rows}
        for failure in b.failures:
            if failure.seed in finished.get(failure.method, ()):
                yield (
                    f"{failure.method} ({section_title(b)}): seed {failure.seed} now fails: "
                    f"{failure.reason}"
                )


def _incomplete(a: Report, b: Report, differences: Sequence[Difference]) -> Iterator[str]:
    if not differences:
        yield "nothing can be compared: no method has results in both for one setting"
    if b.provenance.missing > a.provenance.missing:
        yield f"{b.provenance.missing} of {b.provenance.planned} planned runs have no result"


def _absent(a: Report, b: Report) -> Iterator[str]:
    """Name what has a result in A and neither a result nor a failure in B."""
    others = {setting(section): section for section in each(b.sections)}
    for one in each(a.sections):
        where, other = section_title(one), others.get(setting(one))
        if other is None:
            yield f"{where}: the setting has no result in B"
            continue
        after = {row.method: row for row in other.table.rows}
        shared = []
        for row in one.table.rows:
            there = after.get(row.method)
            if there is None:
                if row.seeds:
                    yield f"{row.method} ({where}): the method has no result in B"
                continue
            shared.append(row.method)
            lost = sorted(set(row.seeds) - {*there.seeds, *there.failed})
            if lost:
                names = f"seed{'s' if len(lost) > 1 else ''} {', '.join(map(str, lost))}"
                yield f"{row.method} ({where}): no result in B of {names}"
        for column in compared(one):
            without = [
                method
                for method in shared
                if (method, column) in one.table.cells
                and (method, column) not in other.table.cells
                and after[method].seeds
            ]
            if without:
                every = all((m, column) not in other.table.cells for m in after)
                of = "" if every else f" of {', '.join(without)}"
                yield f"{where}: {one.facts.label(column)}{of} is absent from B"


def _tables(
    names: tuple[str, str],
    changed: Sequence[Change],
    pairs: Sequence[tuple[Section, Section]],
    differences: Sequence[Difference],
    turned: Sequence[str],
    same_hardware: bool,
) -> tuple[TextTable, ...]:
    tables = [TextTable("", f"A is {names[0]}, B is {names[1]}.", (), ())]
    rows = tuple((c.what, c.first, c.second) for c in changed)
    finding = "" if rows else "Nothing changed in the protocol."
    tables.append(TextTable("What changed", finding, ("", "A", "B"), rows, words=True))
    for a, _ in pairs:
        of_setting = [d for d in differences if d.setting == setting(a)]
        tables.append(_side_by_side(section_title(a), of_setting, same_hardware))
    if turned:
        lines = tuple((text,) for text in turned)
        tables.append(TextTable("Verdicts that changed", "", ("Verdict",), lines, words=True))
    return tuple(tables)


def _side_by_side(title: str, differences: Sequence[Difference], same_hardware: bool) -> TextTable:
    """Return one line per method: distance and time in both, and what is beyond noise."""
    by_method: dict[str, dict[str, Difference]] = {}
    for d in differences:
        by_method.setdefault(d.method, {})[d.column] = d
    if not differences:
        return TextTable(title, "No method has results in both.", (), ())
    if all(d.state == SAME for d in differences):
        return TextTable(title, f"Nothing changed in {len(by_method)} methods.", (), ())
    rows: list[tuple[str, ...]] = []
    marked = set()
    for method, found in by_method.items():
        beyond = [d for d in found.values() if d.state == BEYOND]
        if beyond:
            marked.add((len(rows), 6))
        rows.append(
            (
                method,
                *_both(found.get(DISTANCE)),
                _gap(found.get(DISTANCE)),
                *_both(found.get(TIME)),
                _states(list(found.values())),
            )
        )
    seeds = [d.shared for d in differences if d.column == TIME] or [0]
    finding = "B − A with its 95 % interval" + (
        f", paired over {' to '.join(map(str, sorted({min(seeds), max(seeds)})))} shared seeds."
        if min(seeds) >= FEWEST
        else f": Welch's where seeds are not shared; of fewer than {FEWEST} seeds it cannot be "
        "separated from noise."
    )
    if not same_hardware:
        finding += " Times are from different hardware: shown, not judged."
    columns = ("Method", "Distance A", "B", "B − A", "Time A", "B", "Beyond noise")
    return TextTable(title, finding, columns, tuple(rows), frozenset(marked))


def _both(d: Difference | None) -> tuple[str, str]:
    if d is None:
        return NONE, NONE
    one, other = (Estimate(e.mean, None, e.n) for e in (d.first, d.second))
    return format_value(d.metric, one), format_value(d.metric, other)


def _gap(d: Difference | None) -> str:
    return NONE if d is None else format_gap(d.metric, d.change) if d.state != SAME else "same"


def _states(found: Sequence[Difference]) -> str:
    """Say which metrics moved beyond noise; of single seeds, that it cannot be told."""
    beyond = [
        f"{d.metric.named(d.column)} {format_gap(d.metric, d.change)}"
        for d in found
        if d.state == BEYOND
    ]
    if beyond:
        return "; ".join(beyond)
    return UNTOLD if any(d.state == UNTOLD for d in found) else NONE
