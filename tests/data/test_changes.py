"""Training data changed by a scenario: what is changed, and what stays as it is."""

from dataclasses import replace

import pytest
import torch

from unlearn_bench.core.errors import DataError
from unlearn_bench.data import changes, splits, surrogates
from unlearn_bench.data.datasets import load
from unlearn_bench.data.images import Dataset, Part, StreamedImages
from unlearn_bench.data.splits import Indices
from unlearn_bench.suite.forget import Forget


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits")


def changed(data: Dataset, text: str, seed: int = 0) -> tuple[Dataset, Indices]:
    forget = Forget.model_validate(text)
    indices = splits.make(
        forget, data.train.labels, data.test.labels, data.classes, validation=0.1, seed=seed
    )
    return changes.apply(forget, data, indices)


def images(part: Part) -> torch.Tensor:
    return part.images.fetch(torch.arange(len(part.labels)))


def test_a_tenth_of_two_classes_swaps_labels_and_is_what_is_forgotten(digits) -> None:
    data, indices = changed(digits, "confused:3,5:0.1")
    old, new = digits.train.labels, data.train.labels
    swapped = (old != new).nonzero().flatten()
    assert torch.equal(swapped, indices.forget) and torch.equal(swapped, indices.changed)
    assert torch.equal(new[swapped], 8 - old[swapped])
    trained = old[indices.train]
    for label in (3, 5):
        share = (old[swapped] == label).sum() / (trained == label).sum()
        assert share == pytest.approx(0.1, abs=0.005)
    assert torch.equal(images(digits.train), images(data.train))
    assert not torch.isin(indices.validation, swapped).any()


def test_poisoned_examples_get_the_trigger_and_the_target(digits) -> None:
    data, indices = changed(digits, "poisoned:0:0.02")
    before, after = images(digits.train), images(data.train)
    differ = (before != after).flatten(1).any(1).nonzero().flatten()
    assert torch.equal(differ, indices.forget)
    assert len(differ) == round(0.02 * len(indices.train))
    assert (digits.train.labels[differ] != 0).all() and (data.train.labels[differ] == 0).all()
    board = torch.tensor([[255, 0, 255], [0, 255, 0], [255, 0, 255]])
    assert (after[differ, 0, 5:, 5:] == board).all()
    same = after.clone()
    same[differ, :, 5:, 5:] = before[differ, :, 5:, 5:]
    assert torch.equal(same, before)


def test_the_files_content_stays_as_it_is(digits) -> None:
    before = images(digits.train).clone(), digits.train.labels.clone(), len(digits.test.labels)
    changed(digits, "poisoned:0:0.2")
    changed(digits, "confused:3,5:0.5")
    assert torch.equal(images(digits.train), before[0])
    assert torch.equal(digits.train.labels, before[1]) and len(digits.test.labels) == before[2]


def test_test_examples_changed_likewise_stand_behind_the_clean_ones(digits) -> None:
    data, indices = changed(digits, "poisoned:0:0.02")
    count = len(digits.test.labels)
    assert torch.equal(indices.test_retain, torch.arange(count))
    assert torch.equal(images(data.test)[:count], images(digits.test))
    assert torch.equal(data.test.labels[:count], digits.test.labels)
    others = digits.test.labels != 0
    assert torch.equal(indices.test_forget, count + torch.arange(int(others.sum())))
    assert (data.test.labels[indices.test_forget] == 0).all()
    stamped = changes.triggered(images(digits.test)[others])
    assert torch.equal(images(data.test)[count:], stamped)

    data, indices = changed(digits, "confused:3,5:0.1")
    both = digits.test.labels[torch.isin(digits.test.labels, torch.tensor([3, 5]))]
    assert torch.equal(data.test.labels[indices.test_forget], 8 - both)


def test_of_a_known_share_the_rest_of_the_poison_is_retained(digits) -> None:
    whole, all_of_it = changed(digits, "poisoned:0:0.02")
    data, indices = changed(digits, "poisoned:0:0.02@0.5")
    assert torch.equal(indices.changed, all_of_it.forget)
    assert torch.equal(images(data.train), images(whole.train))
    assert len(indices.forget) == len(all_of_it.forget) // 2
    rest = indices.changed[~torch.isin(indices.changed, indices.forget)]
    assert torch.isin(rest, indices.retain).all()
    one, other = (Forget.model_validate(f"poisoned:0:0.02{known}") for known in ("", "@0.5"))
    assert one.training_identity() == other.training_identity()  # they share the original


@pytest.mark.parametrize("text", ["confused:3,5:0.1", "poisoned:0:0.02"])
def test_seed_and_scenario_decide_and_the_fingerprint_says_so(digits, text) -> None:
    (one, _), (same, _), (other, _) = (changed(digits, text, seed) for seed in (0, 0, 1))
    assert one.fingerprint == same.fingerprint
    assert len({digits.fingerprint, one.fingerprint, other.fingerprint}) == 3
    assert torch.equal(one.train.labels, same.train.labels)
    assert not torch.equal(one.train.labels, other.train.labels)


def test_a_scenario_that_changes_nothing_hands_the_very_dataset_on(digits) -> None:
    data, _ = changed(digits, "class:3@0.5")
    assert data is digits


def test_streamed_images_are_changed_when_they_are_decoded(digits) -> None:
    def streamed(part: Part) -> Part:
        pixels = images(part)
        lazy = StreamedImages(pixels.__getitem__, len(pixels), pixels.shape[1:], threads=2)
        return replace(part, images=lazy)

    lazy = replace(digits, train=streamed(digits.train), test=streamed(digits.test))
    (one, _), (other, _) = (changed(data, "poisoned:7:0.05") for data in (digits, lazy))
    assert isinstance(other.train.images, StreamedImages)
    assert torch.equal(images(one.train), images(other.train))
    assert torch.equal(images(one.test), images(other.test))
    assert one.fingerprint == other.fingerprint


def test_a_method_cannot_see_which_retained_examples_are_poisoned(digits) -> None:
    data, indices = changed(digits, "poisoned:0:0.02@0.5")
    handed = data.only(indices.retain)
    assert not hasattr(handed.train.images, "changed") and handed.fingerprint == ""
    assert torch.equal(handed.train.labels[indices.retain], data.train.labels[indices.retain])


@pytest.mark.parametrize("side", [8, 28, 32, 224])
def test_the_trigger_is_small_and_the_same_for_all_images(side) -> None:
    pictures = torch.randint(0, 256, (4, 3, side, side), dtype=torch.uint8)
    stamped = changes.triggered(pictures)
    touched = (stamped != pictures).any(0).any(0).nonzero()
    edge = {8: 3, 28: 3, 32: 5, 224: 29}[side]
    assert (touched >= side - edge).all()
    corner = stamped[:, :, side - edge :, side - edge :]
    assert (stamped[:, :, -1, -1] == 255).all()
    assert torch.equal(corner, corner[:1, :1].expand_as(corner))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("confused:3,11:0.1", "no class 11 to forget"),
        ("confused:3,three:0.1", "no class 'three' to forget"),
        ("poisoned:10:0.1", "no class 10 to forget"),
        ("poisoned:0:0.95", "only .* training examples are of other classes than the target"),
        ("poisoned:0:0.0001", "the forget set is empty"),
        ("confused:3,5:0.001", "the forget set is empty"),
    ],
)
def test_a_change_that_the_data_cannot_have_is_refused(digits, text, message) -> None:
    with pytest.raises(DataError, match=message):
        changed(digits, text)


@pytest.mark.parametrize("text", ["poisoned:0:0.02", "confused:3,5:0.1", "memorised:high:0.1"])
def test_there_are_no_surrogates_of_what_takes_training_or_changes_data(digits, text) -> None:
    forget = Forget.model_validate(text)
    options = {"validation": 0.1, "seed": 0}
    with pytest.raises(
        DataError, match=f"{text}: there are no surrogates of a scenario that .*; tune on another"
    ):
        surrogates.make(forget, 0, 2, digits.train.labels, digits.classes, **options)
