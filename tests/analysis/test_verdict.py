"""Verdicts on invented runs: retrainings, fakes, and what is missing."""

import csv
import random
from dataclasses import replace

import pytest

from unlearn_bench.analysis.table import sections
from unlearn_bench.analysis.verdict import (
    NO_POWER,
    distinguished,
    exposing,
    fooled,
    passing_fakes,
    powerless,
    primary,
    verdicts,
)
from unlearn_bench.report import write_report
from unlearn_bench.report.findings import caveat, headline
from unlearn_bench.report.glance import glance
from unlearn_bench.report.limits import notes
from unlearn_bench.report.text import band_reading, band_table
from unlearn_bench.results.facts import BUILT_IN_FACTS, facts_of
from unlearn_bench.results.records import Record, table

# Mean and spread over seeds of a retraining, and what the original has instead.
RETRAINED = {
    "test_retain_accuracy": (0.90, 0.004),
    "test_forget_accuracy": (0.0, 0.0),
    "forget_accuracy": (0.0, 0.0),
    "mia_loss_auc": (0.50, 0.01),
    "probe_recall": (0.60, 0.02),
    "relearn_time_features": (60.0, 4.0),
    "bn_recovery": (0.0, 0.0),
    "input_recovery": (0.0, 0.0),
}
KNOWING = {
    "test_forget_accuracy": 0.88,
    "forget_accuracy": 1.0,
    "mia_loss_auc": 0.75,
    "probe_recall": 0.85,
    "relearn_time_features": 10.0,
    "bn_recovery": 1.0,
    "input_recovery": 1.0,
}
# Untouched weights with the class hidden behind the output.
FAKE = {name: KNOWING[name] for name in ("probe_recall", "relearn_time_features")}


@pytest.fixture
def section(run):
    def make(seeds, facts=BUILT_IN_FACTS, controls=(), **rows):
        rng = random.Random(3)
        kinds = {"retrain": "reference", "pbu": "method"} | dict.fromkeys(controls, "control")
        known = {"retrain": {}, "retrain_other_seed": {}, "original": KNOWING, "logit_mask": FAKE}
        runs = []
        for method, changed in (known | rows).items():
            for seed in range(seeds):
                values = {
                    name: changed.get(name, mean) + rng.gauss(0, spread)
                    for name, (mean, spread) in RETRAINED.items()
                    if changed.get(name, mean) is not None
                }
                records = [
                    Record("bn_recovery", split, values["bn_recovery"])
                    for split in ("forget", "test_forget")
                    if "bn_recovery" in values
                ]
                values.pop("bn_recovery", None)
                values |= {"zrf": changed.get("zrf", 0.9)}
                kind = kinds.get(method, "control" if method in known else "method")
                runs.append(run(method, seed, kind=kind, records=tuple(records), **values))
        (only,) = sections(table(runs), facts)
        return only

    return make


def by_method(section):
    return {v.method: v for v in verdicts(section)}


def test_another_retraining_cannot_be_told_from_retraining(section):
    found = by_method(section(64, pbu={}))
    assert found["pbu"].verdict == found["retrain_other_seed"].verdict == "INDISTINGUISHABLE"
    assert found["pbu"].p_value > 0.05
    assert found["pbu"].nearness <= 1 and found["pbu"].nearness_auc <= 0.75


def test_a_difference_is_named(section):
    found = by_method(section(8, pbu={"probe_recall": 0.85}))
    assert found["pbu"].verdict == "DISTINGUISHABLE" and found["pbu"].apart == ("probe_recall",)
    assert set(found["logit_mask"].apart) == {"probe_recall", "relearn_time_features"}
    assert "forget_accuracy" in found["original"].apart
    assert found["pbu"].p_value < 0.01 and found["pbu"].worst == "probe_recall"


def test_what_is_neither_is_undecided_and_says_how_near(section):
    found = by_method(section(4, pbu={}))["pbu"]
    assert found.verdict == "UNDECIDED" and found.p_value > 0.05
    assert 1 < found.nearness < 9
    assert found.missing[0].endswith(f"may be {found.nearness:.1f} spreads away, over 1")


def test_more_retrainings_of_a_seed_sharpen_the_verdict(section):
    more = {f"retrain_other_seed-{number}": {} for number in (2, 3)}
    few, many = (
        by_method(section(3, controls=tuple(extra), pbu={"probe_recall": 0.64}, **extra))["pbu"]
        for extra in ({}, more)
    )
    assert many.p_value < few.p_value and many.nearness < few.nearness


def test_further_retrainings_that_hardly_ran_cost_no_seeds(section):
    found = section(8, pbu={"probe_recall": 0.9}, retrain_other_seed=dict.fromkeys(RETRAINED))
    assert by_method(found)["pbu"].seeds == 8
    assert by_method(found)["pbu"].verdict == "DISTINGUISHABLE"


def test_an_unmeasured_metric_is_no_success(section):
    found = by_method(section(24, pbu={"probe_recall": None}))["pbu"]
    assert found.verdict == "UNDECIDED" and "probe_recall was not measured" in found.missing


def test_without_power_nothing_is_indistinguishable(section):
    blind = {"mia_loss_auc": 0.5, "probe_recall": 0.6, "relearn_time_features": 60.0}
    found = section(24, original=KNOWING | blind, pbu={})
    assert set(powerless(found)) >= set(blind)
    verdict = by_method(found)["pbu"]
    assert verdict.verdict == "UNDECIDED" and any("power" in text for text in verdict.missing)


@pytest.mark.parametrize(("seeds", "word"), [(1, "no verdict"), (2, "descriptive only")])
def test_few_seeds_give_no_verdict(section, seeds, word):
    found = by_method(section(seeds, pbu={"forget_accuracy": 1.0}))["pbu"]
    assert found.verdict == word and found.p_value is None and found.nearness is None
    assert found.apart == (("forget_accuracy",) if seeds > 1 else ())
    assert any("seed" in text for text in found.missing)


def test_three_seeds_tell_what_is_far_off(section):
    found = by_method(section(3, pbu={"forget_accuracy": 1.0}))["pbu"]
    assert found.verdict == "DISTINGUISHABLE" and found.apart == ("forget_accuracy",)
    assert found.p_value == pytest.approx(1 / 27)


def test_without_a_second_retraining_six_seeds_are_needed(section):
    found = {
        seeds: by_method(
            section(
                seeds, pbu={"forget_accuracy": 1.0}, retrain_other_seed=dict.fromkeys(RETRAINED)
            )
        )["pbu"]
        for seeds in (5, 6)
    }
    assert found[5].verdict == "descriptive only" and found[5].missing == ("1 more seed",)
    assert found[6].verdict == "DISTINGUISHABLE"


def test_few_seeds_without_power_are_no_evidence_either(section):
    blind = {"mia_loss_auc": 0.5, "probe_recall": 0.6, "relearn_time_features": 60.0}
    found = section(3, original=KNOWING | blind, logit_mask={}, pbu={}, far=KNOWING | blind)
    pbu, far = by_method(found)["pbu"], by_method(found)["far"]
    assert pbu.verdict == "UNDECIDED" and NO_POWER in pbu.missing
    assert far.apart and far.missing == ()
    assert passing_fakes(found) == ("logit_mask",)
    assert caveat(found) == (
        "No metric that looks into the model distinguishes even the original from retraining "
        "here: not "
        "being told apart is no evidence of forgetting. By this rule the fake logit_mask, whose "
        "weights have forgotten nothing, is not told apart either."
    )
    assert glance(found).standing.endswith(caveat(found))


def test_with_power_and_the_fakes_exposed_there_is_no_caveat(section):
    found = section(3, pbu={})
    assert NO_POWER not in by_method(found)["pbu"].missing
    assert caveat(found) == "" and passing_fakes(found) == ()


def test_an_original_that_failed_shows_no_power(section):
    found = by_method(section(24, original=dict.fromkeys(RETRAINED), pbu={}))["pbu"]
    assert found.verdict == "UNDECIDED" and NO_POWER in found.missing


def test_a_utility_metric_lacks_no_power(section):
    found = section(3, pbu={})
    assert "test_retain_accuracy" not in powerless(found)
    assert "Test retain accuracy" not in " ".join(map(str, notes(found)))


def test_a_fake_that_only_a_secondary_metric_tells_is_not_called_exposed(section):
    found = section(3, logit_mask={"zrf": 0.5}, original=KNOWING | {"zrf": 0.5}, pbu={})
    said = {note.lead: note.text for note in notes(found)}
    assert "Fake exposed" not in said
    assert said["Fake not exposed by a primary metric"] == (
        "logit_mask is told apart from retraining by ZRF alone, which has no say in the verdict: "
        "no primary metric detects it."
    )


def test_fooled_metrics_are_marked_where_methods_are_compared(section):
    found = section(3, pbu={})
    names = {row[0] for row in glance(found).comparisons[0].rows}
    assert "Forget accuracy, % ‡" in names and "Linear probe recall, %" in names
    assert "Forget accuracy, % ‡" in band_table(found).columns
    assert "‡ fooled here" in band_reading(found)
    assert "‡" not in band_reading(section(1, pbu={}))


def test_who_damaged_the_model_is_marked_beside_the_verdict(run):
    runs = [
        run(name, seed, kind=kind, retain_accuracy=kept, forget_accuracy=0.0)
        for seed in range(3)
        for name, kind, kept in (
            ("retrain", "reference", 0.9),
            ("harsh", "method", 0.7),
            ("mild", "method", 0.9),
        )
    ]
    (found,) = sections(table(runs))
    (group,) = glance(found).groups
    assert {name: mark for name, mark, _ in group.methods} == {"harsh": "†", "mild": ""}
    assert glance(found).legend == "† lost 10 or more points of retain accuracy."


def short_of(run, seeds, *lost):
    """Return a section without a second retraining, whose named runs failed."""
    kinds = {"retrain": "reference", "original": "control", "pbu": "method", "other": "method"}
    (found,) = sections(
        table(
            [
                run(
                    name,
                    seed,
                    kind=kind,
                    forget_accuracy=0.0,
                    error="lost" * ((name, seed) in lost),
                )
                for seed in range(seeds)
                for name, kind in kinds.items()
            ]
        )
    )
    return found


def test_seeds_are_counted_where_method_and_retraining_both_finished(run):
    short = short_of(run, 6, ("retrain", 2))
    assert "Descriptive only: 5 seeds, and a verdict needs three seeds" in glance(short).standing
    assert "Descriptive only: 5 seeds" in " ".join(map(str, notes(short)))
    evidence = next(fact.text for fact in glance(short).facts if fact.lead == "Evidence")
    assert evidence.startswith("6 seeds, with an original in 6 and a retrained model in 5 of them.")


def test_both_standings_are_given_where_one_method_lacks_a_seed(run):
    standing = glance(short_of(run, 6, ("other", 2))).standing
    assert "by eight metrics fixed beforehand" in standing
    assert "“Told apart” and “Not told apart” are descriptive only: 5 seeds" in standing


def test_metrics_that_a_fake_wins_are_marked(section):
    found = section(3, pbu={})
    assert set(fooled(found)) >= {"forget_accuracy", "test_forget_accuracy", "mia_loss_auc"}
    assert exposing(found, "logit_mask") == ("probe_recall", "relearn_time_features")
    said = " ".join(map(str, notes(found)))
    assert "Fooled here" in said and "logit_mask" in said
    assert "logit_mask is told apart from retraining by Linear probe recall" in said


def test_a_fake_is_whom_the_folder_calls_one(section):
    facts = facts_of({"methods": {"hidden": {"fake": True}, "logit_mask": {"fake": False}}})
    found = section(3, facts, controls=("hidden",), hidden={}, pbu={})
    assert found.fakes == passing_fakes(found) == ("hidden",)
    assert "the fake hidden, whose weights have forgotten nothing" in caveat(found)
    assert distinguished(found) == frozenset()
    assert fooled(found)["probe_recall"] == ("hidden",)
    assert all("logit_mask" not in fakes for fakes in fooled(found).values())
    said = " ".join(map(str, notes(found)))
    assert (
        "no metric distinguishes hidden from retraining here" in said
        and "logit_mask is" not in said
    )


def test_folders_from_before_fakes_were_a_fact_know_those_of_then(section):
    facts = facts_of({"methods": {"mask": {"name": "logit_mask"}, "pbu": {"name": "pbu"}}})
    assert facts.fakes == {"logit_mask", "uniform_on_forget", "mask"}
    assert section(3, facts, pbu={}).fakes == ("logit_mask",)


def test_a_primary_metric_of_a_plug_in_has_a_say(section):
    declared = {"toy": {"role": "primary", "floor": 0.01, "definition": "A toy.", "label": "Toy"}}
    found = section(8, facts_of({"metrics": declared}), pbu={})
    assert list(primary(found))[-1] == "toy"
    missing = by_method(found)["pbu"].missing
    assert "toy was not measured" in missing
    assert glance(found).standing.startswith("Against retraining, by 9 metrics fixed beforehand.")


def test_without_retraining_there_is_no_verdict(run):
    (only,) = sections(table([run("pbu", forget_accuracy=0.0)]))
    assert [v.verdict for v in verdicts(only)] == ["no verdict"]
    assert "retraining" in verdicts(only)[0].missing[0]


@pytest.mark.usefixtures("no_figures")
def test_verdicts_stand_in_a_file_of_their_own(folder, run):
    place = folder(
        [run("retrain", kind="reference", forget_accuracy=0.0), run("pbu", forget_accuracy=0.1)]
    )
    write_report(place)
    rows = list(csv.DictReader((place / "verdicts.csv").open()))
    assert [row["method"] for row in rows] == ["pbu"]
    assert rows[0]["verdict"] == "no verdict" and rows[0]["missing"] == "a second seed"


def test_the_primary_set_is_the_declared_one(section):
    assert set(primary(section(2))) == {
        "test_retain_accuracy",
        "test_forget_accuracy",
        "forget_accuracy",
        "mia_loss_auc",
        "probe_recall",
        "relearn_time_features",
        "bn_recovery (forget)",
        "input_recovery",
    }


def test_the_headline_never_praises_what_a_probe_tells_apart(section):
    found = headline(section(3, pbu=FAKE))
    assert found == "pbu can be told apart from retraining by 2 metrics"
    assert headline(section(3, pbu={})) == "pbu cannot be told apart from retraining yet"


def test_the_headline_counts_undecided_methods_on_neither_side(section):
    found = section(3, pbu=FAKE, good={}, fair={"test_retain_accuracy": 0.88})
    said = "2 of 3 methods are told apart from retraining; nearest undecided: good"
    assert headline(found) == said
    said = "None of 2 methods is told apart from retraining yet; nearest: "
    assert headline(section(3, good={}, better={})).startswith(said)


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        (3, "2 of 3 methods are told apart from retraining"),
        (64, "1 of 3 methods is indistinguishable from retraining"),
    ],
)
def test_a_method_that_is_told_apart_is_not_called_undecided_for_leading_the_ranking(
    section, seeds, said
):
    rows = {"pbu": FAKE, "other": FAKE | {"test_retain_accuracy": 0.8}, "good": {}}
    plain = section(seeds, **rows)
    name = f"{plain.dataset} · {plain.model} · {plain.scenario}"
    # The one that is not told apart was not tuned, and the two that are were.
    origins = {name: {"pbu": ("tuned", True), "other": ("tuned", True)}}
    found = section(seeds, facts=replace(BUILT_IN_FACTS, rows=origins), **rows)
    assert headline(found) == f"{said}; nearest ranked: pbu"
    (note,) = [note for note in notes(found) if note.lead.startswith("Nearest")]
    assert note.lead == "Nearest of those ranked" and note.text.startswith("pbu is")


def test_the_headline_says_indistinguishable_only_where_the_verdict_does(section):
    found = section(64, pbu=FAKE, good={})
    assert headline(found) == "1 of 2 methods is indistinguishable from retraining; nearest: good"
    assert glance(found).comparisons[0].method == "good"
    assert headline(section(64, pbu={})) == "pbu is indistinguishable from retraining"


def test_the_headline_names_nobody_where_a_fake_passes_or_nothing_has_power(section):
    blind = {"mia_loss_auc": 0.5, "probe_recall": 0.6, "relearn_time_features": 60.0}
    alone = section(3, original=KNOWING | blind, logit_mask={"forget_accuracy": 0.5}, pbu={})
    with_fake = section(3, logit_mask={}, pbu={})
    said = "No evidence of forgetting: "
    assert headline(alone) == said + "no metric that looks inside has power"
    assert headline(with_fake) == said + "the fake logit_mask passes too"
    assert distinguished(alone) == distinguished(with_fake) == frozenset()
