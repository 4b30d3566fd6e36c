"""What the numbers say, as sentences; every renderer prints these same words."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from unlearn_bench.analysis.estimate import Estimate
from unlearn_bench.analysis.table import ORIGINAL, Row, Section
from unlearn_bench.analysis.verdict import (
    DESCRIPTIVE,
    INDISTINGUISHABLE,
    NO_POWER,
    NONE,
    Verdict,
    detects_original,
    passing_fakes,
    verdicts,
)
from unlearn_bench.report.provenance import Provenance
from unlearn_bench.report.text import format_value, plus_minus, share
from unlearn_bench.results.metrics import BUILT_IN, DISTANCE, MIA_AUC, TIME_RATIO

# Points of forget accuracy above retraining from which a method has left too much behind.
FAR_POINTS = 10.0
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
    """Say in fewer than 14 words how many methods match retraining, and which is nearest.

    Methods that are UNDECIDED are counted on neither side. No method is named where a fake passes
    as well, or where no metric that looks into the model has the power to tell.
    """
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
    if why := blind(section):
        return f"No evidence of forgetting: {why}"
    if _idle_is_nearer(section):
        return "No method came nearer to retraining than the untouched original"
    return _standing(section, leader_of(section))


def _standing(section: Section, leader: Row) -> str:
    # Methods that were tuned with another budget are judged, and not ranked: the leader of the
    # ranking may be told apart while one of them is not.
    name, judged = leader.method, _judged(section)
    if len(section.seeds) == 1 or not judged:
        came = "came nearest to retraining"
        if len(section.ranking) == 1:
            came = f"is {plus_minus(distance(section, leader), 1)} points from retraining"
        return f"One seed: {name} {came}; a verdict needs more seeds"
    matching = [method for method, v in judged.items() if v.verdict == INDISTINGUISHABLE]
    apart = told_apart(section)
    who, total = _with_trouble(leader), len(judged)
    if total == 1:
        (name,) = judged
        (who,) = (_with_trouble(row) for row in section.table.rows if row.method == name)
        if matching:
            return f"{who} is indistinguishable from retraining"
        if not apart:
            return f"{who} cannot be told apart from retraining yet"
        telling = len(judged[name].apart)
        by = f"{telling} metric{'s' * (telling > 1)}" if telling else "all metrics together"
        return f"{who} can be told apart from retraining by {by}"
    if len(apart) == total:
        return f"All {total} methods can be told apart from retraining; nearest: {who}"
    if matching:
        found = f"{len(matching)} of {total} methods {_be(matching)} indistinguishable from"
        near = "nearest" if name in matching else "nearest ranked"
        return f"{found} retraining; {near}: {who}"
    if apart:
        found = f"{len(apart)} of {total} methods {_be(apart)} told apart from retraining"
        near = "nearest undecided" if name in judged.keys() - apart else "nearest ranked"
        return f"{found}; {near}: {who}"
    return f"None of {total} methods is told apart from retraining yet; nearest: {who}"


def _with_trouble(row: Row) -> str:
    damaged = row.damage is not None
    return row.method + (" (damaged)" if damaged else " (incomplete)" * bool(row.failed))


def _be(counted: Collection[str]) -> str:
    return "is" if len(counted) == 1 else "are"


def nearest(section: Section) -> str:
    """Say of the method that the headline names how far it is, at what cost; empty without one."""
    if section.reference is None or not section.ranking or blind(section):
        return ""
    leader = leader_of(section)
    away = f"{plus_minus(distance(section, leader), 1)} points"
    said = f"{leader.method} is {away} from retraining{_cost(section, leader)}"
    original = section.table.value(ORIGINAL, DISTANCE)
    if original is not None and _idle_is_nearer(section):
        said += f"; the original is {plus_minus(original, 1)}"
    if leader.damage is not None:
        said += f"; it lost {leader.damage:.0f} points of retain accuracy"
    if leader.failed:
        total = len(leader.seeds) + len(leader.failed)
        said += f"; it failed in {len(leader.failed)} of {total} seeds"
    return f"{said}."


def _judged(section: Section) -> dict[str, Verdict]:
    """Return the verdicts on methods, where there is one; how they were tuned does not matter."""
    return {v.method: v for v in verdicts(section) if v.kind == "method" and v.verdict != NONE}


def told_apart(section: Section) -> frozenset[str]:
    """Return the methods that the verdict tells apart from retraining."""
    return frozenset(name for name, v in _judged(section).items() if v.told_apart)


def leader_of(section: Section) -> Row:
    """Return the nearest method of those with the best verdict that any method has.

    A method without a verdict, for want of a second seed, leads only where no ranked one has any.
    """
    judged = _judged(section)
    matching = {name for name, v in judged.items() if v.verdict == INDISTINGUISHABLE}
    for group in (matching, judged.keys() - told_apart(section), judged.keys()):
        if found := [row for row in section.ranking if row.method in group]:
            return found[0]
    return section.ranking[0]


def blind(section: Section) -> str:
    """Say why nearness means nothing here, in a few words; empty where it does.

    A fake passes, though every method is told apart; or nothing that looks inside has power. One
    seed has no verdicts: there, a fake counts that is no farther away than the nearest method.
    """
    judged = _judged(section)
    passing = [v for v in judged.values() if not v.told_apart]
    fakes, how = passing_fakes(section), ("passes", "pass")
    if not judged and section.ranking:
        fakes, how = _as_near(section), ("comes as close", "come as close")
    if fakes:
        some = "fakes" if len(fakes) > 1 else "fake"
        too = " too" if passing else ""
        return f"the {some} {in_prose(fakes, 3)} {how[len(fakes) > 1]}{too}"
    powerless = passing and all(NO_POWER in v.missing for v in passing)
    if powerless or not judged and not detects_original(section):
        return "no metric that looks inside has power"
    return ""


def _as_near(section: Section) -> tuple[str, ...]:
    """Name the fakes that are no farther from retraining than the nearest method."""
    least = distance(section, section.ranking[0]).mean
    away = {fake: section.table.value(fake, DISTANCE) for fake in section.fakes}
    return tuple(fake for fake, found in away.items() if found and found.mean <= least)


def overview_headline(sections: Sequence[Section]) -> str:
    """Answer over several sections which method came nearest to retraining most often."""
    if len(sections) == 1:
        return headline(sections[0])
    ranked = [section for section in sections if section.ranking]
    if not ranked:
        return headline(sections[0]) if sections else "No run has finished yet"
    seeing = [section for section in ranked if not blind(section)]
    if not seeing:
        return f"No evidence of forgetting anywhere: {blind(ranked[0])}"
    leaders = Counter(leader_of(s).method for s in seeing if not _idle_is_nearer(s))
    if not leaders:
        return "No method came nearer to retraining than the untouched original, anywhere"
    (name, wins), *others = leaders.most_common()
    rivals = sum(count == wins for _, count in others)
    where = f"in {'all' if wins == len(sections) else f'{wins} of'} {len(sections)} settings"
    if rivals:
        return f"No single method leads: {rivals + 1} each came nearest {where}"
    return f"{name} came nearest to retraining {where}"


def caveat(section: Section) -> str:
    """Say why not being told apart is no evidence here; empty where it is some."""
    said = []
    if any(v.kind == "method" and NO_POWER in v.missing for v in verdicts(section)):
        said.append(
            "No metric that looks into the model distinguishes even the original from retraining "
            "here: "
            "not being told apart is no evidence of forgetting."
        )
    fakes = passing_fakes(section)
    if fakes:
        who, whose = ("fakes", "are") if len(fakes) > 1 else ("fake", "is")
        said.append(
            f"By this rule the {who} {in_prose(fakes)}, whose weights have forgotten nothing, "
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
            + (f" Not run: {in_prose(origin.not_run, most=30)}." if origin.not_run else "")
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
    parts = [f"{in_prose(damaged, 3)} lost retain accuracy"] if damaged else []
    parts += [f"{in_prose(kept, 3)} forgot too little"] if kept else []
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
        return f"The loss attack barely separates the original from retraining here ({aucs})"
    if power.low is None:
        return f"The loss attack on original and retraining: {aucs}, in one seed"
    return f"The loss attack separates the original from retraining ({aucs})"


def cost_title(section: Section) -> str:
    """State what the figure of cost against distance shows."""
    if why := blind(section):
        return f"What each method costs; no evidence of forgetting: {why}"
    leader = section.ranking[0]
    ratio = section.table.value(leader.method, TIME_RATIO)
    near = leader.method
    if len(section.ranking) > 1:
        near += ", at the smallest distance,"
    if ratio is None:
        return f"{near} has no recorded time"
    return f"{near} took {share(ratio.mean)} retraining’s time"


def distance_definition(section: Section) -> str:
    """Say how the distance is computed here."""
    names = in_prose([section.facts.label(name).lower() for name in section.compared])
    return (
        f"Distance to retraining is the mean absolute gap, in percentage points, to the model "
        f"retrained with the same seed, over {names}. Ideal is retraining’s value, neither "
        "higher nor lower."
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
                "here; one outside the band still gives a model away.",
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


def _idle_is_nearer(section: Section) -> bool:
    """Whether doing nothing comes as near to retraining as the nearest method."""
    original = section.table.value(ORIGINAL, DISTANCE)
    return original is not None and original.mean <= distance(section, leader_of(section)).mean


def distance(section: Section, row: Row) -> Estimate:
    """Return the distance to retraining of a method that is ranked."""
    found = section.table.value(row.method, DISTANCE)
    assert found is not None, "only methods with a distance are ranked"
    return found


def _cost(section: Section, row: Row) -> str:
    ratio = section.table.value(row.method, TIME_RATIO)
    return f", at {share(ratio.mean)} its time" if ratio is not None else ""


def in_prose(names: Sequence[str], most: int = 4) -> str:
    """Join names as prose, cutting a long list short."""
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} others"]
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
