"""Weights as people have them: wrapped, renamed, in PyTorch files, or made to do harm."""

import argparse
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from unlearn_bench.core.errors import ModelError, RefusedError
from unlearn_bench.core.reading import safetensors_header
from unlearn_bench.suite.spec import ModelSpec
from unlearn_bench.training.models import build
from unlearn_bench.training.weights import load_weights


def make(seed: int = 0) -> nn.Module:
    return build(
        ModelSpec(name="test_resnet", stem="standard"),
        channels=3,
        image_size=(16, 16),
        num_classes=3,
        seed=seed,
    )


@pytest.fixture(scope="module")
def theirs() -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in make(9).state_dict().items()}


def load(path: Path) -> tuple[dict[str, torch.Tensor], str]:
    model = make()
    notes = load_weights(model, path)
    return model.state_dict(), "; ".join(notes)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "_orig_mod.module.", "net."])
def test_what_a_wrapper_puts_before_names_is_taken_off(prefix, theirs, tmp_path):
    save_file({prefix + name: t for name, t in theirs.items()}, tmp_path / "w.safetensors")
    found, notes = load(tmp_path / "w.safetensors")
    assert same(found, theirs)
    assert notes == f"w.safetensors: its names begin with '{prefix}', which is removed"


def test_a_prefix_of_some_names_only_is_not_taken_off(theirs, tmp_path):
    first = next(iter(theirs))
    wrong = {("" if n == first else "module.") + n: t for n, t in theirs.items()}
    save_file(wrong, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="does not fit this model: .* is missing"):
        load(tmp_path / "w.safetensors")


def test_a_pytorch_file_of_weights_is_read(theirs, tmp_path):
    torch.save(theirs, tmp_path / "w.pth")
    assert load(tmp_path / "w.pth")[1] == ""
    assert same(load(tmp_path / "w.pth")[0], theirs)
    torch.save(theirs, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    assert same(load(tmp_path / "old.bin")[0], theirs)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_weights_are_found_within_a_checkpoint(key, theirs, tmp_path):
    torch.save({"epoch": 3, key: theirs, "optimizer": {"lr": 0.1}}, tmp_path / "w.pth.tar")
    found, notes = load(tmp_path / "w.pth.tar")
    assert same(found, theirs) and f"read its entry '{key}'" in notes


def test_averaged_weights_are_read_where_they_are_alone_and_named_where_not(theirs, tmp_path):
    other = {name: torch.zeros_like(tensor) for name, tensor in theirs.items()}
    torch.save({"state_dict": theirs, "state_dict_ema": other}, tmp_path / "w.pth")
    found, notes = load(tmp_path / "w.pth")
    assert same(found, theirs) and "its 'state_dict_ema', averaged over training, is left" in notes
    torch.save({"epoch": 1, "model_ema": theirs}, tmp_path / "w.pth")
    found, notes = load(tmp_path / "w.pth")
    assert same(found, theirs) and notes == "w.pth: read its entry 'model_ema', an average"
    averaged = {f"module.{name}": tensor for name, tensor in theirs.items()}
    torch.save({**averaged, "n_averaged": torch.tensor(3)}, tmp_path / "w.pth")
    found, notes = load(tmp_path / "w.pth")
    assert same(found, theirs) and notes.count("w.pth") == 1


def test_what_a_training_module_holds_beside_the_model_is_left_out(theirs, tmp_path):
    whole = {f"model.{name}": tensor for name, tensor in theirs.items()}
    torch.save({"state_dict": {**whole, "criterion.weight": torch.ones(3)}}, tmp_path / "w.ckpt")
    found, notes = load(tmp_path / "w.ckpt")
    assert same(found, theirs)
    assert notes == (
        "w.ckpt: read its entry 'state_dict'; beside 'model.' it holds criterion.weight, which is "
        "left out; its names begin with 'model.', which is removed"
    )


def test_a_command_line_and_numpy_numbers_beside_the_weights_do_no_harm(theirs, tmp_path):
    beside = {"args": argparse.Namespace(lr=0.1), "best": np.float64(0.9), "epoch": np.int64(3)}
    torch.save({"state_dict": theirs, **beside}, tmp_path / "w.pth")
    assert same(load(tmp_path / "w.pth")[0], theirs)


def test_torchvisions_resnets_are_timms(tmp_path):
    weights = torchvision.models.resnet18(num_classes=3).state_dict()
    torch.save(weights, tmp_path / "resnet18.pth")
    spec = ModelSpec(name="resnet18", stem="standard")
    model = build(spec, channels=3, image_size=(32, 32), num_classes=3, seed=0)
    assert load_weights(model, tmp_path / "resnet18.pth") == ()
    assert same(model.state_dict(), weights)


def test_a_checkpoint_of_two_models_is_refused_with_what_it_holds(theirs, tmp_path):
    torch.save({"model": theirs, "net": theirs}, tmp_path / "w.pth")
    with pytest.raises(
        ModelError, match="does not hold a single dictionary of tensors, but model, net"
    ):
        load(tmp_path / "w.pth")
    torch.save([1, 2], tmp_path / "w.pth")
    with pytest.raises(ModelError, match="holds a list"):
        load(tmp_path / "w.pth")


class _Harm:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pytorch_file_runs_no_code(zipped, tmp_path):
    torch.save(
        {"state_dict": _Harm(tmp_path / "ran")},
        tmp_path / "w.pth",
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(ModelError, match="is not unpickled.*save_file") as caught:
        load(tmp_path / "w.pth")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_a_whole_model_and_a_packed_file_are_refused(theirs, tmp_path):
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(_Harm(tmp_path / "ran")))
    torch.save(make(), tmp_path / "whole.pt")
    torch.save(theirs, tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "w.pth") as plain:
        with zipfile.ZipFile(tmp_path / "packed.pth", "w", zipfile.ZIP_DEFLATED) as packed:
            for member in plain.infolist():
                packed.writestr(member.filename, bytes(2 * member.file_size))
    for name, message in (
        ("p.pkl", "PyTorch file|not unpickled"),
        ("whole.pt", "not unpickled"),
        ("packed.pth", "is compressed"),
    ):
        with pytest.raises(ModelError, match=message):
            load(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_counters_that_are_missing_are_filled_in(theirs, tmp_path):
    old = {name: t for name, t in theirs.items() if "num_batches_tracked" not in name}
    save_file(old, tmp_path / "w.safetensors")
    found, notes = load(tmp_path / "w.safetensors")
    assert "counters num_batches_tracked are missing" in notes
    assert all(torch.equal(found[name], old[name]) for name in old)
    del old["bn1.running_mean"]
    save_file(old, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"bn1\.running_mean is missing"):
        load(tmp_path / "w.safetensors")


def test_constants_within_the_file_are_named_with_the_flags_that_give_them(theirs, tmp_path):
    more = {"normalize.mean": torch.tensor([0.5, 0.25]), "normalize.std": torch.tensor([1.0])}
    save_file(theirs | more, tmp_path / "w.safetensors")
    found, notes = load(tmp_path / "w.safetensors")
    assert same(found, theirs)
    assert "--mean 0.5,0.25 --std 1" in notes
    save_file(theirs | {"another": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="another is unknown"):
        load(tmp_path / "w.safetensors")


def fitted(name: str) -> nn.Module:
    return build(ModelSpec(name=name), channels=3, image_size=(32, 32), num_classes=10, seed=0)


def test_saluns_resnet18_is_timms_with_the_small_stem(tmp_path):
    # torchvision's ResNet-18 with another first convolution, no pooling, and constants within.
    theirs = torchvision.models.resnet18(num_classes=10)
    theirs.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    theirs.maxpool = nn.Identity()
    mean, std = torch.tensor([0.49, 0.48, 0.45]), torch.tensor([0.25, 0.24, 0.26])
    more = {"normalize.mean": mean, "normalize.std": std}
    torch.save({"epoch": 1, "state_dict": theirs.state_dict() | more}, tmp_path / "w.pth.tar")
    ours = fitted("resnet18")
    [note] = load_weights(ours, tmp_path / "w.pth.tar")
    assert "give --mean 0.49,0.48,0.45 --std 0.25,0.24,0.26" in note
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours(x), theirs.eval()(x))


@pytest.mark.parametrize("name", ["resnet20", "vgg11_bn_cifar"])
def test_published_names_of_networks_for_cifar_are_understood(name, tmp_path):
    theirs = fitted(name).state_dict()
    renamed = {f"module.{key.replace('fc.', 'linear.')}": t + 1 for key, t in theirs.items()}
    torch.save({"state_dict": renamed}, tmp_path / "w.th")
    ours = fitted(name)
    load_weights(ours, tmp_path / "w.th")
    assert all(torch.equal(t, theirs[key] + 1) for key, t in ours.state_dict().items())


def test_the_last_layer_and_the_short_cuts_may_have_other_names(theirs, tmp_path):
    other = {
        n.replace("fc.", "linear.").replace("downsample", "shortcut"): t for n, t in theirs.items()
    }
    assert other.keys() != theirs.keys()
    save_file(other, tmp_path / "w.safetensors")
    found, notes = load(tmp_path / "w.safetensors")
    assert same(found, theirs) and "its linear is the model's fc" in notes
    other["linear.weight"] = torch.zeros(5, 5)
    save_file(other, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="fc.weight is missing"):
        load(tmp_path / "w.safetensors")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float16, torch.float64])
def test_other_types_of_floating_point_are_converted(dtype, theirs, tmp_path):
    save_file(
        {n: t.to(dtype) if t.is_floating_point() else t for n, t in theirs.items()},
        tmp_path / "w.safetensors",
    )
    found, notes = load(tmp_path / "w.safetensors")
    assert "numbers become the model's type" in notes
    name = next(iter(theirs))
    assert torch.equal(found[name], theirs[name].to(dtype).float())


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_types_that_are_not_weights_are_refused(dtype, theirs, tmp_path):
    torch.save(theirs | {"fc.bias": torch.zeros(3, dtype=dtype)}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"fc\.bias holds torch\..*, expected torch\.float32"):
        load(tmp_path / "w.pth")


def test_nan_in_eight_bits_is_found(theirs, tmp_path):
    broken = {**theirs, "fc.bias": torch.tensor([0.0, float("nan"), 1.0]).to(torch.float8_e5m2)}
    save_file(broken, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"fc\.bias holds NaN"):
        load(tmp_path / "w.safetensors")


def sparse(path: Path, header: object, size: int) -> Path:
    text = json.dumps(header).encode()
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(size)
    return path


def test_a_sparse_file_of_terabytes_is_refused_by_its_header(tmp_path):
    size = 1 << 42
    entry = {"dtype": "F32", "shape": [1 << 30], "data_offsets": [0, 1 << 32]}
    with pytest.raises(ModelError, match=r"has 4\.4 TB, but its header declares 4\.3 GB"):
        load(sparse(tmp_path / "w.safetensors", {"w": entry}, size))
    length = len(json.dumps({"w": entry}))
    path = sparse(tmp_path / "v.safetensors", {"w": entry}, 8 + length + (1 << 32))
    with pytest.raises(ModelError, match="holds 1,073,741,824 numbers, this model"):
        load(path)


def test_special_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="is a pipe; only regular files"):
        load(tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="is a device"):
        load(Path("/dev/zero"))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    header=st.one_of(
        st.binary(max_size=40),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["dtype", "shape", "data_offsets", "w"]), inner, max_size=3
                )
            ),
            max_leaves=8,
        ).map(lambda value: json.dumps(value).encode()),
    ),
    rest=st.binary(max_size=20),
)
def test_no_header_leads_to_anything_but_one_line(header, rest, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + rest)
    try:
        safetensors_header(path)
    except RefusedError as error:
        assert "\n" not in str(error)


def test_a_header_whose_length_begins_like_a_pickle_is_read_as_what_it_is(
    theirs, tmp_path, monkeypatch
):
    """The length stands first: one of 128 modulo 256 begins with a pickle's first byte."""
    path = tmp_path / "w.safetensors"
    save_file(theirs, path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    padded = length + (128 - length) % 256
    path.write_bytes(
        padded.to_bytes(8, "little")
        + data[8 : 8 + length]
        + b" " * (padded - length)
        + data[8 + length :]
    )
    assert path.read_bytes()[:1] == b"\x80"
    # Newer versions of torch.load read safetensors too, older ones refuse: it must not be asked.
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("taken for a pickle"))
    assert same(load(path)[0], theirs)
