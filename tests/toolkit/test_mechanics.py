"""Shared mechanics against slow, obvious code and closed forms."""

import copy
import math

import pytest
import timm
import torch
from timm.layers import EvoNorm2dS0, FilterResponseNormTlu2d, RmsNorm, SimpleNorm2d
from torch import nn
from torch.nn.functional import cross_entropy

from unlearn_bench.api import (
    MaskedOptimizer,
    Pixels,
    blocks,
    dot,
    features_and_logits,
    fgsm,
    frozen_copy,
    heads,
    kl_divergence,
    l2_pgd,
    largest,
    loss_gradients,
    matrices,
    mixed,
    norms,
    renew,
    shuffled,
    stem,
    summed_gradient,
    tail,
    training,
    twice_differentiable,
)
from unlearn_bench.core.errors import MethodError
from unlearn_bench.measure.probes import layers
from unlearn_bench.suite.spec import ModelSpec
from unlearn_bench.training import models

ARCHITECTURES = {
    "lenet": 4,
    "allcnn": 8,
    "test_resnet": 4,
    "test_vit": 6,
    "test_convnext": 4,
    "test_efficientnet": 5,
    "mobilenetv3_small_050": 6,
}


def build(name: str, seed: int = 0) -> nn.Module:
    return models.build(
        ModelSpec(name=name), channels=3, image_size=(32, 32), num_classes=5, seed=seed
    )


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def net(request):
    return request.param, build(request.param)


def test_kl_is_the_sum_over_classes_and_the_mean_over_examples():
    target, logits = torch.randn(4, 7).double(), torch.randn(4, 7).double()
    p, q = (target / 2).softmax(1), (logits / 2).softmax(1)
    assert kl_divergence(target, logits, 2.0).item() == pytest.approx(
        (p * (p / q).log()).sum().item() / 4
    )


def test_kl_takes_classes_of_probability_zero_without_nan():
    target = torch.tensor([[-math.inf, 0.0, 0.0]])
    logits = torch.randn(1, 3, requires_grad=True)
    divergence = kl_divergence(target, logits)
    divergence.backward()
    by_hand = -math.log(2) - logits.log_softmax(1)[0, 1:].mean()
    assert divergence.item() == pytest.approx(by_hand.item(), rel=1e-5)
    assert torch.isfinite(logits.grad).all()
    expected = logits.softmax(1) - torch.tensor([[0.0, 0.5, 0.5]])
    assert torch.allclose(logits.grad, expected, atol=1e-6)


def test_a_frozen_copy_shares_nothing_and_has_no_gradients():
    model = build("test_resnet").train()
    teacher = frozen_copy(model)
    mine = {t.data_ptr() for t in model.state_dict().values()}
    assert not mine & {t.data_ptr() for t in teacher.state_dict().values()}
    assert not any(p.requires_grad for p in teacher.parameters())
    assert not any(m.training for m in teacher.modules()) and model.training


@pytest.mark.parametrize(
    "rule",
    [
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.5),
        lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.5),
    ],
)
def test_masked_out_weights_stay_bit_identical_through_momentum_and_decay(rule):
    torch.manual_seed(0)
    layer = nn.Linear(5, 3)
    before = layer.weight.detach().clone()
    mask = torch.rand(3, 5) < 0.5
    optimizer = MaskedOptimizer(rule(layer.parameters()), {layer.weight: mask})
    for _ in range(4):
        optimizer.zero_grad()
        cross_entropy(layer(torch.randn(6, 5)), torch.tensor([0, 1, 2] * 2)).backward()
        optimizer.step()
    assert torch.equal(layer.weight[~mask], before[~mask])
    assert (layer.weight[mask] != before[mask]).all()


@pytest.mark.parametrize("leak", [{"weight_decay": 0.5}, {"momentum": 0.9}])
def test_masking_the_gradients_alone_leaks(leak):
    # What published code does; the case above must be able to fail.
    torch.manual_seed(0)
    layer = nn.Linear(5, 3)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1, **leak)
    mask = torch.rand(3, 5) < 0.5
    for masked in (False, True):
        before = layer.weight.detach().clone()
        optimizer.zero_grad()
        cross_entropy(layer(torch.randn(6, 5)), torch.tensor([0, 1, 2] * 2)).backward()
        layer.weight.grad *= mask if masked else 1
        optimizer.step()
    assert (layer.weight[~mask] != before[~mask]).all()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_largest_share_is_exact_and_global(share):
    a, b = nn.Parameter(torch.zeros(3, 4)), nn.Parameter(torch.zeros(8))
    scores = {a: torch.arange(12.0).view(3, 4), b: torch.arange(8.0) + 100}
    masks = largest(scores, share)
    count = round(20 * share)
    assert sum(int(m.sum()) for m in masks.values()) == count
    assert int(masks[b].sum()) == min(8, count)
    assert sum(int(m.sum()) for m in largest({a: torch.ones(3, 4)}, 0.5).values()) == 6


def test_the_summed_gradient_is_additive_over_batches_and_leaves_grad_alone():
    model = build("test_resnet").double()
    x, y = torch.randn(7, 3, 32, 32).double(), torch.arange(7) % 5
    whole = summed_gradient(model, [(x, y)])
    parts = summed_gradient(model, [(x[:3], y[:3]), (x[3:], y[3:])])
    assert all(torch.allclose(whole[name], parts[name], atol=1e-10) for name in whole)
    assert all(p.grad is None for p in model.parameters())
    by_hand = copy.deepcopy(model)
    (cross_entropy(by_hand(x), y) * 7).backward()
    assert torch.allclose(whole["fc.weight"], by_hand.fc.weight.grad)


SPACE = Pixels(torch.full((3, 1, 1), 0.4), torch.full((3, 1, 1), 0.3))


def test_fgsm_moves_at_most_its_radius_stays_in_pixels_and_raises_the_loss():
    model = build("lenet")
    pixels = torch.rand(8, 3, 32, 32)
    y = torch.arange(8) % 5
    x = SPACE.normalised(pixels)
    attacked = fgsm(model, x, y, SPACE, 0.1)
    moved = SPACE.of(attacked)
    assert moved.min() >= -1e-6 and moved.max() <= 1 + 1e-6
    assert (moved - pixels).abs().max() <= 0.1 + 1 / 255
    assert torch.allclose(moved * 255, (moved * 255).round(), atol=1e-3)
    assert cross_entropy(model(attacked), y) > cross_entropy(model(x), y)


def test_l2_attacks_stay_in_their_ball_and_reach_their_target():
    model = build("lenet")
    pixels = torch.rand(6, 3, 32, 32)
    x, target = SPACE.normalised(pixels), torch.full((6,), 2)
    found = l2_pgd(
        model,
        x,
        target,
        SPACE,
        radius=4.0,
        step=0.4,
        iterations=30,
        targeted=True,
        generator=torch.Generator().manual_seed(0),
    )
    distance = (SPACE.of(found) - pixels).flatten(1).norm(dim=1)
    assert distance.max() <= 4 + 1e-4
    assert (model(found).argmax(1) == 2).all()
    steps = x
    for _ in range(3):
        steps = l2_pgd(model, x, target, SPACE, radius=0.5, step=0.3, iterations=1, start=steps)
    at_once = l2_pgd(model, x, target, SPACE, radius=0.5, step=0.3, iterations=3)
    assert torch.allclose(steps, at_once, atol=1e-4)
    radii = torch.linspace(0.1, 1, 6)
    near = l2_pgd(model, x, model(x).argmax(1), SPACE, radius=radii, step=radii, iterations=3)
    assert ((SPACE.of(near) - pixels).flatten(1).norm(dim=1) <= radii + 1e-5).all()


@pytest.mark.parametrize("batch_norm", ["train", "batch", "eval"])
def test_without_dropout_only_batchnorm_trains_and_every_mode_comes_back(batch_norm):
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)).eval()
    model[2].train()
    with training(model, batch_norm, dropout=False):
        assert [m.training for m in model] == [False, batch_norm != "eval", False]
        assert model[1].track_running_stats is (batch_norm != "batch")
    assert [m.training for m in model] == [False, False, True] and model[1].track_running_stats
    with training(model, batch_norm):
        assert [m.training for m in model] == [True, batch_norm != "eval", True]


@pytest.mark.parametrize(
    ("named", "found"), [("1", 1), (("1", "0"), 1), ((), 0), (None, 0)], ids=str
)
def test_the_stem_is_the_first_that_timm_names_and_else_the_first_convolution(named, found):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))
    model.default_cfg = {"first_conv": named}
    assert stem(model) is model[found]


def test_blocks_are_found_by_structure_and_lie_between_stem_and_head(net):
    name, model = net
    found = blocks(model)
    assert len(found) >= 2 and len(found) == ARCHITECTURES[name], len(found)
    assert all(any(True for _ in b.parameters()) for b in found)
    assert not any(head in list(b.modules()) for b in found for head in heads(model))


def test_the_tail_ends_with_the_head_and_starts_with_the_last_block(net):
    _, model = net
    freed = {id(p) for part in tail(model, 1) for p in part.parameters()}
    assert {id(p) for p in heads(model)[0].parameters()} <= freed
    assert {id(p) for p in blocks(model)[-1].parameters()} <= freed
    assert not freed & {id(p) for p in blocks(model)[0].parameters()}
    assert not freed & {id(p) for p in stem(model).parameters()}
    everything = {id(p) for part in tail(model, 99) for p in part.parameters()}
    assert everything == {id(p) for p in model.parameters()}


# Where what lies between stem and head is no child of `blocks`, `stages`, `layers` or `features`:
# how many blocks, the last, and what else the tail of one block holds beside norms.
UNUSUAL = {
    "regnetx_002": (4, "s4", {"head"}),
    "legacy_xception": (12, "block12", {"conv3", "bn3", "conv4", "bn4", "fc"}),
    "pit_ti_224": (3, "transformers.2", {"norm", "head"}),
    "hrnet_w18_small": (
        4,
        "stage4",
        {"incre_modules", "downsamp_modules", "final_layer", "classifier"},
    ),
    "tresnet_m": (5, "body.layer4", {"head"}),
    "nest_tiny": (3, "levels.2", {"norm", "head"}),
    "rdnet_tiny": (7, "dense_stages.6", {"head"}),
    "visformer_tiny": (3, "stage3", {"norm", "head"}),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_blocks_of_unusual_architectures_are_found_and_head_or_norm_alone_are_none(name):
    count, last, behind = UNUSUAL[name]
    # torch 2.9 cannot work out a RegNet's widths without memory.
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        model = timm.create_model(name, num_classes=5)
    named = dict(model.named_modules())
    found = blocks(model)
    assert len(found) == count and found[-1] is named[last]
    freed = {id(p) for part in tail(model, 1) for p in part.parameters()}
    expected = {id(p) for part in (last, *behind) for p in named[part].parameters()}
    assert freed == expected


def test_the_tail_holds_layers_without_parameters_and_nothing_of_what_comes_before():
    model = build("test_vit")
    parts = tail(model, 2)
    first = blocks(model)[-2]
    assert {first.attn, first.drop_path1, first.mlp.drop1, model.head_drop} <= set(parts)
    earlier = [m for block in blocks(model)[:-2] for m in block.modules()]
    assert not {model, model.blocks, model.patch_embed, model.pos_drop, *earlier} & set(parts)


def test_the_tail_leaves_out_what_shares_its_layers_with_earlier_blocks():
    model = build("test_vit")
    model.blocks[5].norm1 = model.blocks[0].norm1
    freed = {id(p) for part in tail(model, 1) for p in part.parameters()}
    assert id(model.blocks[0].norm1.weight) not in freed
    assert id(model.blocks[5].norm2.weight) in freed and id(model.head.weight) in freed


def test_the_head_of_a_classifier_with_hidden_layers_is_its_last_layer():
    with torch.device("meta"):
        caformer = timm.create_model("caformer_s18", num_classes=5)
        two = timm.create_model("repvit_m0_9", num_classes=5)
        branches = timm.create_model("crossvit_tiny_240", num_classes=5)
    assert heads(caformer) == [caformer.head.fc.fc2]
    assert [head.out_features for head in heads(two)] == [5, 5]
    assert heads(branches) == list(branches.head)


@pytest.mark.parametrize(
    "name",
    [
        "test_vit",
        "volo_d1_224",
        "crossvit_tiny_240",
        "deit_tiny_distilled_patch16_224",
        "levit_128s",
    ],
)
def test_nothing_but_the_heads_gives_logits(name):
    model = timm.create_model(name, num_classes=5).eval()
    for head in heads(model):
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    assert not model(torch.randn(1, *model.default_cfg["input_size"])).any()
    named = {name for name, module in model.named_modules() if module in heads(model)}
    assert named <= set(layers.heads(model))


def test_features_are_what_the_head_maps_to_the_logits(net):
    _, model = net
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with training(model, "eval", dropout=False):
        features, logits = features_and_logits(model, x)
        assert torch.equal(logits, model(x))
    torch.testing.assert_close(heads(model)[0](features), logits)
    assert not heads(model)[0]._forward_pre_hooks
    assert loss_gradients(features.square().sum(), [next(model.parameters())])[0].any()


def test_gradients_of_what_a_loss_does_not_depend_on_are_zero():
    used, idle = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    found = loss_gradients(used.square().sum(), [used, idle])
    assert [g.tolist() for g in found] == [[2, 2], [0, 0, 0]]
    assert dot(found, [used, idle]).item() == 4 and used.grad is None


def test_renewed_parts_take_a_fresh_initialisation_and_the_rest_stays(net):
    name, model = net
    changed, fresh = copy.deepcopy(model), build(name, seed=1)
    renew(changed, fresh, tail(changed, 1))
    kept = {id(p) for part in tail(changed, 1) for p in part.parameters()}
    for (label, p), q, r in zip(
        changed.named_parameters(), fresh.parameters(), model.parameters(), strict=True
    ):
        assert torch.equal(p, q if id(p) in kept else r), label


def test_surgery_targets_leave_out_head_tokens_and_positions(net):
    _, model = net
    weights = matrices(model, "matrix")
    assert weights and all(w.dim() >= 2 for w in weights.values())
    assert not {id(w) for w in weights.values()} & {id(h.weight) for h in heads(model)}
    assert not any("pos_embed" in n or "token" in n for n in weights)
    assert set(matrices(model, "conv")) <= set(weights)
    assert stem(model).weight.data_ptr() in {w.data_ptr() for w in weights.values()}


def test_norms_are_found_by_type_those_of_shortcuts_too():
    found = norms(build("test_resnet"))
    assert len(found) == 15 and all(isinstance(m, nn.BatchNorm2d) for m in found)
    assert len(norms(build("test_vit"))) == 13


@pytest.mark.parametrize(
    "norm",
    [
        RmsNorm(4),
        SimpleNorm2d(4),
        EvoNorm2dS0(4, group_size=2),
        FilterResponseNormTlu2d(4),
    ],
)
def test_norms_that_torch_does_not_know_are_norms(norm):
    class NormLinear(nn.Sequential):
        """A layer with a norm in it is none itself."""

    model = nn.Sequential(NormLinear(norm, nn.Linear(4, 2)), nn.Conv2d(4, 4, 1))
    assert norms(model) == [norm]


def test_scales_that_are_no_norms_are_not_taken_for_one():
    with torch.device("meta"):
        model = timm.create_model("convnextv2_atto", num_classes=5)
        scaled = timm.create_model("caformer_s18", num_classes=5)
    assert {type(m).__name__ for m in norms(model)} == {"LayerNorm2d", "GlobalResponseNorm"}
    assert not any("Scale" in type(m).__name__ for m in norms(scaled))


def test_mixed_passes_give_every_example_once_and_spread_the_additional_ones():
    main = [(torch.zeros(4, 1), torch.zeros(4).long())] * 5
    x, y = torch.arange(7.0).view(7, 1) + 1, torch.arange(7)
    given = list(mixed(main, 20, x, y, torch.Generator().manual_seed(0)))
    extra = [len(a) - 4 for a, _ in given]
    assert sum(extra) == 7 and max(extra) - min(extra) <= 1
    values = torch.cat([a[4:, 0] for a, _ in given])
    assert sorted(values.tolist()) == x[:, 0].tolist()
    once = list(shuffled(x, y, 3, torch.Generator().manual_seed(0)))
    assert sorted(torch.cat([b for _, b in once]).tolist()) == y.tolist()


@pytest.mark.parametrize(
    "layer",
    [
        nn.Hardsigmoid(),
        nn.Hardsigmoid(inplace=True),
        lambda x: nn.functional.scaled_dot_product_attention(x[None, None], x[None, None], x[None]),
    ],
    ids=["hard sigmoid", "in place", "attention"],
)
def test_gradients_of_gradients_exist_where_torch_has_none(layer):
    x = torch.randn(4, 3, requires_grad=True)

    def slope():
        out = layer(1.0 * x)
        return out.detach(), torch.autograd.grad(out.square().sum(), x, create_graph=True)[0]

    with twice_differentiable():
        plain, gradient = slope()
        twice = torch.autograd.grad(gradient.square().sum(), x)[0]
    assert torch.isfinite(twice).all() and twice.any()
    usual, expected = slope()
    assert torch.allclose(plain, usual, atol=1e-6)
    assert torch.allclose(gradient, expected, atol=1e-5)


def test_one_example_by_itself_is_told_with_both_ways_out() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with (
        pytest.raises(MethodError, match="batch_size to at least 2, .* a single example, --set"),
        training(model),
    ):
        model(torch.zeros(1, 2))
    with training(model, "eval"):
        assert model(torch.zeros(1, 2)).isfinite().all()
