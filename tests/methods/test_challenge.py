"""Winners of the NeurIPS 2023 challenge: what each does to the weights, by surgery and training."""

import copy
import importlib
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from unlearn_bench.api import frozen_copy, heads, kl_divergence, matrices, norms, stem
from unlearn_bench.plugins import registry
from unlearn_bench.suite.spec import ModelSpec

# Steps of such length leave every weight as it is: what changed, surgery changed.
STILL = {"lr": 1e-30, "weight_decay": 0.0, "momentum": 0.0, "batch_size": 256}


def inside(name, function):
    """A function of a method's module."""
    return getattr(importlib.import_module(f"unlearn_bench_methods.{name}"), function)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def changed(model, original):
    pairs = zip(model.named_parameters(), original.parameters(), strict=True)
    return {name for (name, p), q in pairs if not torch.allclose(p, q, rtol=0, atol=1e-20)}


def names_of(model, modules):
    ids = {id(p) for module in modules for p in module.parameters()}
    return {name for name, p in model.named_parameters() if id(p) in ids}


def run(world, name, **params):
    """A method's result, the context it got, and the model it started from."""
    method = registry.get(name)
    context = world.context(method)
    world.ledger.clear()
    torch.manual_seed(0)
    model = method.function(copy.deepcopy(world.original), context, **method.resolve(params))
    return model, context


# CFW


def test_cfw_without_noise_is_finetuning(class_world):
    common = {"epochs": 1, "lr": 7e-4, "batch_size": 64}
    ours = class_world.unlearn("cfw", noise=0, last_noise=0, class_weights="none", **common)
    plain = class_world.unlearn("finetune", **common)
    for p, q in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-6)


def test_cfw_disturbs_the_stem_alone_by_the_noise_asked_for(class_world):
    model = class_world.unlearn("cfw", epochs=1, **STILL)
    assert changed(model, class_world.original) == names_of(model, [stem(model)])
    noise = stem(model).weight - stem(class_world.original).weight
    assert noise.std().item() == pytest.approx(0.6, rel=0.2)
    wide = class_world.unlearn("cfw", epochs=1, targets="conv", **STILL)
    assert changed(wide, class_world.original) == set(matrices(wide, "conv"))


def test_cfw_disturbs_again_before_the_last_of_several_passes(class_world):
    def moved(epochs):
        model = class_world.unlearn("cfw", noise=0.0, epochs=epochs, **STILL)
        return (stem(model).weight - stem(class_world.original).weight).std().item()

    assert moved(1) == 0
    assert moved(2) == pytest.approx(0.005, rel=0.2) and moved(4) == pytest.approx(0.005, rel=0.2)


def test_cfw_weights_examples_and_not_their_mean():
    weights = inside("cfw", "balanced_weights")(torch.tensor([0, 0, 0, 2]), 3)
    assert weights.tolist() == pytest.approx([4 / 6, 0, 2])


# CT


def test_ct_twice_is_nothing_and_once_is_not(class_world):
    model = copy.deepcopy(class_world.original)
    transpose = inside("ct", "transpose_kernels")
    transpose(model)
    assert changed(model, class_world.original) == {
        name for name, w in matrices(model, "conv").items() if w.shape[-1] > 1
    }
    transpose(model)
    assert not changed(model, class_world.original)


def test_ct_gives_a_network_that_sees_images_mirrored_at_their_diagonal(class_world):
    model = frozen_copy(class_world.original)
    x, _ = next(iter(class_world.split("retain").batches(20)))
    before = model(x)
    inside("ct", "transpose_kernels")(model)
    assert torch.allclose(model(x.transpose(2, 3)), before, atol=1e-4)
    assert not torch.allclose(model(x), before, atol=1e-1)


def test_ct_leaves_kernels_of_unequal_sides():
    odd = nn.Sequential(nn.Conv2d(1, 2, (1, 3)), nn.Conv1d(2, 2, 3))
    before = [p.clone() for p in odd.parameters()]
    inside("ct", "transpose_kernels")(odd)
    assert all(torch.equal(p, q) for p, q in zip(odd.parameters(), before, strict=True))


# MSG


@pytest.mark.parametrize("targets", ["conv", "matrix"])
def test_msg_draws_exactly_its_share_of_each_tensor_anew(class_world, targets):
    model = class_world.unlearn("msg", epochs=1, targets=targets, **STILL)
    before = matrices(class_world.original, targets)
    for name, weight in matrices(model, targets).items():
        assert int((weight != before[name]).sum()) == round(0.3 * weight.numel()), name
    assert changed(model, class_world.original) == set(before)


def test_msg_draws_from_the_initialisation_of_the_architecture(class_world):
    task = replace(class_world.task, model=ModelSpec(name="mobilenetv3_small_050"))
    depthwise = replace(class_world, task=task, original=task.build(1).eval())
    model = depthwise.unlearn("msg", epochs=1, **STILL)
    fresh = matrices(depthwise.context(registry.get("msg")).new_model(), "conv")
    before = matrices(depthwise.original, "conv")
    assert any(m.groups > 1 for m in model.modules() if isinstance(m, nn.Conv2d))
    for name, weight in matrices(model, "conv").items():
        drawn = weight != before[name]
        assert torch.equal(weight[drawn], fresh[name][drawn]), name


def test_msg_draws_anew_what_tells_forget_from_retain_the_least(class_world):
    method, model = registry.get("msg"), frozen_copy(class_world.original).requires_grad_()
    masks = inside("msg", "least_telling")(model, class_world.context(method), "conv", 0.3)
    # The same draw of R, and one example at a time.
    twin = class_world.context(method)
    retain = twin.retain.subset(len(twin.forget), twin.rng)
    name = list(masks)[3]
    weight = model.get_parameter(name)
    apart = torch.zeros_like(weight, dtype=torch.float64)
    for split, sign in ((retain, 1), (twin.forget, -1)):
        for x, y in split.batches():
            loss = cross_entropy(model(x), y, reduction="sum") * sign / len(split)
            apart += torch.autograd.grad(loss, weight)[0]
    assert apart.abs()[masks[name]].max() <= apart.abs()[~masks[name]].min() * (1 + 1e-3)


def test_msg_damps_kept_entries_of_kernels_alone(class_world):
    still = class_world.unlearn("msg", epochs=1, damping=0.0, weight_decay=0.0)
    before = matrices(class_world.original, "conv")
    for name, weight in matrices(still, "conv").items():
        kept = int((weight == before[name]).sum())
        assert kept == weight.numel() - round(0.3 * weight.numel()), name
    # Tensors that are no kernels learn at the full rate.
    assert names_of(still, [*heads(still), *norms(still)]) <= changed(still, class_world.original)


def test_msg_climbs_to_the_middle_and_falls():
    tent = inside("msg", "tent")
    assert [tent(e, 5) for e in range(5)] == pytest.approx([1 / 3, 2 / 3, 1, 2 / 3, 1 / 3])
    assert tent(0, 1) == 1


# PRMQ


def test_prmq_keeps_the_largest_weights_and_draws_the_rest_from_its_bounds(class_world):
    model = copy.deepcopy(class_world.original)
    inside("prmq", "prune_and_redraw")(model, 0.99, generator())
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    originals = [m for m in class_world.original.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    pairs = [
        (p, q)
        for a, b in zip(layers, originals, strict=True)
        for p, q in zip(a.parameters(), b.parameters(), strict=True)
    ]
    kept = torch.cat([(p == q).flatten() for p, q in pairs])
    size = torch.cat([q.abs().flatten() for _, q in pairs])
    assert int(kept.sum()) == round(0.01 * len(kept))
    assert size[kept].min() >= size[~kept].max()
    conv = layers[3].weight
    drawn = conv[conv != originals[3].weight]
    bound = 1 / math.sqrt(conv[0].numel())
    assert drawn.abs().max() <= bound and drawn.std().item() == pytest.approx(
        bound / math.sqrt(3), rel=0.1
    )
    bias = heads(model)[0].bias
    assert set(bias[bias != heads(class_world.original)[0].bias].tolist()) <= {0.0}
    assert not changed(model, class_world.original) & names_of(model, norms(model))


def test_prmq_ends_in_what_half_precision_can_hold(class_world):
    def fits(model):
        return all(torch.equal(t, t.half().to(t)) for t in model.state_dict().values())

    assert fits(class_world.unlearn("prmq", epochs=0.5))
    assert not fits(class_world.unlearn("prmq", epochs=0.5, half=False))
    model = copy.deepcopy(class_world.original)
    norms(model)[0].running_var.fill_(1e9)
    inside("prmq", "round_to_half")(model)
    assert all(torch.isfinite(t).all() for t in model.state_dict().values())


def test_prmq_takes_broken_passes_and_one_step_more(class_world):
    _, context = run(class_world, "prmq", epochs=1.5, batch_size=64)
    assert (
        len(context.log_entries) == int(1.5 * math.ceil(len(class_world.indices.retain) / 64)) + 1
    )


def test_prmq_weighs_absent_classes_nothing_and_knows_entropies():
    weights = inside("prmq", "class_weights")(torch.tensor([0, 0, 2]), 4, 0.1)
    assert weights.tolist() == pytest.approx([2**-0.1, 0, 1, 0])
    entropy = inside("prmq", "entropy")
    assert entropy(torch.zeros(2, 8)).tolist() == pytest.approx([math.log(8)] * 2)
    assert entropy(torch.tensor([[90.0, 0.0]])).item() == pytest.approx(0, abs=1e-6)


# KDE


def test_kde_renews_stem_and_head_alone(class_world):
    model = class_world.unlearn("kde", warmup_lr=1e-30, **STILL)
    ends = names_of(model, [stem(model), *heads(model)])
    assert changed(model, class_world.original) == ends


def test_kde_reads_the_validation_split_for_its_first_passes_only(class_world):
    run(class_world, "kde", warmup_epochs=0, epochs=1)
    assert set(class_world.ledger) == {"retain"}
    run(class_world, "kde", warmup_epochs=1, epochs=1)
    assert class_world.ledger["validation"] > 0 == class_world.ledger["forget"]


def test_kde_distils_twice_over_by_terms_of_equal_gradient():
    torch.manual_seed(0)
    target, logits = torch.randn(6, 4), torch.randn(6, 4, requires_grad=True)
    soft = inside("kde", "soft_cross_entropy")(target, logits, 5.0)
    kl = kl_divergence(target, logits, 5.0)
    one, other = (torch.autograd.grad(loss, logits)[0] for loss in (soft, kl))
    assert torch.allclose(one, other, atol=1e-7) and one.abs().max() > 1e-3
    p = (target / 5).softmax(1)
    by_hand = -(p * (logits / 5).log_softmax(1)).sum(1).mean()
    assert soft.item() == pytest.approx(by_hand.item(), rel=1e-5)


# RNI


def test_rni_trains_what_it_drew_and_all_norms_the_rest_stays(staged_world):
    model = staged_world.unlearn("rni", epochs=1, fine_epochs=0)
    moved = changed(model, staged_world.original)
    of_norms = names_of(model, norms(model))
    head = names_of(model, heads(model))
    assert of_norms | head <= moved
    assert 9 - len(head) <= len(moved - of_norms - head) <= 9
    assert len(moved) < len(list(model.parameters()))
    fine = staged_world.unlearn("rni", epochs=1, fine_epochs=1)
    assert len(changed(fine, staged_world.original)) == len(list(fine.parameters()))


def test_rni_adds_noise_from_the_second_pass_on_and_once_to_each_tensor(staged_world):
    def noised(epochs, **params):
        model = staged_world.unlearn("rni", epochs=epochs, fine_epochs=0, **STILL, **params)
        moved = changed(model, staged_world.original) - names_of(model, heads(model))
        return model, moved

    assert not noised(1)[1]
    model, moved = noised(2)
    assert 0 < len(moved) <= 6
    name = max(moved, key=lambda n: model.get_parameter(n).numel())
    change = model.get_parameter(name) - staged_world.original.get_parameter(name)
    assert change.std().item() == pytest.approx(0.04, rel=0.2)
    # All tensors are drawn in the first pass: none is new in a later one.
    assert not noised(4, drawn=999)[1]


# FCS


def test_fcs_contrasts_at_least_by_the_log_of_the_batch():
    contrast = inside("fcs", "contrast")
    torch.manual_seed(0)
    forget, retain = torch.randn(5, 10), torch.randn(7, 10)
    slow = 0.0
    for f in forget:
        similar = [float(f @ r) / 1.15 for r in retain]
        total = math.log(sum(math.exp(s) for s in similar))
        slow += sum(total - s for s in similar) / (5 * 7)
    assert contrast(forget, retain, 1.15).item() == pytest.approx(slow, rel=1e-4)
    assert slow > math.log(7)
    same = retain[:1].expand(7, 10)
    assert contrast(forget, same, 1.15).item() == pytest.approx(math.log(7), rel=1e-5)


def test_fcs_first_raises_the_entropy_on_the_forget_set(class_world):
    x, _ = next(iter(class_world.split("forget").batches(1000)))

    def entropy(model):
        with torch.no_grad():
            p = model(x).softmax(1)
        return float(-(p * p.log()).sum(1).mean())

    blurred = class_world.unlearn("fcs", rounds=0, blur_lr=0.2)
    assert entropy(blurred) > entropy(class_world.original) + 0.1


def test_fcs_pairs_each_forget_batch_with_one_of_retain(class_world):
    _, context = run(class_world, "fcs", rounds=2, forget_batch_size=8, batch_size=32)
    forget = math.ceil(len(class_world.indices.forget) / 8)
    forget -= len(class_world.indices.forget) % 8 == 1
    kinds = [next(iter(entry)) for entry in context.log_entries]
    assert kinds.count("blur_loss") == forget and kinds.count("contrast_loss") == 2 * forget
    assert kinds.count("loss") == 2 * math.ceil(len(class_world.indices.retain) / 32)
