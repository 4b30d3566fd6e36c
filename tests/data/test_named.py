"""Training examples that are named one by one."""

import pytest
import torch

from unlearn_bench.core.errors import DataError
from unlearn_bench.data.attributes import NO_ATTRIBUTES, Attributes
from unlearn_bench.data.named import named_places
from unlearn_bench.suite.forget import Forget

FILES = Attributes(files=lambda: ["train/ant/1.png", "train/bee/1.png", "train/bee/2.png"])


def places(forget: Forget, attributes: Attributes = FILES, numbers=None) -> list[int]:
    return named_places(forget, 3, numbers, attributes).tolist()


@pytest.mark.parametrize(
    "name", ["train/bee/1.png", "./train/bee/1.png", "bee/1.png", "/data/own/train/bee/1.png"]
)
def test_a_file_is_found_by_any_end_of_its_path(name):
    assert places(Forget(files=(name,))) == [1]


def test_streams_name_files_and_indices():
    stream = Forget(stream=(Forget(files=("2.png",)), Forget(indices=(0,))))
    assert sorted(places(stream)) == [0, 2]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("1.png", "2 training examples come from files '?1.png.* write more of the path"),
        ("3.png", "no training example comes from a file '?3.png.* such as train/ant/1.png"),
        ("ee/1.png", "no training example comes from a file"),
    ],
)
def test_a_file_that_is_not_one_example_is_refused(name, message):
    with pytest.raises(DataError, match=message):
        places(Forget(files=(name,)))


@pytest.mark.parametrize("attributes", [NO_ATTRIBUTES, Attributes(files=lambda: ["", "", ""])])
def test_examples_without_files_are_named_by_index(attributes):
    with pytest.raises(DataError, match="come without file names; name them by index"):
        places(Forget(files=("1.png",)), attributes)


def test_a_mask_has_one_digit_for_every_training_example():
    assert places(Forget(indices=(1,), of=3)) == [1]
    with pytest.raises(DataError, match="mask has 4 zeros and ones, but the training part has 3"):
        places(Forget(indices=(1,), of=4))
    numbers = torch.tensor([0, 2, 3])
    assert places(Forget(indices=(2,), of=5), numbers=numbers) == [1]
    # As many as training examples, which is not what is wrong with it.
    with pytest.raises(DataError, match="also for those held out as the test part.* number 4"):
        places(Forget(indices=(2,), of=3), numbers=numbers)
