"""The label-only attack sees members by where they are right, not by how sure."""

import pytest
import torch

from unlearn_bench.measure.metrics.mia import loss_attack
from unlearn_bench.measure.metrics.mia_label_only import label_only_attack
from unlearn_bench.measure.outputs import Observed, Outputs, Probed, Relearned

from .conftest import invented


def answers(right):
    """Outputs on copies that are classified right where ``right`` is, bool [5, N]."""
    labels = torch.zeros(right.numel(), dtype=torch.int64)
    logits = torch.zeros(right.numel(), 4).double()
    logits[torch.arange(right.numel()), torch.where(right.flatten(), 0, 1)] = 5
    return Outputs("", logits, labels)


def model(member, other):
    copies = {"forget": answers(member), "test_forget": answers(other)}
    return Observed(invented(0, 0.0).outputs, Probed(Relearned(1, False), copies=copies))


def measured(evaluation, member, other):
    return {r.metric: r for r in label_only_attack(evaluation(model(member, other)))}


def test_the_area_is_that_of_the_counts_of_right_answers(evaluation):
    # Members have 5, 5, 2 right copies, others 3, 2, 0, 0.
    member = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 0], [1, 1, 1], [1, 1, 0]]).bool()
    other = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    found = measured(evaluation, member, other.bool())
    # Of twelve pairs 8 + 2 members are ahead, one is tied, one is behind.
    assert found["mia_label_only_auc"].value == pytest.approx(10.5 / 12)


def test_members_right_on_every_copy_are_found_where_the_first_copy_tells_nothing(evaluation):
    member = torch.ones(5, 60).bool()
    other = torch.ones(5, 120).bool()
    other[1:, ::2] = False
    found = measured(evaluation, member, other)
    assert found["mia_label_only_auc"].value == pytest.approx(0.75)
    assert found["mia_label_only_tpr_at_10pct"].value == 0


def test_models_that_are_wrong_throughout_are_at_chance_however_sure(evaluation):
    found = measured(evaluation, torch.zeros(5, 60).bool(), torch.zeros(5, 120).bool())
    assert found["mia_label_only_auc"].value == 0.5


def test_confidence_alone_is_not_seen(evaluation):
    sure = invented(1, 4.0, fitted=40.0)
    copies = {
        split: Outputs(split, sure[split].logits.repeat(5, 1), sure[split].labels.repeat(5))
        for split in ("forget", "test_forget")
    }
    seen = Observed(sure.outputs, Probed(Relearned(1, False), copies=copies))
    label, loss = (
        {r.metric: r for r in attack(evaluation(seen))}
        for attack in (label_only_attack, loss_attack)
    )
    assert loss["mia_loss_auc"].value > 0.99
    assert label["mia_label_only_auc"].value < 0.6
