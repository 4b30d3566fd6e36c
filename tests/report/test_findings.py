"""The sentences on top of a report: which finding leads, and in how many words."""

import re

import pytest

from unlearn_bench.analysis.table import sections
from unlearn_bench.report.findings import cost_title, headline, overview_headline, worst_classes
from unlearn_bench.report.glance import glance
from unlearn_bench.report.limits import notes
from unlearn_bench.results.ratios import with_time_ratios
from unlearn_bench.results.records import Record, table

AT_RETRAIN = {
    "forget_accuracy": 0.0,
    "retain_accuracy": 1.0,
    "test_forget_accuracy": 0.0,
    "test_retain_accuracy": 0.9,
    "probe_recall": 0.5,
}


@pytest.fixture
def suite(run):
    """Build sections from forget gaps in points, per method and seed (None: not run)."""

    def build(gaps, original=100.0, seconds=1.0, scenario="class:8", **other):
        runs = []
        for seed in range(len(next(iter(gaps.values())))):
            common = {"seed": seed, "scenario": scenario}
            runs.append(run("retrain", kind="reference", wall_seconds=10.0, **common, **AT_RETRAIN))
            idle = AT_RETRAIN | {"forget_accuracy": original / 100, "probe_recall": 0.9}
            runs.append(run("original", kind="control", wall_seconds=0.01, **common, **idle))
            for name, points in gaps.items():
                if (away := points[seed]) is None:
                    continue
                values = AT_RETRAIN | {"forget_accuracy": away / 100} | other
                runs.append(run(name, wall_seconds=seconds, **common, **values))
        return sections(with_time_ratios(table(runs)))

    return build


def text(section):
    return " ".join(map(str, notes(section)))


def test_headline_leads_with_the_count_and_a_note_has_distance_and_cost(suite):
    (section,) = suite({"pbu": (4, 4, 4), "finetune": (40, 40, 40)})
    assert headline(section) == "All 2 methods can be told apart from retraining; nearest: pbu"
    assert "Nearest: pbu is 1.0 ± 0.0 points from retraining, at 10 % of its time." in text(section)


@pytest.mark.parametrize("original", [100.0, 8.0])
@pytest.mark.parametrize("kept", [1.0, 0.6])
@pytest.mark.parametrize(
    "gaps",
    [
        {"pbu": (4,)},
        {"pbu": (4,), "finetune": (40,)},
        {"pbu": (4, 4, 4)},
        {"pbu": (4, 4, 4), "finetune": (40, 40, 40)},
        {"pbu": (0, 0, 0), "finetune": (40, 40, 40)},
    ],
)
def test_headlines_have_fewer_than_14_words(suite, gaps, kept, original):
    one = suite(gaps, original, retain_accuracy=kept)
    two = suite(gaps, original, retain_accuracy=kept, scenario="class:2")
    for found in (headline(*one), overview_headline([*one, *two])):
        assert len(found.split()) < 14, found


def test_a_tie_is_not_called_what_the_verdicts_call_indistinct(suite):
    (section,) = suite({"pbu": (4, 4, 4), "other": (2, 8, 8)})
    assert "Tied with the nearest: other; the seeds do not show that pbu is nearer" in text(section)
    assert "not told apart" not in (text(section) + headline(section)).lower()


@pytest.mark.parametrize(
    ("finished", "said"),
    [
        ({"far": (40, 40, 40)}, "far can be told apart from retraining by 1 metric"),
        ({"far": (40, 40, 40), "farther": (60, 60, 60)}, "All 2 methods can be told apart"),
        ({"same": (0, 0, 0)}, "same cannot be told apart from retraining yet"),
        ({"same": (0, 0, 0), "far": (40, 40, 40)}, "nearest undecided: same"),
    ],
)
def test_a_method_with_a_single_seed_does_not_lead_those_that_have_a_verdict(suite, finished, said):
    (section,) = suite({"near": (1, None, None), **finished})
    assert [row.method for row in section.ranking if len(row.seeds) == 1] == ["near"]
    assert said in headline(section)
    assert "near is" not in text(section)


@pytest.fixture
def with_drops(run):
    """Build a section from drops by class, in points, of two seeds per method."""

    def build(drops):
        runs = [run("retrain", s, kind="reference", **AT_RETRAIN) for s in (0, 1)]
        for method, seeds in drops.items():
            for seed, of_seed in enumerate(seeds):
                records = tuple(Record("class_drop", c, d / 100) for c, d in of_seed.items())
                worst = max(of_seed.values()) / 100
                runs.append(
                    run(method, seed, records=records, worst_class_drop=worst, **AT_RETRAIN)
                )
        (section,) = sections(table(runs))
        return section

    return build


def test_the_worst_class_is_told_by_the_metric_that_the_appendix_prints(with_drops):
    # Another class is worst in each seed: the mean of the largest drops is no drop of a mean.
    section = with_drops({"pbu": [{"cat": 4.0, "dog": 1.0}, {"cat": 1.0, "dog": 3.0}]})
    (worst,) = worst_classes(section)
    assert worst.drop == section.table.value("pbu", "worst_class_drop")
    assert (round(100 * worst.drop.mean, 6), worst.name) == (3.5, "cat")
    (fact,) = [fact for fact in glance(section).facts if fact.lead == "Worst class"]
    assert fact.text.startswith("pbu lost 3.5 ± 6.4 points (class cat), on test examples")


def test_of_many_damaged_methods_the_worst_five_are_named(with_drops):
    section = with_drops({f"m{i}": [{"cat": 3.0 * i}] * 2 for i in range(8)})
    (note,) = [note for note in notes(section) if note.lead == "Worst class"]
    assert note.text.count("class cat") == 5 and "m3 lost" in note.text and "m2" not in note.text
    assert note.text.index("m7 lost 21.0") < note.text.index("m6 lost 18.0")
    assert note.text.endswith("2 other methods lost 2 points or more: see the map by class.")


def test_the_note_says_among_whom_the_named_method_is_nearest(suite):
    (section,) = suite({"pbu": (4, 4, 4), "finetune": (40, 40, 40)})
    assert "Nearest: pbu" in text(section)
    (section,) = suite({"near": (0, 4, 0), "far": (40, 40, 40)})
    said = "1 of 2 methods is told apart from retraining; nearest undecided: near"
    assert headline(section) == said
    assert "Nearest of those not told apart: near" in text(section)


def test_headline_admits_a_single_seed(suite):
    (section,) = suite({"pbu": (4,), "finetune": (40,)})
    assert (
        headline(section) == "One seed: pbu came nearest to retraining; a verdict needs more seeds"
    )
    assert "±" not in headline(section)
    assert "One seed: no interval can be given" in text(section)


def test_headline_says_when_doing_nothing_is_as_near(suite):
    (section,) = suite({"pbu": (12, 12)}, original=8.0)
    assert headline(section) == "No method came nearer to retraining than the untouched original"
    assert re.search("Nearest: pbu is [^;]*; the original is 2.0 ± 0.0", text(section))
    assert "Nothing gained: pbu" in text(section)


def test_headline_says_when_the_nearest_lost_retain_accuracy(suite):
    (section,) = suite({"pbu": (0, 0)}, retain_accuracy=0.6)
    assert "pbu (damaged)" in headline(section)
    assert "; it lost 40 points of retain accuracy." in text(section)
    assert "Damaged: pbu lost 40.0 points" in text(section)


def test_cost_above_retraining_is_given_in_times(suite):
    (section,) = suite({"pbu": (4, 4)}, seconds=25.0)
    assert "points from retraining, at 2.5 times its time." in text(section)


def test_headline_without_retraining_gives_no_distance(run):
    (absent,) = sections(table([run("pbu", **AT_RETRAIN)]))
    assert headline(absent) == "No distance can be given: retraining was not run"
    failed = run("retrain", kind="reference", error="boom")
    (broken,) = sections(table([failed, run("pbu", **AT_RETRAIN)]))
    assert headline(broken) == "No distance can be given: retraining failed"


def test_headline_when_everything_failed(run):
    (section,) = sections(table([run("pbu", error="boom")]))
    assert headline(section).startswith("No run has finished")


def test_results_on_too_few_seeds_are_called_descriptive(suite):
    (few,) = suite({"pbu": (4,) * 5})
    (enough,) = suite({"pbu": (4,) * 6})
    assert "Descriptive only: 5 seeds" in text(few)
    assert "Descriptive only" not in text(enough)


@pytest.mark.parametrize(
    ("original", "said"),
    [
        ((0.50, 0.55, 0.48), "uninformative on this task"),
        ((0.70, 0.71, 0.72), "has power here"),
        ((0.70,), "one seed cannot show"),
    ],
)
def test_membership_attack_is_judged_by_its_positive_control(run, original, said):
    runs = []
    for seed, auc in enumerate(original):
        runs.append(run("retrain", seed, kind="reference", mia_loss_auc=0.5, **AT_RETRAIN))
        runs.append(run("original", seed, kind="control", mia_loss_auc=auc, **AT_RETRAIN))
    (section,) = sections(table(runs))
    assert said in text(section)


@pytest.mark.parametrize(
    ("name", "label", "original", "said"),
    [
        ("confusion_rate", "Confusion rate", (0.21, 0.24, 0.26), "has power here"),
        ("attack_success", "Attack success", (0.05, 0.02, 0.00), "uninformative on this task"),
        ("attack_success", "Attack success", (0.9,), "one seed cannot show"),
    ],
)
def test_what_was_changed_before_training_is_judged_by_original_and_retraining(
    run, name, label, original, said
):
    runs = []
    for seed, rate in enumerate(original):
        runs.append(run("retrain", seed, kind="reference", **{name: 0.02}, **AT_RETRAIN))
        runs.append(run("original", seed, kind="control", **{name: rate}, **AT_RETRAIN))
    (section,) = sections(table(runs))
    (note,) = [note for note in map(str, notes(section)) if note.startswith(label)]
    assert said in note and "retrain 2.0 %" in note
    mean = 100 * sum(original) / len(original)
    assert f"original {mean:.1f} %, retrain 2.0 %" in note


@pytest.mark.parametrize(
    ("retrained", "untrained", "said"),
    [
        (0.89, 0.1, None),
        (0.63, 0.1, "classifies 62.0 % of the retained test images, the original 97.0 %"),
        (0.96, 0.955, "random_init is as near to it as another retraining"),
    ],
)
def test_a_reference_that_is_hardly_trained_is_told(run, retrained, untrained, said):
    runs = []
    for seed in range(2):
        for method, kind, accuracy in (
            ("retrain", "reference", retrained - 0.02 * seed),
            ("original", "control", 0.97),
            ("random_init", "control", untrained - 0.02 * seed),
            ("pbu", "method", 0.9),
        ):
            values = AT_RETRAIN | {"test_retain_accuracy": accuracy}
            runs.append(run(method, seed, kind=kind, wall_seconds=1.0, **values))
    (section,) = sections(with_time_ratios(table(runs)))
    found = [note for note in notes(section) if note.lead == "Weak reference"]
    assert bool(found) == (said is not None)
    assert all(said in note.text and "set recipe" in note.text for note in found)


def test_overview_counts_settings(suite):
    first = suite({"pbu": (4, 4), "other": (40, 40)}, scenario="class:1")
    second = suite({"pbu": (4, 4), "other": (40, 40)}, scenario="class:2", seconds=2.0)
    third = suite({"pbu": (40, 40), "other": (4, 4)}, scenario="class:3")
    assert overview_headline([*first, *second, *third]) == (
        "pbu came nearest to retraining in 2 of 3 settings"
    )
    assert overview_headline([*first, *third]) == (
        "No single method leads: 2 each came nearest in 1 of 2 settings"
    )


def test_overview_of_nothing_says_so():
    assert overview_headline([]) == "No run has finished yet"


def test_methods_that_left_every_hidden_layer_alone_are_named(suite, run):
    changed = {"finetune": (1.0, 1.0), "head": (0.1, 0.0), "other": (0.1, 0.0), "fake": (0.0, 0.0)}
    runs = [run("retrain", kind="reference", **AT_RETRAIN)]
    for name, (layers, hidden) in {**changed, "original": (0.0, 0.0)}.items():
        more = {"layers_changed": layers, "hidden_layers_changed": hidden}
        runs.append(run(name, **AT_RETRAIN, **more))
    (section,) = sections(table(runs))
    assert "Weights changed: the head only by head and other; nothing by fake." in text(section)
    (section,) = suite({"pbu": (4, 4, 4)})
    assert "Weights changed" not in text(section)


@pytest.fixture
def with_fake(run):
    """Build a section whose fake is as far from retraining as is said, in points, per seed."""

    def build(fake, method, power=0.9):
        runs = []
        for seed, (hidden, forgot) in enumerate(zip(fake, method, strict=True)):
            runs.append(run("retrain", seed, kind="reference", wall_seconds=10.0, **AT_RETRAIN))
            idle = AT_RETRAIN | {"forget_accuracy": 1.0, "probe_recall": power}
            runs.append(run("original", seed, kind="control", **idle))
            for name, kind, points in (("logit_mask", "control", hidden), ("pbu", "", forgot)):
                values = AT_RETRAIN | {"forget_accuracy": points / 100, "wall_seconds": 1.0}
                runs.append(run(name, seed, kind=kind or "method", **values))
        return sections(with_time_ratios(table(runs)))[0]

    return build


NOBODY = "No evidence of forgetting: the fake logit_mask"


def test_nobody_is_named_where_a_fake_passes_though_all_methods_are_told_apart(with_fake):
    section = with_fake((0, 0, 0), (4, 4, 4))
    assert headline(section) == f"{NOBODY} passes"
    assert "pbu" not in cost_title(section)
    assert not any("pbu" in str(fact) for fact in glance(section).facts if fact.lead == "Cost")


def test_with_one_seed_nobody_is_named_where_a_fake_is_as_near(with_fake):
    assert headline(with_fake((4,), (4,))) == f"{NOBODY} comes as close"
    assert headline(with_fake((40,), (4,))).startswith("One seed: pbu")


def test_with_one_seed_nobody_is_named_where_nothing_that_looks_inside_has_power(with_fake):
    section = with_fake((40,), (4,), power=0.5)
    assert headline(section) == "No evidence of forgetting: no metric that looks inside has power"
    assert "pbu" not in cost_title(section)
