"""What a method may keep between requests: tensors and plain values, and no examples."""

import math

import pytest
import torch

from unlearn_bench.core.errors import MethodError
from unlearn_bench.data.images import Dataset, Part, TensorImages
from unlearn_bench.toolkit import state as module
from unlearn_bench.toolkit.state import State, holds_examples

MEAN, STD = (0.3, 0.5, 0.4), (0.2, 0.25, 0.3)


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (20, 3, 4, 4), dtype=torch.uint8, generator=generator)
    part = Part(TensorImages(images), torch.arange(20) % 4)
    return Dataset("d", part, part, tuple("abcd"), MEAN, STD, fingerprint="")


MEMBERS = torch.arange(10)


def test_tensors_and_plain_values_come_back_as_they_were_left(data):
    kept = State()
    kept["fisher"] = torch.ones(3, requires_grad=True)
    kept["shards"] = [[1, 2], [3]]
    kept["done"] = {"requests": 2, "rate": 0.5, "name": "x", "last": None, "yes": True}
    found = kept.checked(data, MEMBERS)
    assert set(found) == {"fisher", "shards", "done"} and len(found) == 3
    assert not found["fisher"].requires_grad and found.plain["shards"] == [[1, 2], [3]]
    assert list(found.tensors) == ["fisher"] and found.plain["done"]["rate"] == 0.5
    del kept["done"]
    assert "done" not in kept and "done" in found


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, (1, 2), b"x", math.nan, math.inf, [torch.ones(1)], {1: 2}, [[{0}]]]
)
def test_what_json_has_no_word_for_is_refused(value):
    with pytest.raises(MethodError, match=r"ctx.state\['it'\] = \w+: keep tensors, numbers"):
        State()["it"] = value


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 201, 3])
def test_a_name_is_a_short_text(name):
    with pytest.raises(MethodError, match="name it by a text"):
        State()[name] = 1


def test_a_list_that_was_changed_afterwards_is_looked_at_again(data):
    kept = State()
    kept["list"] = held = [1]
    held.append(object())
    with pytest.raises(MethodError, match="that JSON cannot hold"):
        kept.checked(data, MEMBERS)


def test_there_is_a_most_that_can_be_kept(data, monkeypatch):
    kept = State({"weights": torch.zeros(100)}, {"list": [0] * 100})
    monkeypatch.setattr(module, "MAX_TENSOR_BYTES", 399)
    with pytest.raises(MethodError, match="tensors of more than"):
        kept.checked(data, MEMBERS)
    monkeypatch.setattr(module, "MAX_PLAIN_BYTES", 99)
    with pytest.raises(MethodError, match="plain values"):
        kept.checked(data, MEMBERS)


def forms(data):
    images = data.train.images.fetch(torch.tensor([3, 7]))
    scaled = images.float() / 255
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (MEAN, STD))
    normal = (scaled - mean) / std
    return {
        "as stored": images,
        "scaled": scaled,
        "normalised": normal,
        "flat": normal.flatten(1),
        "in half": normal[:1].double().flatten(),
        "among others": torch.cat([torch.randn(5, 3, 4, 4), normal]),
    }


@pytest.mark.parametrize(
    "form", ["as stored", "scaled", "normalised", "flat", "in half", "among others"]
)
def test_examples_are_found_in_any_form_that_models_read(form, data):
    tensor = forms(data)[form]
    assert holds_examples(tensor, data, MEMBERS)
    with pytest.raises(MethodError, match=r"ctx.state\['copies'\] holds training examples"):
        State({"copies": tensor}).checked(data, MEMBERS)


def test_examples_of_others_weights_and_means_are_no_copies(data):
    images = data.train.images
    assert not holds_examples(images.fetch(torch.tensor([15])), data, MEMBERS)
    assert not holds_examples(torch.randn(64, 48), data, MEMBERS)
    mean = images.fetch(MEMBERS).float().mean(0)
    assert not holds_examples(mean / 255, data, MEMBERS)
    assert not holds_examples(torch.zeros(3, 4, 4, dtype=torch.long), data, MEMBERS)
    assert not holds_examples(torch.zeros(0), data, MEMBERS)
