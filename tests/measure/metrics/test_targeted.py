"""What only some scenarios have, against numbers worked out by hand."""

from dataclasses import replace

import pytest
import torch

from unlearn_bench.measure.metrics.targeted import backdoor, confusion, memorisation
from unlearn_bench.measure.outputs import Observed, Outputs


@pytest.mark.parametrize(
    ("measure", "name"), [(confusion, "confusion_rate"), (backdoor, "attack_success")]
)
def test_the_effect_is_the_share_that_is_taken_for_the_changed_label(
    evaluation, measure, name
) -> None:
    # Three of eight test examples are taken for the label that somebody gave to the like of them.
    predicted = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3])
    logits = torch.nn.functional.one_hot(predicted, 4).double()
    changed = Outputs("test_forget", logits, torch.zeros(8, dtype=torch.int64))
    asked = replace(evaluation(), unlearned=Observed({"test_forget": changed}))
    (record,) = measure(asked)
    assert (record.metric, record.split, record.value) == (name, "test_forget", 3 / 8)
    assert 0 < record.low < 3 / 8 < record.high < 1


def test_memorisation_is_a_mean_with_its_interval(evaluation) -> None:
    estimates = {"forget": torch.tensor([0.2, 0.4, 0.6]).double(), "retain": torch.tensor([0.1])}
    forget, retain = memorisation(replace(evaluation(), memorisation=estimates))
    assert forget.value == pytest.approx(0.4)
    assert forget.high - 0.4 == pytest.approx(1.96 * 0.2 / 3**0.5)
    assert (retain.split, retain.low, retain.high) == ("retain", retain.value, retain.value)
