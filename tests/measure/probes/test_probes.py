"""Probes find what is hidden in a model, and leave the model as it was."""

import copy

import pytest
import torch
from torch import nn

from unlearn_bench.measure import evaluate, probes
from unlearn_bench.measure.probes import batch_norm, linear, relearn

from .conftest import CPU


def relearned(lab, model, **changes):
    options = {"target": 0.9, "seed": 0, "device": CPU} | changes
    options["retained"] = lab.examples.estimated
    trained = lab.examples.relearned
    if options.get("fresh_head"):
        trained = lab.examples.balanced
        options |= {"others": lab.examples.others, "forget_classes": (8,)}
    return relearn.relearn(model, lab.data, trained, lab.examples.watched, **options)


def forget_accuracy(lab, model):
    logits = evaluate.logits(model, lab.data, lab.data.test, CPU, lab.indices.test_forget)
    return float((logits.argmax(1) == 8).double().mean())


def hide(model):
    """Lower the head's bias for the forgotten class: a fake with the features untouched."""
    fake = copy.deepcopy(model)
    with torch.no_grad():
        fake.get_classifier().bias[8] -= 30
    return fake


def test_examples_are_drawn_from_where_they_should_be(lab):
    chosen, indices = lab.examples, lab.indices
    labels = lab.data.train.labels
    for drawn, pool in (
        (chosen.tested, indices.test_forget),
        (chosen.watched, indices.test_forget),
        (chosen.estimated, indices.retain),
        (chosen.forget, indices.forget),
        (chosen.fit, indices.train),
        (chosen.relearned, indices.train),
        (chosen.balanced, indices.train),
        (chosen.others, indices.test_retain),
    ):
        assert torch.isin(drawn, pool).all() and len(drawn.unique()) == len(drawn)
    # An equal share of every class, of F one half.
    counts = labels[chosen.fit].bincount(minlength=10)
    assert counts.tolist() == [len(indices.forget) // 2] * 10
    evenly = labels[chosen.balanced].bincount(minlength=10)
    assert evenly[8] == len(indices.forget) and int(evenly.min()) >= 0.9 * len(indices.forget)
    relearned_forget = torch.isin(chosen.relearned, indices.forget).sum()
    assert relearned_forget == len(indices.forget) == len(chosen.relearned) // 2


def test_examples_depend_on_the_seed_alone(lab):
    same = probes.choose(lab.indices, lab.data.train.labels, seed=0)
    other = probes.choose(lab.indices, lab.data.train.labels, seed=1)
    assert torch.equal(same.fit, lab.examples.fit)
    assert not torch.equal(other.fit, lab.examples.fit)


def test_what_was_never_forgotten_is_back_at_once(lab):
    assert relearned(lab, lab.original).steps == 0
    assert relearned(lab, lab.retrained).steps >= 5


def test_a_hidden_class_is_found_in_the_features(lab):
    fake = hide(lab.original)
    assert forget_accuracy(lab, fake) == 0
    times = {
        name: relearned(lab, model, fresh_head=True).steps
        for name, model in {"O": lab.original, "fake": fake, "G": lab.retrained}.items()
    }
    assert times["fake"] == times["O"] < times["G"]


def test_a_head_that_calls_everything_forgotten_is_not_back(lab):
    class AlwaysEight(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.eye(10)[8] * 9)

        def forward(self, x):
            return self.bias.expand(len(x), 10) + 0 * x.flatten(1).sum()

    options = {"target": 0.9, "seed": 0, "device": CPU, "cap": 2}
    options |= {"retained": lab.examples.estimated}
    args = (AlwaysEight(), lab.data, lab.examples.relearned, lab.examples.watched)
    assert relearn.relearn(*args, **options).steps == 0
    strict = {"others": lab.examples.others, "forget_classes": (8,)}
    assert relearn.relearn(*args, **options, **strict).censored


def test_relearning_is_reproducible_and_seeded(lab):
    first = relearned(lab, lab.retrained, fresh_head=True)
    torch.rand(5)
    assert relearned(lab, lab.retrained, fresh_head=True) == first
    assert relearned(lab, lab.retrained, fresh_head=True, seed=1).steps != first.steps


def test_the_cap_censors(lab):
    assert relearned(lab, lab.retrained, target=1.1, cap=3) == relearn.Relearned(3, True)


def test_features_are_what_the_classifier_sees(lab):
    indices = torch.tensor([5, 3, 200])
    rows = linear.features(lab.original, lab.data, lab.data.test, indices, CPU)
    logits = evaluate.logits(lab.original, lab.data, lab.data.test, CPU, indices)
    torch.testing.assert_close(lab.original.get_classifier()(rows).double(), logits)


def test_a_linear_probe_reads_separable_features_and_nothing_else():
    generator = torch.Generator().manual_seed(0)
    labels, tested = torch.arange(3).repeat(40), torch.full((30,), 2)
    noise = torch.randn(120, 8, generator=generator), torch.randn(30, 8, generator=generator)
    assert linear.recall(noise[0], labels, noise[1], tested) < 0.6
    lean = 6 * torch.eye(8)
    assert linear.recall(noise[0] + lean[labels], labels, noise[1] + lean[tested], tested) == 1.0


def test_contaminated_statistics_come_back_and_forgotten_weights_do_not(lab):
    contaminated = copy.deepcopy(lab.original)
    for module in contaminated.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean -= 5
    assert forget_accuracy(lab, contaminated) < 0.5
    for model, low, high in ((contaminated, 0.9, 1.0), (lab.retrained, 0.0, 0.1)):
        renewed = batch_norm.reestimated(model, lab.data, lab.examples.estimated, CPU)
        assert low <= forget_accuracy(lab, renewed) <= high
        assert not any(module.training for module in renewed.modules())


def test_statistics_are_those_of_the_images(lab):
    renewed = batch_norm.reestimated(lab.original, lab.data, lab.examples.estimated, CPU)
    first = next(m for m in renewed.modules() if isinstance(m, nn.BatchNorm2d))
    seen = []
    handle = first.register_forward_hook(lambda m, inputs, out: seen.append(inputs[0]))
    evaluate.logits(renewed, lab.data, lab.data.train, CPU, lab.examples.estimated)
    handle.remove()
    mean = torch.cat(seen).mean(dim=(0, 2, 3))
    torch.testing.assert_close(first.running_mean, mean, rtol=1e-3, atol=1e-4)


def test_models_without_batch_norm_are_recognised(lab):
    assert batch_norm.has_running_statistics(lab.original)
    assert not batch_norm.has_running_statistics(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3)))


@pytest.mark.parametrize("harm", ["weight", "buffer", "mode", "flag"])
def test_a_probe_that_changes_the_model_is_caught(lab, harm):
    model = copy.deepcopy(lab.original)

    def spoil():
        if harm == "weight":
            next(model.parameters()).data.add_(1e-6)
        elif harm == "buffer":
            next(model.buffers()).add_(1e-3)
        elif harm == "mode":
            model.train()
        else:
            next(model.parameters()).requires_grad_(False)

    with pytest.raises(RuntimeError, match="copy"), probes.untouched(model):
        spoil()


def test_every_probe_leaves_the_model_as_it_was(lab):
    with probes.untouched(lab.original):
        relearned(lab, lab.original, target=1.1, cap=2)
        relearned(lab, lab.original, target=1.1, cap=2, fresh_head=True)
        linear.features(lab.original, lab.data, lab.data.test, torch.arange(4), CPU)
        batch_norm.reestimated(lab.original, lab.data, lab.examples.estimated, CPU)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("chance", [0.0, 0.3, 0.5, 0.95, 1.0])
def test_stopping_early_never_changes_the_answer(share, chance):
    generator = torch.Generator().manual_seed(0)
    for count in (1, 63, 64, 65, 256):
        answers = torch.rand(count, generator=generator) < chance
        asked = []
        pieces = (asked.append(len(piece)) or piece for piece in answers.split(64))
        assert relearn.reaches(pieces, count, share) == (answers.double().mean() >= share)
    assert sum(asked) <= 256


@pytest.mark.parametrize("count", [1, 16, 17, 35, 256])
def test_pieces_are_all_there_is_in_order(count):
    x, y = torch.arange(2 * count).view(count, 2), torch.arange(count)
    pieces = list(relearn.pieces_of(x, y))
    assert torch.equal(torch.cat([piece for piece, _ in pieces]), x)
    assert torch.equal(torch.cat([piece for _, piece in pieces]), y)
    assert len(pieces[0][0]) == min(count, 16)
