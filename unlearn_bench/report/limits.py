"""What limits a section's numbers, as notes: damage, few seeds, a weak reference, blind metrics."""

import itertools
from collections.abc import Sequence

from unlearn_bench.analysis.table import ORIGINAL, Section
from unlearn_bench.analysis.verdict import NEEDED, exposing, fooled, powerless, primary, verdicts
from unlearn_bench.report.findings import (
    Note,
    descriptive_seeds,
    distance,
    in_prose,
    leader_of,
    nearest,
    positive_control,
    told_apart,
    worst_classes,
)
from unlearn_bench.report.text import plus_minus
from unlearn_bench.report.weights import weights_changed
from unlearn_bench.results.metrics import DISTANCE
from unlearn_bench.results.targeted import EFFECTS

# Points of test retain accuracy below the original's from which a reference is no yardstick: seeds
# and the missing data explain a few.
WEAK_POINTS = 10.0
# Share of a class's test examples from which its loss is told by name, of so many methods.
WORST_CLASS, WORST_NAMED = 0.02, 5

UNTRAINED = "random_init"

# Drawn of a suite: settings in their order, methods from the nearest on, seeds as small marks.
MOST_SETTINGS, MOST_METHODS, MOST_SEEDS = 8, 40, 50
# Of all settings drawn together; a line takes about a tenth of a second in all its figures.
MOST_LINES = 135
# So many settings are drawn however many lines they have: a suite that is read setting by setting.
FEW_SETTINGS = 6


def lines_drawn(section: Section) -> int:
    """Return at most how many lines of a setting's table its figures show."""
    return min(len(section.table.rows), 2 * MOST_METHODS)


def settings_drawn(sections: Sequence[Section]) -> int:
    """Return how many settings have figures of their own: few have all, of many the first ones."""
    if len(sections) <= FEW_SETTINGS:
        return len(sections)
    lines = itertools.accumulate(map(lines_drawn, sections))
    fit = sum(total <= MOST_LINES for total in lines)
    return min(MOST_SETTINGS, max(1, fit), len(sections))


def not_drawn(place: int, sections: Sequence[Section]) -> tuple[Note, ...]:
    """Say so where a setting, counted from 0, has no figures of its own."""
    drawn = settings_drawn(sections)
    if place < drawn:
        return ()
    text = f"figures are drawn of the first {drawn} of {len(sections):,} settings."
    return (Note("Not drawn", text),)


def notes(section: Section) -> tuple[Note, ...]:
    """Say which method is nearest, then what limits the numbers, the gravest first."""
    found = [
        *_nearest(section),
        *_weak_reference(section),
        *_unequal_budgets(section),
        *_damage(section),
        *_idle(section),
        *_confidence(section),
        *positive_control(section),
        *_targeted(section),
        *_power(section),
        *_worst_class(section),
        *weights_changed(section),
    ]
    for reason in dict.fromkeys(section.unresolved.values()):
        missing = {column for (_, column), why in section.unresolved.items() if why == reason}
        rates = [
            section.facts.label(column) for column in section.table.columns if column in missing
        ]
        floor = section.table.value(section.reference or ORIGINAL, "mia_loss_resolvable_fpr")
        few = floor is not None and reason == "too few examples"
        smallest = f" (smallest resolvable FPR {100 * floor.mean:.2g} %)" if floor and few else ""
        found.append(Note("Unresolved", f"{reason} for {in_prose(rates)}{smallest}."))
    return tuple(found)


def _unequal_budgets(section: Section) -> list[Note]:
    """Say so where tuned and untuned methods stand side by side."""
    if not section.unranked or not section.origins:
        return []
    first = section.origins.get(section.ranking[0].method, ("", False))[1]
    which, other = ("tuned", "not") if first else ("untuned", "tuned")
    names = in_prose([row.method for row in section.unranked], most=30)
    text = (
        f"{names} {'was' if len(section.unranked) == 1 else 'were'} {other} "
        f"{'tuned' if first else 'before'}, unlike the "
        f"{len(section.ranking)} {which} methods: only these are ranked and highlighted."
    )
    return [Note("Unequal budgets", text)]


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
        "The reference is trained worse than the original, so distances to it say little; "
        "set recipe (epochs, lr, ...) to what trains this model."
    )
    return [Note("Weak reference", f"{'; '.join(signs)}. {advice}")]


def _nearest(section: Section) -> list[Note]:
    said = nearest(section)
    if not said:
        return []
    # Another may be nearer still and be told apart: the verdict says which question this answers.
    apart = told_apart(section)
    some_pass = any(v.kind == "method" and not v.told_apart for v in verdicts(section))
    lead = "Nearest"
    if apart and some_pass:
        # Methods of another tuning budget are judged and not ranked.
        ranked = leader_of(section).method in apart
        lead += " of those ranked" if ranked else " of those not told apart"
    return [Note(lead, said)]


def _damage(section: Section) -> list[Note]:
    damaged = [row for row in section.table.of_kind("method") if row.damage is not None]
    if not damaged:
        return []
    losses = in_prose([f"{row.method} lost {row.damage:.1f}" for row in damaged], most=30)
    baseline = "retraining" if section.reference is not None else "the original"
    return [Note("Damaged", f"{losses} points of retain accuracy against {baseline}.")]


def _idle(section: Section) -> list[Note]:
    original = section.table.value(ORIGINAL, DISTANCE)
    if original is None:
        return []
    idle = [row.method for row in section.ranking if distance(section, row).mean >= original.mean]
    if not idle:
        return []
    far = f"no nearer to retraining than the untouched original ({plus_minus(original, 1)} points)"
    return [Note("Nothing gained", f"{in_prose(idle, most=30)}: {far}.")]


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
                f"{few}; a verdict needs {NEEDED}. Until then a method counts as told apart if "
                "every seed lies beyond the retrain band on the same side.",
            )
        )
    if section.tied:
        names = in_prose(section.tied, most=30)
        first = section.ranking[0].method
        text = f"{names}; the seeds do not show that {first} is nearer to retraining."
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


def _targeted(section: Section) -> list[Note]:
    """Say whether what a scenario changed before training can be seen in the original at all."""
    found = []
    for name in EFFECTS:
        rates = [
            section.table.value(row, name) for row in (section.original, section.reference or "")
        ]
        power = section.table.gap(section.original, name)
        if power is None or None in rates:
            continue
        original, retrained = (100 * rate.mean for rate in rates if rate)
        label, power = section.facts.label(name), power.scaled(100)
        text = (
            f"original {original:.1f} %, {section.reference} {retrained:.1f} %, a difference of "
            f"{plus_minus(power, 1, sign=True)} points (n = {power.n})"
        )
        if power.low is None:
            found.append(Note(label, f"{text}; one seed cannot show whether it has power."))
        elif power.low > 0:
            found.append(Note(f"{label} has power here", f"{text}. Ideal is retraining’s rate."))
        else:
            text += (
                ", an interval that includes 0" if power.high and power.high >= 0 else ", below 0"
            )
            found.append(
                Note(
                    f"{label} uninformative on this task",
                    f"{text}. A rate like retraining’s is no evidence of forgetting here.",
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
                f"{in_prose(columns, most=30)} cannot distinguish {in_prose(fakes)}, whose "
                "weights have forgotten nothing, from retraining.",
            )
        )
    for fake in (
        row.method for row in section.table.rows if row.method in section.fakes and row.seeds
    ):
        by = exposing(section, fake)
        judges = [section.facts.label(column) for column in by if column in primary(section)]
        others = [section.facts.label(column) for column in by if column not in primary(section)]
        if judges:
            also = f"; also, without a say in the verdict, by {in_prose(others, most=30)}"
            text = f"{fake} is told apart from retraining by {in_prose(judges, most=30)}"
            found.append(Note("Fake exposed", f"{text}{also if others else ''}."))
        elif others:
            text = (
                f"{fake} is told apart from retraining by {in_prose(others, most=30)} alone, which "
                f"{'have' if len(others) > 1 else 'has'} no say in the verdict: no primary "
                "metric detects it."
            )
            found.append(Note("Fake not exposed by a primary metric", text))
        else:
            text = f"no metric distinguishes {fake} from retraining here."
            found.append(Note("Fake not exposed", text))
    blind = [section.facts.label(column) for column in powerless(section)]
    if blind:
        text = f"{in_prose(blind, most=30)} cannot distinguish even the original from retraining."
        found.append(Note("No power here", text))
    return found


def _worst_class(section: Section) -> list[Note]:
    worst = [found for found in worst_classes(section) if found.drop.mean >= WORST_CLASS]
    if not worst:
        return []
    named, others = worst[:WORST_NAMED], len(worst) - WORST_NAMED
    text = f"against retraining, {in_prose([str(found) for found in named], most=WORST_NAMED)}."
    if others > 0:
        methods = "1 other method" if others == 1 else f"{others} other methods"
        text += f" {methods} lost {100 * WORST_CLASS:.0f} points or more: see the map by class."
    return [Note("Worst class", text)]
