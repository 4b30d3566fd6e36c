"""Labels of Parquet files: numbers and texts, the same classes in both parts."""

import numpy as np
import pyarrow as pa
import pytest

from unlearn_bench.core.errors import DataError
from unlearn_bench.data import datasets


@pytest.fixture
def load(tmp_path, encode, write_parquet, rng):
    """Write both parts with their labels, and names of these, and load them."""

    def load(train, test, train_names=None, test_names=None):
        for part, labels, names in (("train", train, train_names), ("test", test, test_names)):
            data = [encode(rng.integers(0, 256, (4, 4), dtype=np.uint8)) for _ in labels]
            write_parquet(tmp_path / f"{part}.parquet", data, labels, names=names)
        return datasets.load(f"parquet:{tmp_path}")

    return load


def classes_of(found) -> tuple[list[str], list[str]]:
    train, test = (
        [found.classes[label] for label in part.labels.tolist()]
        for part in (found.train, found.test)
    )
    return train, test


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_texts_are_classes_in_alphabetical_order(load, kind):
    found = load(pa.array(["dog", "cat", "dog"], kind), pa.array(["cat", "dog"], kind))
    assert found.classes == ("cat", "dog")
    assert classes_of(found) == (["dog", "cat", "dog"], ["cat", "dog"])


def test_texts_as_categories_are_read(load):
    found = load(pa.array(["b", "a"]).dictionary_encode(), pa.array(["a"]).dictionary_encode())
    assert classes_of(found) == (["b", "a"], ["a"])


def test_a_test_part_with_names_in_another_order_is_mapped_by_name(load):
    found = load([0, 1, 2], [0, 1, 2], ("cat", "dog", "eel"), ("eel", "cat", "dog"))
    assert classes_of(found) == (["cat", "dog", "eel"], ["eel", "cat", "dog"])
    assert any("mapped by name" in note for note in found.notes)


def test_named_numbers_and_texts_go_together_by_name(load):
    found = load([0, 1], ["eel", "cat"], ("eel", "cat"))
    assert classes_of(found) == (["eel", "cat"], ["eel", "cat"]) and found.classes == ("eel", "cat")
    found = load(["eel", "cat"], [0, 1], None, ("eel", "cat"))
    assert classes_of(found) == (["eel", "cat"], ["eel", "cat"])


def test_names_of_one_part_are_those_of_both(load):
    assert load([0, 1], [1], ("cat", "dog")).classes == ("cat", "dog")
    assert load([0, 1], [1], None, ("cat", "dog")).classes == ("cat", "dog")


@pytest.mark.parametrize("labels", [[1, 2, 3], [3, 7, 10**12]])
def test_numbers_that_do_not_start_at_0_invent_no_class(load, labels):
    found = load(labels, labels[::-1])
    assert found.classes == tuple(map(str, labels))
    assert found.train.labels.tolist() == [0, 1, 2] and found.test.labels.tolist() == [2, 1, 0]
    assert any("counted from 0, by these names" in note for note in found.notes)


def test_numbers_from_0_are_left_alone(load):
    found = load([0, 1, 2], [2])
    assert found.classes == ("0", "1", "2") and not found.notes


@pytest.mark.parametrize(
    ("train", "test", "names", "message"),
    [
        ([0, 1], [2], (None, None), "test.parquet has a label of 2, which the training part lacks"),
        ([0, 1], [-1], (None, None), "label of -1, which usually marks images without one"),
        (["a", "b"], ["c"], (None, None), "class 'c', of which the training part has no name"),
        (["a", "b"], [0], (None, None), "holds texts, .*test.parquet numbers without names"),
        ([0, 1], [0, 1], ("ab", "bc"), "class 'c', of which the training part has no name"),
        ([0, 1], [5], ("ab", "ba"), "label of 5, but names 2 classes"),
    ],
)
def test_parts_that_do_not_share_their_classes_are_refused(load, train, test, names, message):
    with pytest.raises(DataError, match=message):
        load(train, test, *names)


def test_files_of_a_part_may_list_the_names_in_their_own_order(
    tmp_path, encode, write_parquet, rng
):
    images = [encode(rng.integers(0, 256, (4, 4), dtype=np.uint8)) for _ in range(2)]
    write_parquet(tmp_path / "train-0.parquet", images, [0, 1], names=("cat", "dog"))
    write_parquet(tmp_path / "train-1.parquet", images, [0, 1], names=("dog", "eel"))
    write_parquet(tmp_path / "test.parquet", images, [0, 1], names=("cat", "dog"))
    found = datasets.load(f"parquet:{tmp_path}")
    assert classes_of(found) == (["cat", "dog", "dog", "eel"], ["cat", "dog"])
