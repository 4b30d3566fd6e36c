"""Folders and images as people have them: layouts, links, suffixes, bit depths, names."""

import os
import struct
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unlearn_bench.core.errors import DataError
from unlearn_bench.data import datasets, decoding, encoded, splits
from unlearn_bench.data.decoding import PixelRange
from unlearn_bench.data.images import Dataset
from unlearn_bench.suite.forget import Forget

Save = Callable[[int, Path], None]
CLASSES = ("cat", "dog", "owl")


def save_rgb(label: int, path: Path) -> None:
    pixels = np.random.default_rng(label).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path, "PNG")


def grey(label: int) -> np.ndarray:
    """A ramp over all of 0 to 255, moved by the label."""
    return np.roll(np.arange(0, 256, 4).reshape(8, 8), label)


def make(root: Path, *parts: str, save: Save = save_rgb, per: int = 5, ext: str = "png") -> Path:
    for part in parts:
        for label, name in enumerate(CLASSES):
            place = root / part / name
            place.mkdir(parents=True)
            for i in range(per):
                save(label, place / f"{i:02}.{ext}")
    return root


def load(path: Path, **options: int) -> Dataset:
    return datasets.load(f"imagefolder:{path}", **options)


@pytest.mark.parametrize(
    ("train", "test"),
    [("Training", "Testing"), ("TRAIN", "Valid"), ("train", "validation"), ("trn", "eval")],
)
def test_the_usual_names_of_parts_are_known_in_any_case(tmp_path, train, test):
    data = load(make(tmp_path, train, test))
    assert data.classes == CLASSES
    assert len(data.train.labels) == len(data.test.labels) == 15


def test_parts_under_other_names_are_not_taken_for_classes(tmp_path):
    with pytest.raises(DataError, match="folders part1, part2 in .* holds the same.* cat, dog"):
        load(make(tmp_path, "part1", "part2"))


def test_classes_with_folders_of_their_own_are_classes(tmp_path):
    for name in ("cat", "dog"):
        make(tmp_path / name, ".")
        (tmp_path / name / "owl").rename(tmp_path / name / f"{name} owl")
    assert load(tmp_path).classes == ("cat", "dog")


def test_a_test_folder_without_classes_gives_way_to_a_labelled_one(tmp_path):
    make(tmp_path, "train", "val")
    (tmp_path / "test").mkdir()
    save_rgb(0, tmp_path / "test" / "0.png")
    data = load(tmp_path)
    assert len(data.test.labels) == 15
    assert data.notes[0].endswith(
        "test has no class folders: the test part is " + f"{tmp_path}/val"
    )


def test_a_test_folder_without_classes_alone_is_refused(tmp_path):
    make(tmp_path, "train")
    (tmp_path / "test").mkdir()
    with pytest.raises(DataError, match="no class folders in .*test; expected CLASS.* or remove"):
        load(tmp_path)


def tiny_imagenet(root: Path) -> Path:
    for label, name in enumerate(CLASSES):
        place = root / "train" / name / "images"
        place.mkdir(parents=True)
        (place.parent / f"{name}_boxes.txt").write_text("boxes")
        for i in range(5):
            save_rgb(label, place / f"{name}_{i}.JPEG")
    for part in ("val", "test"):
        (root / part / "images").mkdir(parents=True)
        for i in range(6):
            save_rgb(i % 3, root / part / "images" / f"{part}_{i}.JPEG")
    lines = [f"val_{i}.JPEG\t{CLASSES[i % 3]}\t0\t0\t9\t9\n" for i in range(6)]
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    return root


def test_tiny_imagenet_is_read_as_it_lies(tmp_path):
    data = load(tiny_imagenet(tmp_path))
    assert data.classes == CLASSES
    assert data.test.labels.tolist() == [0, 1, 2] * 2
    assert any("15" not in note and "3 with suffix .txt" in note for note in data.notes)


@pytest.mark.parametrize("line", ["val_0.JPEG\tcow", "../x.png\tcat", "none.JPEG\tcat", "\x1b[3m"])
def test_a_list_of_labels_names_images_and_classes_that_are_there(tmp_path, line):
    root = tiny_imagenet(tmp_path)
    (root / "val" / "val_annotations.txt").write_text(line + "\n")
    with pytest.raises(DataError, match="val_annotations.txt, line 1: ") as caught:
        load(root)
    assert str(caught.value).isprintable()


def test_links_pipes_and_other_suffixes_are_counted_and_not_read(tmp_path):
    place = make(tmp_path, "train") / "train" / "cat"
    (place / "loop").symlink_to(tmp_path)
    (place / "disk").symlink_to("/")
    os.mkfifo(place / "pipe.png")
    (place / "zero.png").symlink_to("/dev/zero")
    (place / "gone.png").symlink_to(place / "nothing")
    (place / "a.heic").write_bytes(b"x")
    (place / "b\x1b.HEIC").write_bytes(b"x")
    data = load(tmp_path)
    assert len(data.train.labels) + len(data.test.labels) == 15
    said = data.notes[-1]
    assert "2 links to folders" in said and "3 broken links or special files" in said
    assert "2 with suffix .heic" in said and said.isprintable()


def test_a_link_in_the_place_of_a_class_or_part_is_refused(tmp_path):
    make(tmp_path / "a", "train")
    (tmp_path / "a" / "train" / "zoo").symlink_to(tmp_path / "a" / "train" / "cat")
    with pytest.raises(DataError, match="zoo is a link to a folder, and those are not followed"):
        load(tmp_path / "a")
    (tmp_path / "a" / "train" / "zoo").unlink()
    (tmp_path / "a" / "test").symlink_to(tmp_path / "a" / "train")
    with pytest.raises(DataError, match="test is a link to a folder"):
        load(tmp_path / "a")


def test_every_usual_suffix_is_read(tmp_path):
    place = make(tmp_path, "train", per=2) / "train" / "cat"
    for ending in ("jfif", "JPE", "JPEG", "PNG", "tiff"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(
            place / f"x.{ending}", {"PNG": "PNG", "tiff": "TIFF"}.get(ending, "JPEG")
        )
    data = load(tmp_path)
    assert int((data.train.labels == 0).sum() + (data.test.labels == 0).sum()) == 7
    assert ".png" in decoding.readable_suffixes() and ".eps" not in decoding.readable_suffixes()


def pixels_of(root: Path) -> torch.Tensor:
    data = load(root)
    return data.train.images.fetch(torch.arange(len(data.train.labels)))


@pytest.mark.parametrize(
    ("ext", "convert", "said"),
    [
        ("png", lambda x: x.astype(np.uint16), "0 to 255 become 0 to 255"),
        ("png", lambda x: (x * 16).astype(np.uint16), "0 to 4095 become 0 to 255"),
        ("png", lambda x: (x * 256).astype(np.uint16), "0 to 65535 become 0 to 255"),
        ("tif", lambda x: (x / 255).astype(np.float32), "0 to 1 become 0 to 255"),
        ("tif", lambda x: x.astype(np.float32), "0 to 255 become 0 to 255"),
        ("tif", lambda x: x.astype(np.int32), "0 to 255 become 0 to 255"),
        ("tif", lambda x: (x * 2**16).astype(np.int32), "become 0 to 255"),
    ],
)
def test_deep_pixels_are_scaled_by_the_range_that_the_dataset_uses(tmp_path, ext, convert, said):
    make(
        tmp_path,
        "train",
        "test",
        ext=ext,
        save=lambda label, path: Image.fromarray(convert(grey(label))).save(path),
    )
    assert torch.equal(pixels_of(tmp_path)[0, 0], torch.from_numpy(grey(0).astype(np.uint8)))
    assert any(said in note for note in load(tmp_path).notes)


def test_one_image_of_a_dark_class_is_not_made_brighter_than_others(tmp_path):
    def save(label: int, path: Path) -> None:
        Image.fromarray((grey(0) * (1, 16, 256)[label]).astype(np.uint16)).save(path)

    found = pixels_of(make(tmp_path, "train", "test", save=save))
    assert [int(image.max()) for image in found[::5]] == [0, 15, 252]


def test_a_picture_in_the_alpha_channel_is_seen(tmp_path):
    def save(label: int, path: Path) -> None:
        black = [np.zeros((8, 8), np.uint8)] * 3
        Image.fromarray(np.stack([*black, grey(label).astype(np.uint8)], -1)).save(path)

    found = pixels_of(make(tmp_path, "train", "test", save=save))
    assert torch.equal(found[0, 1], torch.from_numpy(grey(0).astype(np.uint8)))
    assert any("transparency" in note for note in load(tmp_path).notes)


def test_nan_in_a_float_image_is_named(tmp_path):
    def save(label: int, path: Path) -> None:
        Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(path)

    with pytest.raises(DataError, match="00.tif holds NaN or infinity"):
        load(make(tmp_path, "train", save=save, ext="tif"))


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (PixelRange(0, 4095).to_bytes(np.array([0, 4095, 65535], np.uint16)), [0, 255, 255]),
        (PixelRange(0, 255).to_bytes(np.array([-5, 7, 70000], np.int32)), [0, 7, 255]),
        (PixelRange(-1, 1).to_bytes(np.array([-1, 0, 2.0])), [0, 128, 255]),
        (PixelRange(0, 0).to_bytes(np.array([0.0])), [0]),
    ],
)
def test_pixels_out_of_range_are_cut_off_and_never_wrap(given, found):
    assert given.tolist() == found


def huge_png(side: int) -> bytes:
    """A PNG file of a few bytes that declares side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return encoded.PNG_START + body


def test_the_size_of_every_image_is_checked_before_it_is_decoded(tmp_path, monkeypatch):
    place = make(tmp_path, "train", per=80) / "train" / "cat"
    (place / "02.png").write_bytes(huge_png(40_000))
    with pytest.raises(DataError, match="02.png has 40000x40000 pixels, others 8x8"):
        load(tmp_path)
    with pytest.raises(DataError, match="02.png has 40000x40000 pixels; at most 50,000,000"):
        load(tmp_path, image_size=8)
    (place / "00.png").write_bytes(huge_png(8_000))  # a sampled one
    with pytest.raises(DataError, match="00.png has 8000x8000 pixels; at most 50,000,000"):
        load(tmp_path)


@pytest.mark.parametrize("kind", ["JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
def test_the_declared_size_of_other_formats_is_checked_too(tmp_path, monkeypatch, kind):
    path = tmp_path / "x.img"
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(path, kind)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 1000)
    with pytest.raises(Exception, match="has 30x40 pixels; at most 1,000 are read"):
        decoding.decode_image(path.read_bytes(), 3)


def test_postscript_is_never_run(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", None)
    place = make(tmp_path, "train") / "train" / "cat"
    (place / "00.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n"
    )
    with pytest.raises(DataError, match="00.png cannot be read as an image"):
        load(tmp_path)


def test_rotation_and_other_colours_are_said_once(tmp_path):
    def save(label: int, path: Path) -> None:
        picture = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
        exif = picture.getexif()
        exif[encoded.ORIENTATION] = 6
        picture.convert("CMYK" if label else "RGB").save(path, "JPEG", exif=exif)

    notes = load(make(tmp_path, "train", "test", save=save, ext="jpg")).notes
    assert any("30 of 30 images have an EXIF orientation: it is not applied" in n for n in notes)
    assert any("20 of 30 images have CMYK" in n for n in notes)


def test_indices_count_as_torchvision_does_before_anything_is_held_out(tmp_path):
    from torchvision.datasets import ImageFolder

    def save(label: int, path: Path) -> None:
        Image.fromarray(np.full((8, 8, 3), 40 * label + int(path.stem), np.uint8)).save(path)

    make(tmp_path, ".", save=save, per=10)
    inner = tmp_path / "cat" / "0"
    inner.mkdir()
    save(0, inner / "35.png")
    data = load(tmp_path)
    assert any("indices count all images" in note for note in data.notes)
    theirs = ImageFolder(str(tmp_path))

    def chosen(*indices: int) -> torch.Tensor:
        return splits.make(
            Forget(indices=indices),
            data.train.labels,
            data.test.labels,
            data.classes,
            validation=0.1,
            seed=0,
            numbers=data.train.numbers,
        ).forget

    for index in data.train.numbers.tolist():
        pixels = data.train.images.fetch(chosen(index))
        assert int(pixels[0, 0, 0, 0]) == int(np.array(theirs[index][0])[0, 0, 0])
    held = next(i for i in range(31) if i not in data.train.numbers)
    for wrong in (held, 30, 31):
        with pytest.raises(DataError, match=f"forget index {wrong} is not in the training part"):
            chosen(wrong)


@pytest.mark.parametrize("given", ["NFC", "NFD"])
@pytest.mark.parametrize("there", ["NFC", "NFD"])
def test_letters_with_marks_match_however_they_are_written(given, there):
    classes = (unicodedata.normalize(there, "Löwe"), "Tiger")
    assert splits.class_index(unicodedata.normalize(given, "Löwe"), classes) == 0


def test_two_classes_of_one_name_are_told_apart_as_written_or_by_index():
    classes = tuple(unicodedata.normalize(form, "Löwe") for form in ("NFC", "NFD"))
    assert splits.class_index(classes[1], classes) == 1
    assert splits.class_index(1, classes) == 1


def test_class_names_of_any_bytes_and_length_can_be_shown(tmp_path):
    make(tmp_path, "train", "test")
    for part in ("train", "test"):
        os.rename(tmp_path / part / "cat", os.fsencode(tmp_path / part) + b"/\xff\xfe\x1b[31m")  # noqa: PTH104
        (tmp_path / part / "dog").rename(tmp_path / part / ("d" * 200))
    data = load(tmp_path)
    assert all(name.isprintable() and len(name) < 90 for name in data.classes)
    assert len({*data.classes}) == 3 and data.fingerprint


def test_names_that_become_one_are_told_apart():
    shown = datasets.shown_names(("a" * 5000 + "1", "a" * 5000 + "2", "", "x\0"))
    assert shown[0] != shown[1] and shown[2:] == ("(2)", "x\\x00")
    assert all(len(name) < 100 for name in shown)


def test_one_image_in_a_class_names_the_class(tmp_path):
    place = make(tmp_path, "train", "test") / "train" / "cat"
    for path in sorted(place.iterdir())[1:]:
        path.unlink()
    data = load(tmp_path)
    with pytest.raises(DataError, match="class:cat.* 1 training example.* set aside for valid"):
        splits.make(
            Forget(classes=("cat",)),
            data.train.labels,
            data.test.labels,
            data.classes,
            validation=0.1,
            seed=0,
        )
