"""What the numbers say, as sentences; every renderer prints these same words."""

from collections import Counter
from collections.abc import Sequence

from unlearn_bench.report.estimate import Estimate
from unlearn_bench.report.provenance import Provenance
from unlearn_bench.report.table import (
    DAMAGE_POINTS,
    DISTANCE,
    MIA_AUC,
    ORIGINAL,
    SEEDS_FOR_INFERENCE,
    TIME_RATIO,
    Row,
    Section,
)
from unlearn_bench.report.text import label, plus_minus, share, time_range


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
            f"not told apart from {_names(section.tied)}"
        )
    else:
        finding = f"{name} came nearest to retraining: {away} away{cost}"
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
    ratios = [
        ratio.mean for section in won if (ratio := section.table.value(name, TIME_RATIO)) is not None
    ]
    cost = f", at {time_range(ratios)} % of its time" if ratios else ""
    shared = sum(bool(section.tied) for section in won)
    ties = f"; in {shared} of these other methods are not told apart from it" if shared else ""
    return f"{name} came nearest to retraining in {where} {len(sections)} settings{cost}{ties}"


def notes(section: Section) -> tuple[str, ...]:
    """Say what limits the section's numbers."""
    table = section.table
    found = []
    seeds = len(section.seeds)
    if seeds == 1 and any(row.seeds for row in table.rows):
        found.append(
            "One seed: no interval can be given, and differences may be chance. "
            "Run several seeds to compare methods."
        )
    elif seeds < SEEDS_FOR_INFERENCE:
        found.append(
            f"Descriptive only: {seeds} seeds. A verdict needs at least {SEEDS_FOR_INFERENCE}; "
            "until then a method counts as nearer if it is so in every seed."
        )
    if section.tied:
        found.append(
            f"Not told apart from {section.ranking[0].method} by these seeds: "
            f"{_names(section.tied)}."
        )
    if section.spread is not None:
        found.append(
            f"Two retrainings with different seeds lie {section.spread:.1f} points apart on "
            "average: a method within that is as near as another retraining would be."
        )
    original = table.value(ORIGINAL, DISTANCE)
    if original is not None:
        idle = [row.method for row in section.ranking if _distance(section, row).mean >= original.mean]
        if idle:
            found.append(
                f"No nearer to retraining than the untouched original "
                f"({plus_minus(original, 1)} points): {_names(idle)}."
            )
    damaged = [row for row in table.of_kind("method") if row.damage is not None]
    if damaged:
        losses = _names([f"{row.method} (−{row.damage:.1f} points)" for row in damaged])
        baseline = "retraining" if section.reference is not None else "the original"
        found.append(
            f"Damaged: {losses} lost {DAMAGE_POINTS:.0f} points or more of retain accuracy "
            f"against {baseline}."
        )
    found.extend(_membership(section))
    return tuple(found)


def run_gaps(origin: Provenance) -> tuple[str, ...]:
    """Say which planned runs have no result, and why."""
    found = []
    if origin.failed:
        found.append(
            f"{origin.failed} of {origin.planned} runs failed; the reasons stand with their section."
        )
    if origin.missing:
        found.append(
            f"{origin.missing} of {origin.planned} planned runs have no result: the suite was "
            "interrupted or has not ended. The same command continues it."
        )
    return tuple(found)


def accuracy_title(section: Section) -> str:
    """State what the figure of forget against retain accuracy shows."""
    methods = [row for row in section.table.of_kind("method") if row.seeds]
    damaged = [row.method for row in methods if row.damage is not None]
    if damaged:
        verb = "gave up retain accuracy to forget" 
        return f"{_names(damaged, most=2)} {verb}"
    if section.reference is None:
        return "Forgetting against retaining, without a retrained model to compare with"
    kept = [row for row in methods]
    return (
        f"{kept[0].method} kept its retain accuracy"
        if len(kept) == 1
        else f"All {len(kept)} methods kept retain accuracy within {DAMAGE_POINTS:.0f} points"
    )


def cost_title(section: Section) -> str:
    """State what the figure of cost against distance shows."""
    leader = section.ranking[0]
    ratio = section.table.value(leader.method, TIME_RATIO)
    near = f"{leader.method}, the nearest to retraining," if len(section.ranking) > 1 else leader.method
    if ratio is None:
        return f"{near} has no recorded time"
    return f"{near} took {share(ratio.mean)} retraining’s time"


def distance_definition(section: Section) -> str:
    """Say how the distance is computed here."""
    names = _names([label(name).lower() for name in section.compared])
    return (
        f"Distance to retraining is the mean absolute gap, in percentage points, to the model "
        f"retrained with the same seed, over {names}. Ideal is retraining’s value, neither more "
        f"nor less."
    )


def uninformative(section: Section) -> bool:
    """Whether the loss attack cannot tell the original from the retrained model here."""
    return section.power is not None and section.power.low is not None and section.power.low <= 0


def _membership(section: Section) -> Sequence[str]:
    if section.table.value(ORIGINAL, MIA_AUC) is None and not any(
        column == MIA_AUC for _, column in section.table.cells
    ):
        return ()
    found = []
    power = section.power
    if power is None:
        found.append(
            "Membership attack: its power is unknown, since original and retraining were not "
            "both measured."
        )
    elif power.half_width is None:
        found.append(
            f"Membership attack: AUC(original) − AUC(retrain) is {plus_minus(power, 3, sign=True)} "
            "in one seed, which cannot show whether the attack has power here."
        )
    elif uninformative(section):
        found.append(
            f"Membership attack uninformative on this task: AUC(original) − AUC(retrain) is "
            f"{plus_minus(power, 3, sign=True)} (n = {power.n}), an interval that "
            f"{'includes' if (power.high or 0) >= 0 else 'lies below'} 0. Its values say nothing "
            "about forgetting."
        )
    else:
        found.append(
            f"Membership attack has power here: AUC(original) − AUC(retrain) is "
            f"{plus_minus(power, 3, sign=True)} (n = {power.n}). Compare with retraining’s AUC; "
            "below it is over-forgetting."
        )
    missing = {column for _, column in section.unresolved}
    rates = [column for column in section.table.columns if column in missing]
    if rates:
        floor = section.table.value(section.reference or ORIGINAL, "mia_loss_resolvable_fpr")
        smallest = f" (smallest resolvable rate: {100 * floor.mean:.2g} %)" if floor else ""
        found.append(
            f"Too few examples to resolve: {_names([label(rate) for rate in rates])}{smallest}."
        )
    return found


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
