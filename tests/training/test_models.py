"""Any timm architecture, fitted to the data."""

import copy
from typing import ClassVar

import pytest
import torch
from safetensors.torch import save_file

from unlearn_bench.core.errors import ModelError, UnknownNameError
from unlearn_bench.fisher.timing import randomised
from unlearn_bench.suite.spec import ModelSpec
from unlearn_bench.training import stems
from unlearn_bench.training.models import build, load_weights, names, summary


def make(name, size=32, channels=3, classes=7, stem="auto", seed=0):
    return build(
        ModelSpec(name=name, stem=stem),
        channels=channels,
        image_size=(size, size),
        num_classes=classes,
        seed=seed,
    )


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "vit_tiny_patch16_224",
        "mobilenetv3_small_050",
        "convnext_atto",
        "regnety_002",
        "densenet121",
        "swin_tiny_patch4_window7_224",
        "mixer_s32_224",
        "allcnn",
        "lenet",
    ],
)
@pytest.mark.parametrize(("size", "channels"), [(32, 3), (28, 1)])
def test_families_take_small_images_of_any_channels(name, size, channels):
    if name == "mixer_s32_224" and size == 28:
        pytest.skip("its 32-pixel patches do not fit into 28 pixels")
    model = make(name, size, channels)
    assert model(torch.zeros(2, channels, size, size)).shape == (2, 7)
    assert not model.training


def test_a_model_too_large_for_the_images_says_what_to_do():
    with pytest.raises(ModelError, match=r"mixer_s32_224.*1 x 28 x 28.*--image-size"):
        make("mixer_s32_224", 28, 1)


def features(model, size):
    with torch.no_grad():
        return model.forward_features(torch.zeros(1, 3, size, size)).shape[-1]


def test_small_maps_may_be_multiplied_and_that_is_part_of_what_a_model_is():
    plain, quick = (
        ModelSpec(name="test_resnet", stem="standard", small_maps=how)
        for how in ("convolve", "multiply")
    )
    assert plain.model_dump() == ModelSpec(name="test_resnet", stem="standard").model_dump()
    assert quick.model_dump()["small_maps"] == "multiply"
    assert quick.label == "test_resnet (standard stem, small maps multiplied)"
    convolves, multiplies = (
        build(spec, channels=1, image_size=(8, 8), num_classes=10, seed=0)
        for spec in (plain, quick)
    )
    randomised(convolves)
    multiplies.load_state_dict(convolves.state_dict())
    x = torch.randn(4, 1, 8, 8)
    assert torch.allclose(convolves(x), multiplies(x), rtol=1e-4, atol=1e-5)


def test_small_stem_keeps_the_resolution_and_the_standard_one_does_not():
    assert features(make("resnet18", 32), 32) == 4
    assert features(make("resnet18", 32, stem="standard"), 32) == 1
    assert features(make("resnet18", 96), 96) == 3  # auto: 96 pixels are not small
    assert features(make("mobilenetv3_small_050", 32), 32) == 2


@pytest.mark.parametrize("name", ["fastvit_t8", "csatv2"])
def test_every_branch_of_a_stem_keeps_the_resolution(name):
    model = make(name, 64, stem="small")
    first = stems.first_convolutions(model).values()
    assert all(conv.stride == (1, 1) for conv in first)
    assert len(first) == (0 if name == "csatv2" else 2)
    # A branch of one pixel stays one: it is added to what the larger kernel finds.
    assert sorted(conv.kernel_size for conv in first) == [(1, 1), (3, 3)][: len(first)]


def test_every_branch_of_a_stem_takes_the_channels():
    class Branches(torch.nn.Module):
        default_cfg: ClassVar = {"first_conv": ("wide", "narrow")}

        def __init__(self):
            super().__init__()
            self.wide, self.narrow = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(3, 4, 1)

    model = Branches()
    stems.take_channels(model, 1)
    assert model.wide.in_channels == model.narrow.in_channels == 1


def test_a_hybrid_keeps_its_patches_where_smaller_ones_do_not_divide_its_maps():
    assert make("vitamin_small_224", 64).patch_embed.num_patches == 16


def test_transformers_get_small_patches_for_small_images():
    assert make("vit_tiny_patch16_224", 32).patch_embed.num_patches == 64
    assert make("vit_tiny_patch16_224", 32, stem="standard").patch_embed.num_patches == 4


def test_mnist_resnet_is_the_one_of_the_paper():
    model = make("resnet18", 28, 1, 10, stem="standard")
    assert sum(p.numel() for p in model.parameters()) == 11_175_370
    assert model.conv1.kernel_size == (7, 7)


@pytest.mark.parametrize(
    ("name", "body", "features"),
    [
        ("resnet34", 21_284_672, 512),
        ("resnet50", 23_508_032, 2048),
    ],
)
def test_a_network_is_the_one_that_its_name_says(name, body, features):
    # A published ResNet-50 was a ResNet-34; these are torchvision's counts without the head.
    model = make(name, 32, 3, 10, stem="standard")
    assert sum(p.numel() for p in model.parameters()) == body + 10 * (features + 1)


@pytest.mark.parametrize(
    ("name", "count", "published"),
    [
        ("resnet9", 6_573_130, "6.6 M"),
        ("resnet20", 269_722, "0.27 M"),
        ("resnet32", 464_154, "0.46 M"),
        ("resnet56", 853_018, "0.85 M"),
        ("vgg11_bn_cifar", 9_231_114, "9.2 M"),
        ("vgg16_bn_cifar", 14_728_266, "14.7 M"),
        ("wrn28_10", 36_479_194, "36.5 M"),
    ],
)
def test_networks_for_cifar_have_as_many_parameters_as_published(name, count, published):
    model = make(name, 32, 3, 10)
    assert sum(p.numel() for p in model.parameters()) == count
    assert f"{count / 1e6:.{2 if count < 1e6 else 1}f} M" == published
    assert published in summary(name) and name in names()


@pytest.mark.parametrize("name", ["resnet9", "resnet20", "vgg11_bn_cifar"])
def test_networks_for_cifar_speak_timms_interface(name):
    model, x = make(name, 32, 1, 10), torch.randn(2, 1, 32, 32)
    hidden = model.forward_head(model.forward_features(x), pre_logits=True)
    assert hidden.shape == (2, model.num_features)
    assert torch.allclose(model.get_classifier()(hidden), model(x))
    model.reset_classifier(3)
    assert model(x).shape == (2, 3)


def test_a_residual_network_for_cifar_passes_on_what_no_block_changes():
    model = make("resnet20", 32, 3, 10)
    for name, module in model.named_modules():
        if name.endswith("bn2"):
            torch.nn.init.zeros_(module.weight)
    x = torch.randn(2, 3, 32, 32)
    start = torch.relu(model.bn1(model.conv1(x)))
    out = model.forward_features(x)
    # Every second pixel twice, and the 16 channels in the middle of 64, zeros around them.
    assert torch.equal(out[:, 24:40], start[:, :, ::4, ::4])
    assert out.shape == (2, 64, 8, 8) and not out[:, :24].any() and not out[:, 40:].any()


def test_a_narrow_resnet9_on_half_the_pixels_adds_its_blocks_to_what_they_get():
    spec = ModelSpec(name="resnet9", args={"width": 4, "stride": 2})
    model = build(spec, channels=3, image_size=(32, 32), num_classes=10, seed=0)
    assert model.prep(torch.ones(2, 3, 32, 32)).shape == (2, 4, 16, 16)
    block, x = model.layer1[1], torch.randn(2, 8, 8, 8)
    torch.nn.init.zeros_(block.units[1][1].weight)  # the BatchNorm before the last ReLU
    assert torch.equal(block(x), x)


def test_vgg_for_cifar_says_the_smallest_images_it_takes():
    with pytest.raises(ModelError, match="vgg needs images of at least 32 pixels a side"):
        make("vgg11_bn_cifar", 28, 1)


def test_weights_come_from_the_seed_alone():
    torch.manual_seed(5)
    a = make("lenet", 28, 1, seed=3).state_dict()
    b = make("lenet", 28, 1, seed=3).state_dict()
    c = make("lenet", 28, 1, seed=4).state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["classifier.weight"], c["classifier.weight"])


@pytest.mark.parametrize("name", ["lenet", "allcnn"])
def test_small_nets_speak_timms_interface(name):
    model = make(name, 28, 1)
    x = torch.randn(2, 1, 28, 28)
    hidden = model.forward_head(model.forward_features(x), pre_logits=True)
    assert hidden.shape == (2, model.num_features)
    assert torch.equal(model.get_classifier()(hidden), model(x))
    model.reset_classifier(3)
    assert model(x).shape == (2, 3)
    assert name in names("*net*") + names("all*")


@pytest.mark.parametrize(
    ("given", "suggested"),
    [
        ("vit_tiny", "vit_tiny_patch16_224"),
        ("ViT_Tiny", "vit_tiny_patch16_224"),
        ("wide_resnet28_10", "wide_resnet50_2"),
        ("resnet21", "resnet20"),
        ("resnet110", "resnet101"),
        ("vgg16_bm", "vgg16_bn"),
        ("lenett", "lenet"),
    ],
)
def test_a_name_of_no_model_suggests_its_family(given, suggested):
    with pytest.raises(UnknownNameError, match=f"did you mean '{suggested}'"):
        make(given)


@pytest.mark.parametrize("name", ["hf_hub:timm/resnet18", "local-dir:/tmp", "hf-hub:x", "a/b"])
def test_no_model_is_read_from_a_path(name):
    with pytest.raises(UnknownNameError, match="no model is read from a path"):
        make(name)


def test_lenet_says_the_smallest_images_it_takes_and_need_not_have_square_ones():
    with pytest.raises(ModelError, match="8 x 8 images: lenet needs images of at least 12 pixels"):
        make("lenet", 8, 1)
    assert make("lenet", 12, 1)(torch.zeros(1, 1, 12, 12)).shape == (1, 7)
    wide = build(ModelSpec(name="lenet"), channels=3, image_size=(12, 30), num_classes=2, seed=0)
    assert wide(torch.zeros(1, 3, 12, 30)).shape == (1, 2)


def test_unknown_model_suggests_the_closest():
    with pytest.raises(UnknownNameError, match="did you mean 'resnet18'"):
        make("resnet_18")


def test_own_weights_are_loaded(tmp_path):
    theirs = make("lenet", 28, 1, seed=9)
    save_file(theirs.state_dict(), tmp_path / "w.safetensors")
    ours = make("lenet", 28, 1)
    load_weights(ours, tmp_path / "w.safetensors")
    x = torch.randn(2, 1, 28, 28)
    assert torch.equal(ours(x), theirs(x))


def test_weights_of_another_shape_are_refused_by_name(tmp_path):
    save_file(make("lenet", 28, 1, classes=5).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"classifier.*\[5.*\[7"):
        load_weights(make("lenet", 28, 1), tmp_path / "w.safetensors")


def test_weights_of_another_architecture_name_what_is_missing_and_count_the_rest(tmp_path):
    save_file(make("allcnn", 28, 1).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"and \d+ more.*--model"):
        load_weights(make("lenet", 28, 1), tmp_path / "w.safetensors")


def test_weights_with_nan_are_refused(tmp_path):
    state = make("lenet", 28, 1).state_dict()
    state["classifier.bias"][0] = float("nan")
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"classifier\.bias holds NaN"):
        load_weights(make("lenet", 28, 1), tmp_path / "w.safetensors")


def test_a_file_that_is_not_safetensors_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"PK\x03\x04 a pickle, perhaps")
    with pytest.raises(ModelError, match="not a readable PyTorch file"):
        load_weights(make("lenet", 28, 1), path)
    path.write_bytes(b"something else")
    with pytest.raises(ModelError, match="not a safetensors file, or it is truncated"):
        load_weights(make("lenet", 28, 1), path)


def test_a_suite_may_pass_arguments_to_the_architecture():
    args = {"zero_init_last": False}
    spec = ModelSpec(name="resnet18", args=args)
    model = build(spec, channels=1, image_size=(28, 28), num_classes=10, seed=0)
    assert model.layer1[0].bn2.weight.eq(1).all()
    assert make("resnet18", 28, 1).layer1[0].bn2.weight.eq(0).all()
    assert spec.label == "resnet18 (zero_init_last=False)"
    with pytest.raises(ModelError, match="nonsense"):
        build(
            ModelSpec(name="resnet18", args={"nonsense": 1}),
            channels=1,
            image_size=(28, 28),
            num_classes=10,
            seed=0,
        )


@pytest.mark.parametrize("name", ["levit_128s", "efficientvit_m0", "tiny_vit_5m_224"])
def test_what_a_model_keeps_of_a_pass_neither_hides_nor_repeats_a_gradient(name: str) -> None:
    model, x = randomised(make(name, 64)), torch.rand(2, 3, 64, 64)
    biases = [p for n, p in model.named_parameters() if n.endswith("attention_biases")]
    assert biases
    with torch.no_grad():
        before = model(x)
    for _ in range(2):
        gradients = torch.autograd.grad(model(x).logsumexp(1).sum(), biases)
        assert any(gradient.abs().sum() > 0 for gradient in gradients)
    with torch.no_grad():
        for bias in biases:
            bias.normal_()
        assert not torch.equal(model(x), before)
        copied = copy.deepcopy(model)
        for bias in biases:
            bias.normal_()
        assert not torch.equal(model(x), copied(x))


def test_a_model_that_keeps_nothing_of_its_weights_is_left_alone() -> None:
    for name in ("resnet18", "convit_tiny"):  # convit keeps relative positions
        assert not any(module._forward_hooks for module in make(name, 64).modules())
