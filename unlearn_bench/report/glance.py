"""What a reader sees first of a section, in a fixed order, as plain values for any renderer.

Verdict per method; original, method and retraining with interval and retrain band; positive
control; worst class by name; seeds, originals, n and resolution; cost.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from unlearn_bench.analysis.exchange import LEVEL
from unlearn_bench.analysis.table import DAMAGE_POINTS, ORIGINAL, Section
from unlearn_bench.analysis.verdict import (
    DESCRIPTIVE,
    DISTINGUISHABLE,
    INDISTINGUISHABLE,
    NEEDED,
    SEEDS_TO_PASS,
    UNDECIDED,
    Verdict,
    primary,
    retrain_band,
    verdicts,
)
from unlearn_bench.analysis.verdict import NONE as NO_VERDICT
from unlearn_bench.report.findings import (
    Note,
    blind,
    caveat,
    descriptive_seeds,
    leader_of,
    positive_control,
    worst_classes,
)
from unlearn_bench.report.text import (
    NONE,
    band_text,
    format_gap,
    format_value,
    marked_heading,
    measured_primary,
    share,
)
from unlearn_bench.results.metrics import TIME_RATIO

_MIN_FALSE_POSITIVES = 10
# Farther than this, how far exactly says nothing more.
_MOST_SPREADS = 99


@dataclass(frozen=True)
class Group:
    """Methods of one verdict.

    Attributes:
        title: The verdict, or what stands for it with few seeds.
        tone: ``good``, ``bad`` or ``even``.
        methods: Label, the mark of who damaged the model, and what to say beside it.
    """

    title: str
    tone: str
    methods: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Comparison:
    """One method between the original and retraining.

    Attributes:
        rows: Per primary metric its name, original, method, retraining, gap and retrain band.
    """

    method: str
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Glance:
    """The first screen of a section.

    Attributes:
        standing: What kind of verdicts these are, and why they may mean nothing here.
        groups: Verdict per method.
        legend: What the marks in the groups mean; empty without any.
        columns: Headings of every comparison.
        comparisons: One per method, nearest first.
        facts: Positive control, worst class, evidence, cost.
    """

    standing: str
    groups: tuple[Group, ...]
    legend: str
    columns: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    facts: tuple[Note, ...]


def glance(section: Section, tier: str = "") -> Glance:
    """Gather a section's first screen; what was not measured is left out.

    Args:
        section: The numbers.
        tier: Which evidence there is beyond single models, in a sentence.
    """
    return Glance(
        _standing(section),
        _groups(section),
        _legend(section),
        _columns(section),
        tuple(_comparison(section, name) for name in _compared(section)),
        tuple(
            [
                *positive_control(section),
                *_worst_class(section),
                *_evidence(section, tier),
                *_cost(section),
            ]
        ),
    )


def verdict_text(section: Section, verdict: Verdict) -> str:
    """Say a verdict with what it rests on, in a few words."""
    if verdict.verdict == NO_VERDICT:
        return "no verdict"
    if verdict.told_apart:
        by = ", ".join(map(section.facts.short, verdict.apart)) or "all metrics together"
        p = "" if verdict.p_value is None else f", p = {verdict.p_value:.2g}"
        return f"apart by {by}{p}"
    if verdict.nearness is None:
        return "not told apart"
    near = f"{verdict.verdict.lower()}, {spreads_text(verdict.nearness)}"
    return near if verdict.p_value is None else f"{near}, p = {verdict.p_value:.2g}"


def spreads_text(nearness: float) -> str:
    """Say how far from retraining at most, in spreads of it; the unit that a reader can judge."""
    if nearness > _MOST_SPREADS:
        return f"over {_MOST_SPREADS} spreads"
    return f"within {nearness:.1f} spreads"


def _methods(section: Section) -> list[Verdict]:
    return [verdict for verdict in verdicts(section) if verdict.kind == "method"]


def _standing(section: Section) -> str:
    said = []
    tested = [v for v in _methods(section) if v.p_value is not None]
    if tested:
        said.append(_rule(len(primary(section)), max(v.seeds for v in tested)))
    few = descriptive_seeds(section)
    if few:
        which = "“Told apart” and “Not told apart” are descriptive" if said else "Descriptive"
        said.append(
            f"{which} only: {few}, and a verdict needs {NEEDED}. Told apart means: outside the "
            "retrain band in every seed, on the same side."
        )
    said.append(caveat(section) if said else "A verdict needs retraining and at least two seeds.")
    return " ".join(filter(None, said))


def _rule(metrics: int, seeds: int) -> str:
    """Say what the verdict rests on, and what so many seeds can show."""
    number = "eight" if metrics == 8 else str(metrics)
    said = (
        f"Against retraining, by {number} metrics fixed beforehand. A permutation test calls exact "
        f"unlearning DISTINGUISHABLE in at most {LEVEL:.0%} of cases; the spreads say how far from "
        "retraining a method may still be."
    )
    if seeds < SEEDS_TO_PASS:
        said += f" A method is rarely INDISTINGUISHABLE with fewer than {SEEDS_TO_PASS} seeds."
    return said


def _legend(section: Section) -> str:
    damaged = any(row.damage is not None for row in section.table.rows)
    return f"† lost {DAMAGE_POINTS:.0f} or more points of retain accuracy." if damaged else ""


def _groups(section: Section) -> tuple[Group, ...]:
    damaged = {row.method for row in section.table.rows if row.damage is not None}
    found: dict[tuple[str, str], list[tuple[str, str, str]]] = {
        (INDISTINGUISHABLE, "good"): [],
        ("Not told apart", "even"): [],
        (UNDECIDED, "even"): [],
        (DISTINGUISHABLE, "bad"): [],
        ("Told apart", "bad"): [],
        ("No verdict", "even"): [],
        ("Failed", "bad"): [],
    }
    for verdict in _methods(section):
        reasons = _reasons(section, verdict)
        if verdict.verdict == DESCRIPTIVE:
            key = ("Told apart", "bad") if verdict.apart else ("Not told apart", "even")
        else:
            key = next(k for k in found if k[0].lower() == verdict.verdict.lower())
        mark = "†" if verdict.method in damaged else ""
        found[key].append((verdict.method, mark, reasons))
    for row in section.table.of_kind("method"):
        if not row.seeds:
            found["Failed", "bad"].append((row.method, "", "no seed finished"))
    return tuple(
        Group(title, tone, tuple(methods)) for (title, tone), methods in found.items() if methods
    )


def _reasons(section: Section, verdict: Verdict) -> str:
    """Say what stands beside a method in its group."""
    by = "; ".join(map(section.facts.label, verdict.apart))
    if verdict.p_value is None or verdict.nearness is None:
        return by or ("" if verdict.verdict == DESCRIPTIVE else "; ".join(verdict.missing))
    if verdict.verdict == DISTINGUISHABLE:
        return f"{by or 'all metrics together'}; p = {verdict.p_value:.2g}"
    farthest = f" ({section.facts.label(verdict.worst)})" if verdict.nearness > 1 else ""
    return f"{spreads_text(verdict.nearness)} of retraining{farthest}; p = {verdict.p_value:.2g}"


def _compared(section: Section) -> list[str]:
    """Name the methods, the one that the headline names first."""
    names = [verdict.method for verdict in _methods(section)]
    first = leader_of(section).method if section.ranking else ""
    return sorted(names, key=lambda name: name != first)


def _columns(section: Section) -> tuple[str, ...]:
    names = ["Metric", "Original", "Method"]
    if section.reference is not None:
        names += ["Retrained", "Gap to retraining"]
        names += ["Retrain band"] if len(section.seeds) > 1 else []
    return tuple(names)


def _comparison(section: Section, method: str) -> Comparison:
    rows = []
    for column, floor in measured_primary(section).items():
        info = section.facts.of(column)
        cells = [_value(section, ORIGINAL, column), _value(section, method, column)]
        if section.reference is not None:
            gap = section.table.gap(method, column)
            cells += [
                _value(section, section.reference, column),
                format_gap(info, gap) if gap else NONE,
            ]
            if len(section.seeds) > 1:
                width = retrain_band(section, section.reference, column, floor)
                cells.append(band_text(info, width))
        rows.append((marked_heading(section, column), *cells))
    return Comparison(method, tuple(rows))


def _value(section: Section, method: str, column: str) -> str:
    value = section.table.value(method, column)
    return format_value(section.facts.of(column), value) if value else NONE


def _worst_class(section: Section) -> list[Note]:
    losses = worst_classes(section)
    if not losses:
        return []
    if losses[0].drop.mean <= 0:
        return [Note("Worst class", "no method lost anything on any retained class.")]
    nearest = leader_of(section).method if section.ranking else losses[0].method
    named = [str(loss) for loss in losses if loss.method == nearest]
    if losses[0].method != nearest:
        named.append(f"the most of all methods, {losses[0]}")
    text = f"{'; '.join(named)}, on test examples against retraining."
    if len(section.seeds) > 1:
        text += " It is each seed’s worst class; the class named is the worst on average."
    return [Note("Worst class", text)]


def _evidence(section: Section, tier: str) -> list[Note]:
    if not section.values.size:
        return []
    seeds = len(section.seeds)
    originals = len(section.runs(ORIGINAL).seeds)
    retrained = len(section.runs(section.reference).seeds)
    text = f"{seeds} seed{'s' if seeds > 1 else ''}, "
    if originals == retrained == seeds:
        text += "each with its own original and retrained model."
    else:
        text += f"with an original in {originals} and a retrained model in {retrained} of them."
    if section.unlearnings > 1:
        text += f" Methods unlearned {section.unlearnings} times from each original."
    rate = section.table.value(section.reference or ORIGINAL, "mia_loss_resolvable_fpr")
    if rate is not None and rate.mean >= 1:
        text += f" Fewer than {_MIN_FALSE_POSITIVES} unseen examples: the attack resolves nothing."
    elif rate is not None and rate.mean > 1e-9:
        n = round(_MIN_FALSE_POSITIVES / rate.mean)
        text += (
            f" Attacks are judged on n = {n} unseen examples: false positive rates are resolved "
            f"from {100 * rate.mean:.2g} % on."
        )
    return [Note("Evidence", f"{text} {tier}".strip())]


def _cost(section: Section) -> list[Note]:
    priced = {
        row.method: ratio.mean
        for row in section.table.of_kind("method")
        if (ratio := section.table.value(row.method, TIME_RATIO)) is not None
    }
    if not priced:
        return []
    nearest = () if blind(section) else section.ranking[:1]
    named: Sequence[str] = [row.method for row in nearest if row.method in priced]
    parts = [
        f"{name}, at the smallest distance, took {share(priced[name])} retraining’s time"
        for name in named
    ]
    cheapest = min(priced, key=lambda name: priced[name])
    if len(priced) > 1:
        parts.append(f"the cheapest, {cheapest}, {share(priced[cheapest])} it")
        dearer = sum(ratio >= 1 for ratio in priced.values())
        parts.append(f"{dearer or 'none'} of {len(priced)} took longer than retraining")
    return [Note("Cost", "; ".join(parts) + ".")]
