"""Images that cannot be decoded, left out on request."""

import numpy as np
import pytest

from unlearn_bench.core.errors import DataError
from unlearn_bench.data import datasets


@pytest.fixture
def files(tmp_path, encode, rng):
    for part, count in (("train", 4), ("test", 2)):
        for name in ("ant", "bee"):
            place = tmp_path / part / name
            place.mkdir(parents=True)
            for i in range(count):
                content = encode(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
                (place / f"{i}.png").write_bytes(content)
    lines = [
        f"{path.relative_to(tmp_path)},{path.parent.name}{path.stem}"
        for path in sorted(tmp_path.rglob("*.png"))
    ]
    (tmp_path / "groups.csv").write_text("\n".join(["file,who", *lines]))
    return tmp_path


def load(files, **options):
    return datasets.load(f"imagefolder:{files}", **options)


def test_corrupt_images_are_counted_named_and_left_out(files):
    whole = load(files)
    assert load(files, skip_corrupt=True).fingerprint == whole.fingerprint
    (files / "train" / "ant" / "1.png").write_bytes(b"no image")
    broken = files / "train" / "bee" / "3.png"
    broken.write_bytes(broken.read_bytes()[:50])
    with pytest.raises(DataError, match="1.png"):
        load(files)
    found = load(files, skip_corrupt=True)
    assert found.train.labels.tolist() == [0, 0, 0, 1, 1, 1] and len(found.test.labels) == 4
    [note] = found.notes
    assert note.startswith("skipped 2 of 8 training images, which cannot be decoded: ")
    assert "ant/1.png" in note and "bee/3.png" in note
    # The others are still named as they were.
    assert found.train.numbers.tolist() == [0, 2, 3, 4, 5, 6]
    assert found.attributes.train["who"]() == ["ant0", "ant2", "ant3", "bee0", "bee1", "bee2"]
    assert found.fingerprint != whole.fingerprint


def test_a_part_without_a_sound_image_is_refused(files):
    for path in (files / "test").rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match="--skip-corrupt: no image in .* can be decoded"):
        load(files, skip_corrupt=True)
