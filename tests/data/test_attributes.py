"""What is known of examples beside their class, from every kind of source."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from unlearn_bench.core.blindness import blind
from unlearn_bench.core.errors import DataError, ParameterError, UserError
from unlearn_bench.data import datasets, torchvision_sources
from unlearn_bench.data.attributes import Attributes
from unlearn_bench.data.images import TensorImages
from unlearn_bench.data.sources import Columns, Raw, RawPart

KNOWN = Attributes(
    {"hospital": lambda: ["A", "B", "A"], "digit": lambda: ["1", "2", "caf\u00e9"]},
    {"hospital": lambda: ["B"], "digit": lambda: ["2"]},
    finer="digit",
)


def test_a_group_is_every_example_with_the_value() -> None:
    train, test = KNOWN.group("hospital", "A")
    assert train.tolist() == [True, False, True]
    assert test.tolist() == [False]
    assert KNOWN.subclass("2")[0].tolist() == [False, True, False]
    assert KNOWN.codes("hospital").tolist() == [0, 1, 0]


def test_letters_with_marks_may_be_written_in_two_ways() -> None:
    assert KNOWN.subclass("cafe\u0301")[0].tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda a: a.group("hospitl", "A"), "no column 'hospitl'; did you mean 'hospital'"),
        (lambda a: a.group("hospital", "C"), "of hospital = 'C' .*there are: A, B"),
        (lambda a: a.subclass("3"), "of subclass '3' .*there are: 1, 2"),
        (lambda a: Attributes().subclass("3"), "no fine classes; take cifar20 or digits-parity"),
        (lambda a: Attributes().group("a", "b"), "no column 'a' .it has none.; groups come from"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(ask, message) -> None:
    with pytest.raises(DataError, match=message) as caught:
        ask(KNOWN)
    assert "\n" not in str(caught.value)


def test_the_digits_by_parity_are_the_digits() -> None:
    plain, coarse = datasets.load("digits"), datasets.load("digits-parity")
    assert torch.equal(plain.train.images.data, coarse.train.images.data)
    assert coarse.classes == ("even", "odd")
    assert torch.equal(coarse.test.labels, plain.test.labels % 2)
    train, test = coarse.attributes.subclass("8")
    assert torch.equal(train, plain.train.labels == 8)
    assert torch.equal(test, plain.test.labels == 8)
    assert plain.fingerprint != coarse.fingerprint


def test_tuning_reads_no_attribute_of_the_test_part() -> None:
    with blind():
        sealed = datasets.load("digits-parity")
    assert not sealed.attributes.test and sealed.attributes.train


def test_cifar20_has_five_fine_classes_in_each_coarse_one() -> None:
    table = torch.tensor(torchvision_sources.COARSE_OF_FINE)
    assert table.bincount().tolist() == [5] * 20
    names = torchvision_sources.COARSE_NAMES
    assert list(names) == sorted(names) and len(names) == 20
    fine = tuple(f"fine {i}" for i in range(100))
    part = RawPart(TensorImages(torch.zeros(100, 3, 2, 2, dtype=torch.uint8)), torch.arange(100))
    raw = torchvision_sources.by_coarse_class(Raw(part, part, fine))
    # Rocket, tank and tractor are vehicles 2; sea is a natural scene; baby is one of the people.
    assert [names[int(raw.train.labels[i])] for i in (69, 85, 89, 71, 2)] == [
        "vehicles_2",
        "vehicles_2",
        "vehicles_2",
        "large_natural_outdoor_scenes",
        "people",
    ]
    assert raw.attributes.subclass("fine 69")[0].nonzero().tolist() == [[69]]


@pytest.fixture
def parquet(tmp_path, encode, rng):
    """Eight images with a coarse and a fine label, and the hospital that they come from."""
    for part, count in (("train", 8), ("test", 4)):
        cells = [encode(rng.integers(0, 256, (4, 4), dtype=np.uint8)) for _ in range(count)]
        fine = [i % 4 for i in range(count)]
        table = pa.table(
            {
                "image": pa.array(cells, pa.binary()),
                "fine_label": fine,
                "coarse_label": [label // 2 for label in fine],
                "hospital": ["AB"[i % 2] for i in range(count)],
                "boxes": [[1, 2]] * count,
            }
        )
        features = {"fine_label": {"names": ["ant", "bee", "cat", "dog"]}}
        info = f'{{"info": {{"features": {features}}}}}'.replace("'", '"')
        pq.write_table(
            table.replace_schema_metadata({"huggingface": info}), tmp_path / f"{part}.parquet"
        )
    return f"parquet:{tmp_path}"


def test_parquet_columns_are_labels_fine_classes_and_groups(parquet) -> None:
    fine = datasets.load(parquet)
    assert fine.classes == ("ant", "bee", "cat", "dog") and not fine.attributes.finer
    coarse = datasets.load(parquet, columns=Columns("coarse_label"))
    assert coarse.train.labels.tolist() == [0, 0, 1, 1] * 2
    train, test = coarse.attributes.subclass("cat")
    assert train.nonzero().flatten().tolist() == [2, 6]
    assert test.nonzero().flatten().tolist() == [2]
    assert coarse.attributes.group("hospital", "B")[1].tolist() == [False, True] * 2
    assert "boxes" not in coarse.attributes.train and "image" not in coarse.attributes.train
    by_hospital = datasets.load(parquet, columns=Columns("coarse_label", "hospital"))
    assert by_hospital.attributes.subclass("A")[0].tolist() == [True, False] * 4


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (Columns("colour"), "no label column .*expected one of colour"),
        (Columns("boxes"), "'boxes' .*expected a text or a whole number in every row"),
        (Columns(group="colour"), "no group column .*expected one of colour"),
    ],
)
def test_a_column_that_is_not_there_is_refused(parquet, columns, message) -> None:
    with pytest.raises(DataError, match=message):
        datasets.load(parquet, columns=columns)


def test_only_parquet_has_columns_to_choose() -> None:
    with pytest.raises(ParameterError, match="only for parquet:PATH, not for digits"):
        datasets.load("digits", columns=Columns("label"))


@pytest.fixture
def pictures(tmp_path, encode, rng):
    """Write images below the test's folder and return its path."""

    def write(*names):
        for name in names:
            place = tmp_path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(encode(rng.integers(0, 256, (4, 4), dtype=np.uint8)))
        return tmp_path

    return write


def test_folders_inside_class_folders_are_fine_classes(pictures) -> None:
    folder = pictures(
        "train/pet/cat/1.png", "train/pet/dog/1.png", "train/wild/fox/1.png",
        "test/pet/cat/2.png", "test/wild/fox/2.png",
    )  # fmt: skip
    found = datasets.load(f"imagefolder:{folder}")
    assert found.classes == ("pet", "wild")
    train, test = found.attributes.subclass("cat")
    assert (train.tolist(), test.tolist()) == ([True, False, False], [True, False])


def test_fine_classes_are_known_without_a_test_part_as_well(pictures) -> None:
    folder = pictures(*(f"pet/{kind}/{i}.png" for kind in ("cat", "dog") for i in range(5)))
    pictures(*(f"wild/fox/{i}.png" for i in range(5)))
    found = datasets.load(f"imagefolder:{folder}")
    train, test = found.attributes.subclass("dog")
    assert len(train) == len(found.train.labels) and len(test) == len(found.test.labels)
    assert int(train.sum() + test.sum()) == 5


def test_flat_class_folders_have_no_fine_classes(pictures) -> None:
    folder = pictures("train/cat/1.png", "train/dog/1.png", "test/cat/2.png")
    assert not datasets.load(f"imagefolder:{folder}").attributes.finer


def test_a_list_beside_the_images_names_their_groups(pictures) -> None:
    folder = pictures("train/cat/1.png", "train/dog/1.png", "test/cat/2.png")
    before = datasets.load(f"imagefolder:{folder}").fingerprint
    rows = "file,person\ntrain/cat/1.png,Ada\ntrain/dog/1.png,Bob\ntest/cat/2.png,Ada\n"
    (folder / "groups.csv").write_text(rows)
    found = datasets.load(f"imagefolder:{folder}")
    train, test = found.attributes.group("person", "Ada")
    assert (train.tolist(), test.tolist()) == ([True, False], [True])
    # Who belongs to whom is content: another list gives other results.
    assert found.fingerprint != before
    (folder / "groups.csv").write_text(rows.replace("Bob", "Ada"))
    assert datasets.load(f"imagefolder:{folder}").fingerprint != found.fingerprint


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("name,person\n", "groups.csv begins with 'name,person'; expected a column file"),
        ("file\n", "expected a column file and one or more columns of groups"),
        ("file,person\ntrain/cat/1.png,Ada\n", "has no line for train/dog/1.png; add one"),
    ],
)
def test_a_list_that_leaves_images_out_is_refused(pictures, rows, message) -> None:
    folder = pictures("train/cat/1.png", "train/dog/1.png", "test/cat/2.png")
    (folder / "groups.csv").write_text(rows)
    with pytest.raises(UserError, match=message):
        datasets.load(f"imagefolder:{folder}").attributes.group("person", "Ada")
