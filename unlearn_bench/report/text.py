"""Numbers and tables as plain text, alike in the terminal, in Markdown and on the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from unlearn_bench.analysis.estimate import Estimate
from unlearn_bench.analysis.pivot import ACCURACIES
from unlearn_bench.analysis.table import DAMAGE_POINTS, Row, Section
from unlearn_bench.analysis.verdict import fooled, primary, retrain_band, verdicts
from unlearn_bench.core.quantities import in_order
from unlearn_bench.plugins.metric import MetricInfo
from unlearn_bench.results.metrics import DISTANCE, TIME_RATIO

NONE = "–"
# What stands first in a table, in this order.
_LEADING = (DISTANCE, TIME_RATIO, "wall_seconds", *ACCURACIES)
_REFERENCE = "0 (reference)"
MEASURED = "What was measured"
GAP = "gap to retraining, U − G"
_GAP_INTERVAL = (
    ", ± half-width of its 95 % interval over seeds and, where their answers are kept, over the "
    "examples that both models answer"
)
BAND_READING = (
    f"Mean {GAP}{_GAP_INTERVAL}. The retrain band is the "
    "largest difference between two retrainings with different seeds, or the difference that "
    "never matters where that is larger."
)
_FOOLED = (
    "‡ fooled here: it distinguishes the original from retraining, but not a fake whose "
    "weights have forgotten nothing."
)


@dataclass(frozen=True)
class TextTable:
    """A table of strings, its first column the method.

    Attributes:
        title: What was unlearned from what.
        finding: The sentence that the numbers support.
        marked: Row and column of the cells to stress.
        words: Whether the cells hold words, to be set from the left and wrapped.
        notes: What is to be said below it.
    """

    title: str
    finding: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: frozenset[tuple[int, int]] = frozenset()
    words: bool = False
    notes: tuple[str, ...] = ()


def plus_minus(value: Estimate, decimals: int, sign: bool = False) -> str:
    """Write ``mean ± half-width``; a single seed has no half-width."""
    mean = _number(value.mean, decimals, sign)
    if value.half_width is None:
        return mean
    return f"{mean} ± {_number(value.half_width, decimals)}"


def share(ratio: float) -> str:
    """Write a ratio to retraining so that "its time" may follow: ``6 % of``, ``1.4 times``."""
    if ratio >= 1.095:
        return f"{ratio:.2g} times" if ratio < 10 else f"{ratio:.0f} times"
    percent = 100 * ratio
    if percent < 0.1:
        return "under 0.1 % of"
    return f"{percent:.{_decimals(percent)}f} % of"


def format_value(info: MetricInfo, value: Estimate) -> str:
    """Write an estimate in its metric's unit, unit symbol left to the heading or added."""
    factor, suffix, decimals = _unit(info, value)
    return plus_minus(value.scaled(factor), decimals) + suffix


def in_unit(info: MetricInfo, value: Estimate) -> Estimate:
    """Return an estimate in the unit of its metric's cells."""
    return value.scaled(_unit(info, value)[0])


def format_gap(info: MetricInfo, gap: Estimate) -> str:
    """Write a gap to retraining with its sign."""
    factor, suffix, decimals = _unit(info, gap)
    return plus_minus(gap.scaled(factor), decimals, sign=True) + suffix


def gap_reading(sections: Sequence[Section]) -> str:
    """Say what a gap to retraining is, and what stands behind its ± where one has any."""
    cells = (cell for section in sections for cell in section.table.cells.values())
    known = any(cell.gap is not None and cell.gap.half_width is not None for cell in cells)
    return GAP + (_GAP_INTERVAL if known else "")


def marked_heading(section: Section, column: str) -> str:
    """Name a column with its unit, and mark it where a fake fools it here."""
    return section.facts.heading(column) + (" ‡" if column in fooled(section) else "")


def band_reading(section: Section) -> str:
    """Say how gaps and bands are to be read, and what marks a metric as fooled."""
    marked = any(c in section.table.columns for c in fooled(section) if c in primary(section))
    return BAND_READING + (f" {_FOOLED}" if marked else "")


def main_columns(section: Section) -> tuple[str, ...]:
    """Choose the columns of the first table: distance, cost, accuracies, then what asks for it."""
    shown = [column for column in section.table.columns if section.facts.of(column).main]
    places = {column: place for place, column in enumerate(_LEADING)}
    return tuple(sorted(shown, key=lambda column: places.get(column, len(places))))


def brief_table(section: Section, finding: str) -> TextTable:
    """Return the columns that fit a terminal of 80 characters, under short names."""
    time = TIME_RATIO if TIME_RATIO in section.table.columns else "wall_seconds"
    columns = _available(section, (DISTANCE, time, "forget_accuracy", "retain_accuracy"))
    table = text_table(section, finding, columns)
    names = ("Method", *(_brief_heading(section, column) for column in columns), "Seeds")
    rows = []
    for row, cells in zip(section.table.rows, table.rows, strict=True):
        name = f"{row.method} †" if row.damage is not None else cells[0]
        # The reference stands in a line of its own and needs no word to say so.
        shown = cells[1 : len(names)]
        rows.append((name, *("0" if cell == _REFERENCE else cell for cell in shown)))
    damaged = any(row.damage is not None for row in section.table.rows)
    notes = [f"† lost {DAMAGE_POINTS:.0f} or more points of retain accuracy"] if damaged else []
    notes += [*origin_texts(section), *failure_texts(section)]
    return replace(table, columns=names, rows=tuple(rows), notes=tuple(notes))


def origin_texts(section: Section) -> tuple[str, ...]:
    """Say in one line how the methods' settings came about, where some were tuned."""
    named: dict[str, list[str]] = {}
    for row in section.table.of_kind("method"):
        if row.method in section.origins:
            named.setdefault(section.origins[row.method][0], []).append(row.method)
    if not named:
        return ()
    most = max(named, key=lambda text: len(named[text]))
    parts = [f"{text}: {', '.join(names)}" for text, names in named.items() if text != most]
    return (f"Settings: {'; '.join([*parts, f'all others {most}' if parts else most])}",)


def _brief_heading(section: Section, column: str) -> str:
    if column == TIME_RATIO:
        return "Time, %"  # a terminal has no room for more
    return section.facts.heading(column, brief=True)


def cell_text(section: Section, row: Row, column: str) -> str:
    """Write one cell; its own n is added where it differs from the row's."""
    if row.method == section.reference and column == DISTANCE:
        return _REFERENCE
    value = section.table.value(row.method, column)
    if value is None:
        return "unresolved" if (row.method, column) in section.unresolved else NONE
    text = format_value(section.facts.of(column), value)
    return text if value.n == len(row.seeds) else f"{text} (n = {value.n})"


def seeds_text(row: Row) -> str:
    """Write how many seeds gave a result, how many failed, and how often each was unlearned."""
    each = f" × {row.unlearnings}" if row.unlearnings > 1 else ""
    if not row.failed:
        return f"{len(row.seeds)}{each}"
    return f"{len(row.seeds)} of {len(row.seeds) + len(row.failed)}{each}"


def section_title(section: Section) -> str:
    """Name a section by what was unlearned from what."""
    return f"{section.dataset} · {section.model} · {section.scenario}"


def text_table(section: Section, finding: str, columns: Sequence[str]) -> TextTable:
    """Return the section's rows as text, in the table's order; the nearest method is marked."""
    rows = []
    for row in section.table.rows:
        cells = (cell_text(section, row, column) for column in columns)
        origin = (section.origins.get(row.method, (NONE, False))[0],) if section.origins else ()
        rows.append((_name_text(row), *cells, seeds_text(row), *origin))
    nearest = [i for i, row in enumerate(section.table.rows) if row in section.ranking[:1]]
    return TextTable(
        section_title(section),
        finding,
        (
            "Method",
            *map(section.facts.heading, columns),
            "Seeds",
            *(("Setting",) if section.origins else ()),
        ),
        tuple(rows),
        marked=frozenset((i, j) for i in nearest for j in (0, 1)),
    )


def reading(section: Section) -> str:
    """Say how the numbers of the first table are to be read, if there are any."""
    return intervals([section]) if section.values.size else ""


def intervals(sections: Sequence[Section], seeds: str = "seeds") -> str:
    """Say what stands behind a ±, over how many ``seeds``, and where there is none."""
    if all(len(section.seeds) == 1 for section in sections):
        return "Of one seed, so without intervals over seeds."
    mixed = any(len(section.seeds) == 1 for section in sections)
    times = max(section.unlearnings for section in sections)
    if times > 1:
        seeds += f", each the mean of up to {times} unlearnings from its original"
    single = "; one seed has no interval" if mixed else ""
    return f"Mean ± half-width of the 95 % t-interval over {seeds}{single}."


def verdict_table(section: Section) -> TextTable:
    """Return one verdict per method, the controls below, with what it rests on."""
    order = sorted(verdicts(section), key=lambda v: v.kind != "method")
    rows = tuple(
        (
            v.method if v.kind == "method" else f"{v.method} (control)",
            v.verdict,
            NONE if v.p_value is None else f"{v.p_value:.2g}",
            NONE if v.nearness is None else f"{v.nearness:.1f}",
            NONE if v.nearness_auc is None else f"{v.nearness_auc:.2f}",
            ", ".join(map(section.facts.label, v.apart))
            or ("all metrics together" if v.told_apart else NONE),
            "; ".join(v.missing) or NONE,
        )
        for v in order
    )
    names = (
        "Method",
        "Verdict",
        "p",
        "Spreads, at most",
        "AUC, at most",
        "Told apart by",
        "Missing",
    )
    return TextTable("Verdicts", "", names, rows, words=True)


def band_table(section: Section) -> TextTable:
    """Return the gaps to retraining in the primary metrics, the retrain band above them.

    Without rows for a single seed, which has no band.
    """
    if len(section.seeds) < 2 or section.reference is None:
        return TextTable("Gap to retraining", "", (), ())
    facts = section.facts
    floors = measured_primary(section)
    widths = [retrain_band(section, section.reference, c, floor) for c, floor in floors.items()]
    rows = [("retrain band", *map(band_text, map(facts.of, floors), widths))]
    for row in section.table.rows:
        if row.kind != "reference" and row.seeds:
            gaps = ((c, section.table.gap(row.method, c)) for c in floors)
            cells = (format_gap(facts.of(c), gap) if gap else NONE for c, gap in gaps)
            rows.append((row.method, *cells))
    names = (marked_heading(section, c) for c in floors)
    return TextTable("Gap to retraining", "", ("Method", *names), tuple(rows))


def measured_primary(section: Section) -> dict[str, float]:
    """Return the primary metrics that this section has numbers of, with their floors."""
    return {
        column: floor
        for column, floor in primary(section).items()
        if column in section.table.columns and column not in section.not_applicable
    }


def band_text(info: MetricInfo, width: float | None) -> str:
    """Write the half-width of a retrain band in its metric's unit."""
    if width is None:
        return NONE
    return "± " + format_value(info, Estimate(width, None, 1))


def overview_table(sections: Sequence[Section], finding: str) -> TextTable:
    """Return the distances of every method in every section, and what it cost.

    Methods that were measured in most sections come first, among them the nearest on average.
    The nearest of each section is marked.
    """
    distances = {
        row.method: {
            i: cell.value
            for i, section in enumerate(sections)
            if (cell := section.table.cells.get((row.method, DISTANCE)))
        }
        for kind in ("control", "method")
        for section in sections
        for row in section.table.of_kind(kind)
    }
    kinds = {row.method: row.kind for section in sections for row in section.table.rows}

    def order(method: str) -> tuple[bool, int, float, str]:
        found = distances[method].values()
        mean = sum(value.mean for value in found) / len(found) if found else math.inf
        return kinds[method] == "method", -len(found), mean, method

    methods = sorted(distances, key=order)
    rows = tuple(
        (
            method,
            *(
                plus_minus(distances[method][i], 1) if i in distances[method] else NONE
                for i in range(len(sections))
            ),
            _range_text(sections, method),
        )
        for method in methods
    )
    marked = frozenset(
        (methods.index(section.ranking[0].method), i + 1)
        for i, section in enumerate(sections)
        if section.ranking
    )
    names = short_titles(sections)
    facts = sections[0].facts
    columns = ("Method", *names, facts.label(TIME_RATIO))
    return TextTable(overview_title(sections), finding, columns, rows, marked)


def overview_title(sections: Sequence[Section]) -> str:
    """Name what the overview shows of every section."""
    return sections[0].facts.heading(DISTANCE)


def short_titles(sections: Sequence[Section]) -> tuple[str, ...]:
    """Name sections by what tells them apart: shared dataset or model names are left out."""
    parts = [(section.dataset, section.model, section.scenario) for section in sections]
    differing = [i for i in range(3) if len({part[i] for part in parts}) > 1] or [2]
    return tuple(" · ".join(part[i] for i in differing) for part in parts)


def time_range(ratios: Sequence[float]) -> str:
    """Write the least and greatest of several ratios to retraining in percent."""
    low, high = (f"{p:.{_decimals(p)}f}" for p in (100 * min(ratios), 100 * max(ratios)))
    return low if low == high else f"{low}–{high}"


def failure_texts(section: Section) -> tuple[str, ...]:
    """Write each failed method with its seeds and reason, alike reasons together."""
    seeds: dict[tuple[str, str], list[str]] = {}
    for failure in sorted(section.failures, key=lambda failure: (failure.seed, failure.draw)):
        again = f" (unlearning {failure.draw + 1})" if failure.draw else ""
        seeds.setdefault((failure.method, failure.reason), []).append(f"{failure.seed}{again}")
    return tuple(
        f"Failed: {method}, seed{'s' if len(found) > 1 else ''} {in_order(found)}: {reason}"
        for (method, reason), found in seeds.items()
    )


def _range_text(sections: Sequence[Section], method: str) -> str:
    found = (section.table.value(method, TIME_RATIO) for section in sections)
    ratios = [value.mean for value in found if value is not None]
    return time_range(ratios) if ratios else NONE


def _name_text(row: Row) -> str:
    if not row.seeds:
        return f"{row.method} (failed)" if row.failed else row.method
    if row.damage is not None:
        return f"{row.method} (retain accuracy −{row.damage:.0f} points)"
    return row.method


def _available(section: Section, wanted: Sequence[str]) -> tuple[str, ...]:
    return tuple(column for column in wanted if column in section.table.columns)


def _number(value: float, decimals: int, sign: bool = False) -> str:
    text = f"{abs(value):,.{decimals}f}"
    is_zero = not any(digit in text for digit in "123456789")
    if value < 0 and not is_zero:
        return f"−{text}"
    return f"+{text}" if sign and not is_zero else text


def _decimals(value: float) -> int:
    """Decimals that leave about two significant digits."""
    magnitude = abs(value)
    return 0 if magnitude >= 10 else 1 if magnitude >= 1 else 2


def _unit(info: MetricInfo, value: Estimate) -> tuple[float, str, int]:
    """Return the factor, the suffix and the decimals in which a metric is written."""
    match info.unit:
        case "percent":
            return 100, "", 1
        case "points" | "steps":
            return 1, "", 1
        case "ratio":
            return 100, "", _decimals(100 * value.mean)
        case "score":
            return 1, "", 3
        case "bytes":
            return 1e-6, " MB", _decimals(1e-6 * value.mean)
        case "seconds":
            return 1, " s", _decimals(value.mean)
        case "count":
            return 1, "", 0
    digits = 0 if value.mean == 0 else math.floor(math.log10(abs(value.mean)))
    return 1, "", min(6, max(0, 3 - digits))
