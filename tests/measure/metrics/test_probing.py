"""What probes found, turned into records."""

import pytest

from unlearn_bench.measure.metrics.probing import (
    anamnesis_index,
    bn_recovery,
    probe_leak,
    probe_recall,
    relearning,
)
from unlearn_bench.measure.outputs import Observed, Probed, Relearned

from .conftest import invented


def seen(**found):
    return Observed(
        invented(0, 0.0).outputs, Probed(**{"relearn_time": Relearned(0, False)} | found)
    )


def test_leak_is_the_difference_of_recalls(evaluation):
    found = evaluation(seen(recall=0.9, recall_of=50), retrained=seen(recall=0.65, recall_of=50))
    assert probe_leak(found)[0].value == pytest.approx(0.25)
    record = probe_recall(found)[0]
    assert record.low < 0.9 == record.value < record.high


def test_without_a_recall_the_reason_stands_in_the_record(evaluation):
    found = evaluation(seen(no_recall="no class is forgotten"))
    for compute in (probe_recall, probe_leak):
        (record,) = compute(found)
        assert record.status == "not_applicable" and record.reason == "no class is forgotten"


@pytest.mark.parametrize(("u", "g", "ain"), [(0, 40, 1 / 40), (20, 0, 20.0), (7, 7, 1.0)])
def test_ain_counts_steps_from_one(evaluation, u, g, ain):
    found = evaluation(
        seen(relearn_time=Relearned(u, False)), retrained=seen(relearn_time=Relearned(g, False))
    )
    assert anamnesis_index(found)[0].value == ain


def test_a_censored_time_says_so(evaluation):
    records = {r.metric: r for r in relearning(evaluation(seen(relearn_time=Relearned(500, True))))}
    assert records["relearn_time"].value == 500
    assert "censored at 500" in records["relearn_time"].reason
    assert records["relearn_time_features"].status == "not_applicable"


def test_recovery_is_accuracy_after_re_estimation(evaluation):
    renewed = {split: invented(0, 9.0)[split] for split in ("forget", "test_forget")}
    values = {r.split: r.value for r in bn_recovery(evaluation(seen(renewed=renewed)))}
    assert values == {split: part.accuracy() for split, part in renewed.items()}
    assert {r.status for r in bn_recovery(evaluation(seen()))} == {"not_applicable"}


def test_an_attacker_keeps_statistics_that_do_better(evaluation):
    broken = {split: invented(0, -9.0)[split] for split in ("forget", "test_forget")}
    found = seen(renewed=broken)
    values = {r.split: r.value for r in bn_recovery(evaluation(found))}
    assert values == {split: found[split].accuracy() for split in broken}
