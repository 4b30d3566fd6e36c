"""Parquet files in the layout of the Hugging Face hub."""

import io
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from unlearn_bench.core.errors import DataError
from unlearn_bench.data import datasets, images, parquet, parquet_files

NAMES = ("cat", "dog", "eel")


@pytest.fixture
def pictures(rng) -> np.ndarray:
    return rng.integers(0, 256, (14, 8, 9, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, encode, write_parquet, pictures):
    """Ten training images in two files, four test images."""
    data = [encode(p) for p in pictures]
    labels = [i % 3 for i in range(14)]
    write_parquet(tmp_path / "train-00000-of-00002.parquet", data[:6], labels[:6], names=NAMES)
    write_parquet(tmp_path / "train-00001-of-00002.parquet", data[6:10], labels[6:10], names=NAMES)
    write_parquet(tmp_path / "test-00000-of-00001.parquet", data[10:], labels[10:], names=NAMES)
    return tmp_path


def load(folder, **options):
    return datasets.load(f"parquet:{folder}", **options)


def test_every_image_and_label_is_found_in_order(folder, pictures):
    found = load(folder)
    expected = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    assert torch.equal(found.train.images.data, expected[:10])
    assert torch.equal(found.test.images.data, expected[10:])
    assert found.train.labels.tolist() == [i % 3 for i in range(10)]
    assert found.test.labels.tolist() == [i % 3 for i in range(10, 14)]
    assert found.classes == NAMES and found.channels == 3 and found.image_size == (8, 9)


def test_streamed_rows_equal_rows_in_memory(folder, monkeypatch):
    resident = load(folder, image_size=6)
    monkeypatch.setattr(datasets, "fits_in_memory", lambda nbytes: False)
    monkeypatch.setattr(parquet, "available_memory", lambda: 0)  # remember few row groups only
    monkeypatch.setattr(parquet, "ROW_GROUPS_KEPT", 1)
    streamed = load(folder, image_size=6)
    assert isinstance(streamed.train.images, images.StreamedImages)
    order = torch.tensor([9, 0, 5, 3, 3, 8])
    assert torch.equal(streamed.train.images.fetch(order), resident.train.images.fetch(order))
    assert (streamed.mean, streamed.std) == (resident.mean, resident.std)
    assert streamed.fingerprint == resident.fingerprint


def test_jpeg_and_grey_images_equal_pillow(tmp_path, encode, write_parquet):
    ramp = np.add.outer(np.arange(16), np.arange(16)).astype(np.uint8) * 8
    for part in ("train", "test"):
        write_parquet(tmp_path / f"{part}-0.parquet", [encode(ramp, "JPEG")], [0])
    found = load(tmp_path).train.images.data[0, 0]
    slow = np.array(Image.open(io.BytesIO(encode(ramp, "JPEG"))))
    assert found.shape == (16, 16)
    assert (found.int() - torch.from_numpy(slow).int()).abs().max() <= 1


@pytest.mark.parametrize(
    "columns", [("image", "label"), ("img", "fine_label"), ("image", "labels")]
)
@pytest.mark.parametrize("plain", [True, False])
def test_usual_column_names_and_plain_bytes(
    tmp_path, encode, write_parquet, pictures, columns, plain
):
    for part in ("train", "validation"):
        write_parquet(
            tmp_path / "data" / f"{part}-0.parquet",
            [encode(p) for p in pictures[:4]],
            [0, 1, 1, 0],
            columns=columns,
            plain=plain,
        )
    found = load(tmp_path)
    assert torch.equal(found.test.images.data, torch.from_numpy(pictures[:4]).permute(0, 3, 1, 2))
    assert found.classes == ("0", "1")


def test_test_files_are_preferred_to_validation_files(folder, write_parquet, encode, pictures):
    write_parquet(folder / "validation-0.parquet", [encode(pictures[0])], [0], names=NAMES)
    assert len(load(folder).test.labels) == 4


def test_one_pixel_changes_the_fingerprint(folder, write_parquet, encode, pictures):
    before = load(folder).fingerprint
    assert load(folder).fingerprint == before != load(folder, image_size=8).fingerprint
    pictures[12, 0, 0, 0] ^= 1
    data = [encode(p) for p in pictures[10:]]
    labels = [i % 3 for i in range(10, 14)]
    write_parquet(folder / "test-00000-of-00001.parquet", data, labels, names=NAMES)
    assert load(folder).fingerprint != before


@pytest.mark.parametrize("keep", [0, 2, 60, 0.5, 0.95])
def test_truncated_file_is_named_in_one_line(folder, keep):
    path = folder / "train-00001-of-00002.parquet"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    with pytest.raises(DataError, match="train-00001-of-00002.parquet: truncated") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_damaged_image_is_named_by_file_and_row(folder, write_parquet, encode, pictures):
    data = [encode(p) for p in pictures[6:10]]
    data[2] = data[2][:40]
    write_parquet(folder / "train-00001-of-00002.parquet", data, [0, 1, 2, 0], names=NAMES)
    with pytest.raises(DataError, match="train-00001-of-00002.parquet, row 2"):
        load(folder)


def test_image_kept_outside_the_file_is_refused(folder, write_parquet):
    write_parquet(folder / "test-00000-of-00001.parquet", [None, None], [0, 1], names=NAMES)
    with pytest.raises(DataError, match="no image bytes in .*row 0"):
        load(folder)


def test_missing_shard_is_noticed(folder):
    (folder / "train-00000-of-00002.parquet").unlink()
    with pytest.raises(DataError, match="1 of the 2 files like train-00001-of-00002"):
        load(folder)


def test_missing_training_part_is_named(folder):
    for file in folder.glob("train-*"):
        file.unlink()
    with pytest.raises(DataError, match=r"no train-\*.parquet in .*put the training part"):
        load(folder)


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no train-\*.parquet in .*nowhere"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize("label", [-1, 3])
def test_label_out_of_range_is_refused(folder, write_parquet, encode, pictures, label):
    data = [encode(p) for p in pictures[:2]]
    write_parquet(folder / "test-00000-of-00001.parquet", data, [0, label], names=NAMES)
    with pytest.raises(DataError, match=f"label {label} in the test part .* go from 0 to 2"):
        load(folder)


@pytest.mark.parametrize("labels", [[None], [0.5], [[1]]])
def test_labels_that_are_neither_texts_nor_whole_numbers_are_refused(
    tmp_path, write_parquet, encode, pictures, labels
):
    for part in ("train", "test"):
        write_parquet(tmp_path / f"{part}-0.parquet", [encode(pictures[0])], labels)
    with pytest.raises(DataError, match="column 'label' of .* expected a text or a whole number"):
        load(tmp_path)


def test_file_without_rows_is_refused(folder, write_parquet):
    write_parquet(folder / "test-00000-of-00001.parquet", [], pa.array([], pa.int64()), names=NAMES)
    with pytest.raises(DataError, match="has no rows"):
        load(folder)


def test_unknown_columns_are_listed(tmp_path):
    for part in ("train", "test"):
        pq.write_table(pa.table({"photo": [b"x"], "label": [0]}), tmp_path / f"{part}-0.parquet")
    with pytest.raises(
        DataError, match="no image column in .* it has photo, label; expected one of"
    ):
        load(tmp_path)


def test_two_columns_of_one_name_are_refused(folder):
    file = folder / "train-00000-of-00002.parquet"
    table = pq.read_table(file)
    pq.write_table(table.append_column("label", table["label"]), file)
    with pytest.raises(DataError, match="several columns named 'label'; keep one"):
        load(folder)


def test_image_column_of_numbers_is_refused(tmp_path):
    for part in ("train", "test"):
        pq.write_table(pa.table({"image": [1], "label": [0]}), tmp_path / f"{part}-0.parquet")
    with pytest.raises(DataError, match="column 'image' of .* has type int64; expected bytes"):
        load(tmp_path)


def test_files_as_the_hub_converts_them_are_read(tmp_path, encode, write_parquet):
    image = encode(np.zeros((4, 4, 3), np.uint8))
    for part in ("train", "test"):
        write_parquet(tmp_path / "default" / part / "0000.parquet", [image] * 3, [0, 1, 0])
    assert len(datasets.load(f"parquet:{tmp_path}").test.labels) == 3


@pytest.mark.parametrize(
    "metadata",
    [
        b"[" * 100_000,
        b'{"info": {"features": {"label": {"names": "abc"}}}}',
        b'{"info": {"features": {"label": {"names": {"a": 1}}}}}',
        b'{"info": {"features": {"label": {"names": []}}}}',
        b'{"info": [1]}',
        b"NaN",
        b"\xff\xfe",
    ],
)
def test_metadata_of_any_kind_gives_names_or_none(metadata, tmp_path, encode):
    image = encode(np.zeros((4, 4, 3), np.uint8))
    table = pa.table({"image": pa.array([image] * 3, pa.binary()), "label": [0, 1, 2]})
    for part in ("train", "test"):
        pq.write_table(
            table.replace_schema_metadata({"huggingface": metadata}), tmp_path / f"{part}.parquet"
        )
    assert datasets.load(f"parquet:{tmp_path}").classes == ("0", "1", "2")


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["text"] * 3),
        pa.array([{"bytes": "text"}] * 3),
        pa.array([{"bytes": {"bytes": b"x"}}] * 3),
        pa.array([[b"x"]] * 3),
        pa.array([1.5] * 3),
    ],
)
def test_images_that_are_not_bytes_are_refused_with_their_type(column, tmp_path, encode):
    good = pa.array([encode(np.zeros((4, 4, 3), np.uint8))] * 3, pa.binary())
    pq.write_table(pa.table({"image": column, "label": [0, 1, 2]}), tmp_path / "train.parquet")
    pq.write_table(pa.table({"image": good, "label": [0, 1, 2]}), tmp_path / "test.parquet")
    with pytest.raises(DataError, match="'image' of .*train.parquet has type .*; expected bytes"):
        datasets.load(f"parquet:{tmp_path}")


def test_a_second_file_of_another_kind_is_refused(tmp_path, encode):
    good = pa.array([encode(np.zeros((4, 4, 3), np.uint8))] * 3, pa.binary())
    table = pa.table({"image": good, "label": [0, 1, 2]})
    pq.write_table(table, tmp_path / "test.parquet")
    pq.write_table(table, tmp_path / "train-0.parquet")
    pq.write_table(table.rename_columns(["img", "label"]), tmp_path / "train-1.parquet")
    with pytest.raises(DataError, match="no image column in .*train-1.parquet"):
        datasets.load(f"parquet:{tmp_path}")


def test_rows_are_bounded_by_what_a_file_declares(tmp_path, encode, write_parquet, monkeypatch):
    image = encode(np.zeros((4, 4, 3), np.uint8))
    for part in ("train", "test"):
        write_parquet(tmp_path / f"{part}.parquet", [image] * 30, [0] * 30, row_group_size=20)
    for limit, most, message in (
        ("MAX_ROWS", 10, "declares 30 rows; at most 10 are read"),
        ("MAX_GROUP_ROWS", 10, "row group 0 of .* declares 20 rows"),
        ("GROUP_BYTES", 10, "declares 20 rows and .*; at most .*write smaller row groups"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(parquet_files, limit, most)
            with pytest.raises(DataError, match=message):
                datasets.load(f"parquet:{tmp_path}")


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path, encode, write_parquet):
    os.mkfifo(tmp_path / "train-0.parquet")
    write_parquet(tmp_path / "test.parquet", [encode(np.zeros((4, 4, 3), np.uint8))], [0])
    with pytest.raises(DataError, match="train-0.parquet is not a regular file"):
        datasets.load(f"parquet:{tmp_path}")


def test_names_and_labels_that_nothing_can_hold_are_refused(tmp_path, encode):
    good = pa.array([encode(np.zeros((4, 4, 3), np.uint8))], pa.binary())
    for part in ("train", "test"):
        table = pa.table({"image": good, "label": pa.array([2**64 - 1], pa.uint64())})
        pq.write_table(table, tmp_path / f"{part}.parquet")
    with pytest.raises(DataError, match="has a label of 18446744073709551615"):
        datasets.load(f"parquet:{tmp_path}")
