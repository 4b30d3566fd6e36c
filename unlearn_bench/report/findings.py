"""What the numbers say, as sentences; every renderer prints these same words."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from unlearn_bench.analysis.estimate import Estimate
from unlearn_bench.analysis.statistics import SEEDS_FOR_INFERENCE
from unlearn_bench.analysis.table import ACCURACIES, ORIGINAL, Row, Section
from unlearn_bench.analysis.verdict import (
    DESCRIPTIVE,
    NO_POWER,
    exposing,
    fooled,
    passing_fakes,
    powerless,
    primary,
    verdicts,
)
from unlearn_bench.report.provenance import Provenance
from unlearn_bench.report.text import format_value, plus_minus, share, time_range
from unlearn_bench.results.metrics import BUILT_IN, DISTANCE, MIA_AUC, TIME_RATIO

# Points of forget accuracy above retraining from which a method has left too much behind.
FAR_POINTS = 10.0
# Points of test retain accuracy below the original's from which a reference is no yardstick: seeds
# and the missing data explain a few.
WEAK_POINTS = 10.0
# Share of a class's test examples from which its loss is told by name, of so many methods.
WORST_CLASS, WORST_NAMED = 0.02, 5

UNTRAINED = "random_init"
_WORST = "worst_class_drop"


@dataclass(frozen=True)
class Note:
    """A remark: what it is about, then what there is to say."""

    lead: str
    text: str

    def __str__(self) -> str:
        return f"{self.lead}: {self.text}"


@dataclass(frozen=True)
class WorstClass:
    """What a method took from the retained class that it hurt most.

    Attributes:
        drop: The largest drop of each seed, as a share; which class that is may differ by seed.
        name: The class that lost most on average over seeds.
    """

    method: str
    drop: Estimate
    name: str

    def __str__(self) -> str:
        lost = format_value(BUILT_IN[_WORST], self.drop)
        return f"{self.method} lost {lost} points (class {self.name})"


def worst_classes(section: Section) -> tuple[WorstClass, ...]:
    """Return what every method took from its worst class, the greatest loss first."""
    by_class = section.by_class["class_drop"]
    found = [
        WorstClass(row.method, drop, str(by_class.loc[row.method].idxmax()))
        for row in section.table.of_kind("method")
        if (drop := section.table.value(row.method, _WORST)) and row.method in by_class.index
    ]
    return tuple(sorted(found, key=lambda worst: -worst.drop.mean))


def headline(section: Section) -> str:
    """Answer in one sentence which method came nearest to retraining and what it cost."""
    methods = section.table.of_kind("method")
    if not any(row.seeds for row in section.table.rows):
        return "No run has finished, so there is nothing to compare yet"
    if section.reference is None:
        retrained = any(row.kind == "reference" for row in section.table.rows)
        why = "retraining failed" if retrained else "retraining was not run"
        return f"No distance can be given: {why}"
    if not section.ranking:
        if any(row.failed for row in methods):
            return "No method finished, so there is nothing to rank"
        return "No method could be compared with retraining"
    leader = section.ranking[0]
    name = leader.method
    distance = _distance(section, leader)
    away = f"{plus_minus(distance, 1)} points"
    original = section.table.value(ORIGINAL, DISTANCE)
    if original is not None and _idle_is_nearer(section):
        return (
            f"No method came nearer to retraining than the untouched original: {name} is {away} "
            f"away, the original {plus_minus(original, 1)}"
        )
    cost = _cost(section, leader)
    if len(section.ranking) == 1:
        finding = f"{name} came within {away} of retraining{cost}"
    elif section.tied:
        finding = (
            f"{name} came nearest to retraining ({away} away{cost}), "
            f"tied with {_names(section.tied)}"
        )
    else:
        finding = f"{name} came nearest to retraining: {away} away{cost}"
    apart = next((v.apart for v in verdicts(section) if v.method == name), ())
    telling = [column for column in apart if column not in ACCURACIES]
    if telling:
        # Near in accuracies is what a fake is, too.
        told = _names([section.facts.label(column) for column in telling])
        finding += f", but {told} tell{'s' if len(telling) == 1 else ''} it from retraining"
    if leader.damage is not None:
        finding += f", but it lost {leader.damage:.0f} points of retain accuracy"
    if leader.failed:
        total = len(leader.seeds) + len(leader.failed)
        finding += f", and it failed in {len(leader.failed)} of {total} seeds"
    return f"In the one seed run, {finding}" if len(section.seeds) == 1 else finding


def overview_headline(sections: Sequence[Section]) -> str:
    """Answer over several sections which method came nearest to retraining most often."""
    if len(sections) == 1:
        return headline(sections[0])
    ranked = [section for section in sections if section.ranking]
    if not ranked:
        return headline(sections[0]) if sections else "No run has finished yet"
    leaders = Counter(
        section.ranking[0].method for section in ranked if not _idle_is_nearer(section)
    )
    if not leaders:
        return "No method came nearer to retraining than the untouched original, in any setting"
    (name, wins), *others = leaders.most_common()
    rivals = [other for other, count in others if count == wins]
    where = "all" if wins == len(sections) else f"{wins} of"
    if rivals:
        return (
            f"No single method leads: {_names([name, *rivals])} each came nearest to retraining "
            f"in {where} {len(sections)} settings"
        )
    won = [s for s in ranked if s.ranking[0].method == name and not _idle_is_nearer(s)]
    found = (section.table.value(name, TIME_RATIO) for section in won)
    ratios = [ratio.mean for ratio in found if ratio is not None]
    cost = f", at {time_range(ratios)} % of its time" if ratios else ""
    shared = sum(bool(section.tied) for section in won)
    ties = f", tied with others in {shared}" if shared else ""
    return f"{name} came nearest to retraining in {where} {len(sections)} settings{cost}{ties}"


def notes(section: Section) -> tuple[Note, ...]:
    """Say what limits the section's numbers, the gravest first."""
    found = [
        *_weak_reference(section),
        *_damage(section),
        *_idle(section),
        *_confidence(section),
        *positive_control(section),
        *_power(section),
        *_worst_class(section),
    ]
    for reason in dict.fromkeys(section.unresolved.values()):
        missing = {column for (_, column), why in section.unresolved.items() if why == reason}
        rates = [
            section.facts.label(column) for column in section.table.columns if column in missing
        ]
        floor = section.table.value(section.reference or ORIGINAL, "mia_loss_resolvable_fpr")
        few = floor is not None and reason == "too few examples"
        smallest = f" (smallest resolvable FPR {100 * floor.mean:.2g} %)" if floor and few else ""
        found.append(Note("Unresolved", f"{reason} for {_names(rates)}{smallest}."))
    return tuple(found)


def caveat(section: Section) -> str:
    """Say why not being told apart is no evidence here; empty where it is some."""
    said = []
    if any(v.kind == "method" and NO_POWER in v.missing for v in verdicts(section)):
        said.append(
            "No metric that looks into the model tells even the original from retraining here: "
            "not being told apart is no evidence of forgetting."
        )
    fakes = passing_fakes(section)
    if fakes:
        who, whose = ("fakes", "are") if len(fakes) > 1 else ("fake", "is")
        said.append(
            f"By this rule the {who} {_names(fakes)}, whose weights have forgotten nothing, "
            f"{whose} not told apart either."
        )
    return " ".join(said)


def descriptive_seeds(section: Section) -> str:
    """Say on how many seeds the methods without a real verdict rest, such as ``3 to 5 seeds``.

    Empty where there is none. One failed seed of a method, or of retraining, leaves fewer than
    were run.
    """
    few = sorted(
        {v.seeds for v in verdicts(section) if v.kind == "method" and v.verdict == DESCRIPTIVE}
    )
    return f"{' to '.join(map(str, dict.fromkeys((few[0], few[-1]))))} seeds" if few else ""


def run_gaps(origin: Provenance) -> tuple[str, ...]:
    """Say which planned runs have no result, and why."""
    found = []
    if origin.failed:
        found.append(
            f"{origin.failed} of {origin.planned} runs failed; the reasons are given below."
        )
    if origin.missing:
        found.append(
            f"{origin.missing} of {origin.planned} planned runs have no result: the suite was "
            "interrupted or has not ended. The same command continues it."
            + (f" Not run: {_names(origin.not_run, most=30)}." if origin.not_run else "")
        )
    return tuple(found)


def accuracy_title(section: Section) -> str:
    """State what the figure of forget against retain accuracy shows."""
    if section.reference is None:
        return "Forgetting against retaining, with no retrained model to compare with"
    methods = section.table.of_kind("method")
    damaged = [row.method for row in methods if row.damage is not None]
    gaps = {row.method: section.table.gap(row.method, "forget_accuracy") for row in methods}
    kept = [name for name, gap in gaps.items() if gap and 100 * gap.mean >= FAR_POINTS]
    parts = [f"{_names(damaged, 3)} lost retain accuracy"] if damaged else []
    parts += [f"{_names(kept, 3)} forgot too little"] if kept else []
    if parts:
        return "; ".join(parts)
    finished = [row.method for row in methods if row.seeds]
    if not finished:
        return "No method finished; only the models to compare with are shown"
    who = finished[0] if len(finished) == 1 else f"All {len(finished)} methods"
    return f"{who} forgot and kept retain accuracy to within {FAR_POINTS:.0f} points"


def roc_title(section: Section) -> str:
    """State what the figure of the loss attack's ROC shows."""
    power = section.power
    if power is None or section.reference is None:
        return "The loss attack; its power is unknown, as original or retraining is missing"
    original = section.table.value(ORIGINAL, MIA_AUC)
    retrained = section.table.value(section.reference, MIA_AUC)
    assert original is not None and retrained is not None, "power rests on both"
    aucs = f"AUC {original.mean:.2f} against {retrained.mean:.2f}"
    if uninformative(section):
        return f"The loss attack hardly tells the original from retraining here ({aucs})"
    if power.low is None:
        return f"The loss attack on original and retraining: {aucs}, in one seed"
    return f"The loss attack tells the original from retraining ({aucs})"


def cost_title(section: Section) -> str:
    """State what the figure of cost against distance shows."""
    leader = section.ranking[0]
    ratio = section.table.value(leader.method, TIME_RATIO)
    near = leader.method
    if len(section.ranking) > 1:
        near += ", the nearest to retraining,"
    if ratio is None:
        return f"{near} has no recorded time"
    return f"{near} took {share(ratio.mean)} retraining’s time"


def distance_definition(section: Section) -> str:
    """Say how the distance is computed here."""
    names = _names([section.facts.label(name).lower() for name in section.compared])
    return (
        f"Distance to retraining is the mean absolute gap, in percentage points, to the model "
        f"retrained with the same seed, over {names}. Ideal is retraining’s value, neither more "
        f"nor less."
    )


def positive_control(section: Section) -> list[Note]:
    """Say whether the loss attack can tell even the original from retraining."""
    if all(column != MIA_AUC for _, column in section.table.cells):
        return []
    power = section.power
    if power is None:
        return [
            Note(
                "Membership attack",
                "its power is unknown, since original and retraining were not both measured.",
            )
        ]
    control = f"AUC(original) − AUC(retrain) is {plus_minus(power, 3, sign=True)} (n = {power.n})"
    if power.high is None:
        return [Note("Membership attack", f"{control}; one seed cannot show whether it has power.")]
    if uninformative(section):
        where = "an interval that includes 0" if power.high >= 0 else "below 0"
        return [
            Note(
                "Membership attack uninformative on this task",
                f"{control}, {where}. A value like retraining’s is no evidence of forgetting "
                "here; one beyond the band still tells a model apart.",
            )
        ]
    return [
        Note(
            "Membership attack has power here",
            f"{control}. Ideal is retraining’s AUC; below it is over-forgetting.",
        )
    ]


def uninformative(section: Section) -> bool:
    """Whether the loss attack cannot tell the original from the retrained model here."""
    return section.power is not None and section.power.low is not None and section.power.low <= 0


def _weak_reference(section: Section) -> list[Note]:
    """Say so where retraining itself came out badly, so that distances to it mean little."""
    if section.reference is None:
        return []
    signs = []
    original = section.table.value(ORIGINAL, "test_retain_accuracy")
    retrained = section.table.value(section.reference, "test_retain_accuracy")
    if original and retrained and 100 * (original.mean - retrained.mean) > WEAK_POINTS:
        signs.append(
            f"{section.reference} classifies {100 * retrained.mean:.1f} % of the retained test "
            f"images, the original {100 * original.mean:.1f} %"
        )
    untrained = section.table.value(UNTRAINED, DISTANCE)
    if untrained and section.spread is not None and untrained.mean <= section.spread:
        signs.append(
            f"{UNTRAINED} is as near to it as another retraining, {plus_minus(untrained, 1)} points"
        )
    if not signs:
        return []
    advice = (
        "The reference is not trained as well as the original: distances to it say little; set "
        "recipe (epochs, lr, ...) to what trains this model."
    )
    return [Note("Weak reference", f"{'; '.join(signs)}. {advice}")]


def _damage(section: Section) -> list[Note]:
    damaged = [row for row in section.table.of_kind("method") if row.damage is not None]
    if not damaged:
        return []
    losses = _names([f"{row.method} lost {row.damage:.1f}" for row in damaged], most=30)
    baseline = "retraining" if section.reference is not None else "the original"
    return [Note("Damaged", f"{losses} points of retain accuracy against {baseline}.")]


def _idle(section: Section) -> list[Note]:
    original = section.table.value(ORIGINAL, DISTANCE)
    if original is None:
        return []
    idle = [row.method for row in section.ranking if _distance(section, row).mean >= original.mean]
    if not idle:
        return []
    far = f"no nearer to retraining than the untouched original ({plus_minus(original, 1)} points)"
    return [Note("Nothing gained", f"{_names(idle, most=30)}: {far}.")]


def _confidence(section: Section) -> list[Note]:
    found = []
    seeds = len(section.seeds)
    if not section.values.size:
        return []
    if seeds == 1:
        found.append(
            Note("One seed", "no interval can be given, and any difference may be chance.")
        )
    elif few := descriptive_seeds(section):
        found.append(
            Note(
                "Descriptive only",
                f"{few}; a verdict needs at least {SEEDS_FOR_INFERENCE}. Until then a "
                "method counts as nearer if it is so in every seed, and as told apart if every "
                "seed lies beyond the retrain band on the same side.",
            )
        )
    if section.tied:
        names = _names(section.tied, most=30)
        nearest = section.ranking[0].method
        text = f"{names}; the seeds do not show that {nearest} is nearer to retraining."
        found.append(Note("Tied with the nearest", text))
    if section.spread is not None:
        found.append(
            Note(
                "Yardstick",
                f"two retrainings with different seeds lie {section.spread:.1f} points apart on "
                "average; a method within that is as near as another retraining would be.",
            )
        )
    return found


def _power(section: Section) -> list[Note]:
    """Name the metrics that say nothing here: fooled by a fake, or blind to the original."""
    if len(section.seeds) < 2 or section.reference is None:
        return []
    found = []
    by_fakes: dict[tuple[str, ...], list[str]] = {}
    for column, fakes in fooled(section).items():
        by_fakes.setdefault(fakes, []).append(section.facts.label(column))
    for fakes, columns in by_fakes.items():
        found.append(
            Note(
                "Fooled here",
                f"{_names(columns, most=30)} cannot tell {_names(fakes)}, whose weights have "
                "forgotten nothing, from retraining.",
            )
        )
    for fake in (
        row.method for row in section.table.rows if row.method in section.fakes and row.seeds
    ):
        by = exposing(section, fake)
        judges = [section.facts.label(column) for column in by if column in primary(section)]
        others = [section.facts.label(column) for column in by if column not in primary(section)]
        if judges:
            also = f"; also, without a say in the verdict, by {_names(others, most=30)}"
            text = f"{fake} is told from retraining by {_names(judges, most=30)}"
            found.append(Note("Fake exposed", f"{text}{also if others else ''}."))
        elif others:
            text = (
                f"{fake} is told from retraining by {_names(others, most=30)} alone, which "
                f"{'have' if len(others) > 1 else 'has'} no say in the verdict: no primary metric "
                "tells it."
            )
            found.append(Note("Fake not exposed by a primary metric", text))
        else:
            text = f"no metric tells {fake} from retraining here."
            found.append(Note("Fake not exposed", text))
    blind = [section.facts.label(column) for column in powerless(section)]
    if blind:
        text = f"{_names(blind, most=30)} cannot tell even the original from retraining."
        found.append(Note("No power here", text))
    return found


def _worst_class(section: Section) -> list[Note]:
    worst = [found for found in worst_classes(section) if found.drop.mean >= WORST_CLASS]
    if not worst:
        return []
    named, others = worst[:WORST_NAMED], len(worst) - WORST_NAMED
    text = f"against retraining, {_names([str(found) for found in named], most=WORST_NAMED)}."
    if others > 0:
        methods = "1 other method" if others == 1 else f"{others} other methods"
        text += f" {methods} lost {100 * WORST_CLASS:.0f} points or more: see the map by class."
    return [Note("Worst class", text)]


def _idle_is_nearer(section: Section) -> bool:
    """Whether doing nothing comes as near to retraining as the nearest method."""
    original = section.table.value(ORIGINAL, DISTANCE)
    return original is not None and original.mean <= _distance(section, section.ranking[0]).mean


def _distance(section: Section, row: Row) -> Estimate:
    distance = section.table.value(row.method, DISTANCE)
    assert distance is not None, "only methods with a distance are ranked"
    return distance


def _cost(section: Section, row: Row) -> str:
    ratio = section.table.value(row.method, TIME_RATIO)
    return f", at {share(ratio.mean)} its time" if ratio is not None else ""


def _names(names: Sequence[str], most: int = 4) -> str:
    """Join names as prose, cutting a long list short."""
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} others"]
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
