"""Which rows of which Parquet files make up the two parts."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unlearn_bench.core.errors import DataError
from unlearn_bench.data import datasets
from unlearn_bench.data.sources import Columns


@pytest.fixture
def cells(encode, rng) -> list[bytes]:
    return [encode(rng.integers(0, 256, (4, 4), dtype=np.uint8)) for _ in range(10)]


def load(path, **columns):
    return datasets.load(f"parquet:{path}", columns=Columns(**columns))


def test_without_a_test_part_a_fifth_of_each_class_is_held_out(tmp_path, write_parquet, cells):
    write_parquet(tmp_path / "train.parquet", cells, [0, 1] * 5)
    found = load(tmp_path)
    assert found.train.labels.bincount().tolist() == [4, 4]
    assert found.test.labels.bincount().tolist() == [1, 1]
    # Indices count all rows, and every row is in one part.
    assert found.train.numbers.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert any("a fifth of each class is held out" in note for note in found.notes)
    assert found.attributes.files() == [f"{row}.png" for row in found.train.numbers.tolist()]


@pytest.mark.parametrize("name", ["birds.parquet", "0000.parquet"])
def test_a_single_file_of_any_name_is_a_dataset(tmp_path, write_parquet, cells, name):
    write_parquet(tmp_path / name, cells, [0, 1] * 5)
    assert load(tmp_path / name).fingerprint == load(tmp_path).fingerprint


def test_the_hubs_layout_with_a_training_part_alone_is_read(tmp_path, write_parquet, cells):
    write_parquet(tmp_path / "default" / "train" / "0000.parquet", cells[:6], [0, 1] * 3)
    write_parquet(tmp_path / "default" / "train" / "0001.parquet", cells[6:], [0, 1] * 2)
    assert len(load(tmp_path).train.labels) == 8


def test_several_configurations_are_refused_with_their_names(tmp_path, write_parquet, cells):
    for name in ("fine", "coarse"):
        write_parquet(tmp_path / name / "train" / "0000.parquet", cells, [0, 1] * 5)
    with pytest.raises(DataError, match="several configurations: coarse, fine; give the path of"):
        load(tmp_path)
    assert len(load(tmp_path / "fine").train.labels) == 8


@pytest.fixture
def table(cells) -> pa.Table:
    return pa.table(
        {
            "scan": pa.array(cells, pa.binary()),
            "mask": pa.array(cells[::-1], pa.binary()),
            "finding": ["ill", "well"] * 5,
            "fold": ["train"] * 6 + ["Test"] * 2 + ["val"] * 2,
            "patient": [str(row) for row in range(10)],
        }
    )


def test_columns_of_any_name_are_images_labels_and_parts(tmp_path, table):
    pq.write_table(table, tmp_path / "scans.parquet")
    found = load(tmp_path, image="scan", label="finding", split="fold")
    assert found.classes == ("ill", "well") and found.train.labels.tolist() == [0, 1] * 3
    assert found.test.labels.tolist() == [0, 1]
    assert any("2 of 'val' not used; indices count all rows" in note for note in found.notes)
    assert found.attributes.group("patient", "5")[0].nonzero().tolist() == [[5]]
    assert found.attributes.test["patient"]() == ["6", "7"]


def test_another_column_of_images_is_another_dataset(tmp_path, table):
    pq.write_table(table, tmp_path / "scans.parquet")
    one, other = (load(tmp_path, image=name, label="finding") for name in ("scan", "mask"))
    assert one.fingerprint != other.fingerprint
    by_fold = load(tmp_path, image="scan", label="finding", split="fold")
    assert by_fold.fingerprint != one.fingerprint


def test_a_split_column_without_test_rows_has_a_fifth_held_out(tmp_path, table):
    places = table.schema.get_field_index("fold")
    only = table.set_column(places, "fold", pa.array(["train"] * 10))
    pq.write_table(only, tmp_path / "scans.parquet")
    found = load(tmp_path, image="scan", label="finding", split="fold")
    assert len(found.train.labels) == 8 and found.train.numbers.tolist()[-1] == 7
    assert any("names no test rows" in note for note in found.notes)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": "finding"}, "no image column in .*: name it by --image-column"),
        ({"image": "scan"}, "no label column in .*: name it by --label-column"),
        ({"image": "patient", "label": "finding"}, "'patient' .* has type string; expected bytes"),
        ({"image": "scan", "label": "finding", "split": "part"}, "no split column in .*part"),
        ({"image": "scan", "label": "finding", "split": "patient"}, "says 0, 1, .*expected train"),
    ],
)
def test_columns_that_cannot_be_used_are_named(tmp_path, table, columns, message):
    pq.write_table(table, tmp_path / "scans.parquet")
    with pytest.raises(DataError, match=message):
        load(tmp_path, **columns)
