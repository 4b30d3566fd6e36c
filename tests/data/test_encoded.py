"""Decoding and surveying encoded images."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from unlearn_bench.core.errors import DataError
from unlearn_bench.data import decoding, encoded
from unlearn_bench.data.encoded import EncodedFiles


def pillow(content: bytes, channels: int) -> torch.Tensor:
    """The slow, obvious way."""
    pixels = np.array(Image.open(io.BytesIO(content)).convert("L" if channels == 1 else "RGB"))
    return torch.from_numpy(np.atleast_3d(pixels)).permute(2, 0, 1)


@pytest.fixture(params=["torchvision", "Pillow"])
def library(request, monkeypatch):
    """Run a test with torchvision's decoders and as it would be without them."""
    if request.param == "Pillow":
        monkeypatch.setattr(decoding, "fast_decoders", dict)
    else:
        pytest.importorskip("torchvision.io")
        assert len(decoding.fast_decoders()) == 2


def smooth(height: int = 21, width: int = 17) -> np.ndarray:
    ramp = np.linspace(0, 255, height * width * 3).reshape(height, width, 3)
    return ramp.astype(np.uint8)


def write(folder, *contents: bytes) -> EncodedFiles:
    files = [folder / f"{i}.png" for i in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    return EncodedFiles(folder, files)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP"])
@pytest.mark.parametrize("channels", [1, 3])
def test_decoding_equals_pillow(library, encode, kind, channels):
    pixels = smooth()[..., 0] if channels == 1 else smooth()
    content = encode(pixels, kind)
    found, slow = decoding.decode_image(content, channels), pillow(content, channels)
    assert found.dtype == torch.uint8 and found.shape == (channels, 21, 17)
    # Two JPEG libraries may round differently, by one step.
    assert (found.int() - slow.int()).abs().max() <= (1 if kind == "JPEG" else 0)


def test_grey_image_becomes_rgb_and_transparency_is_dropped(library, encode):
    grey = encode(smooth()[..., 0])
    assert torch.equal(decoding.decode_image(grey, 3), pillow(grey, 1).expand(3, -1, -1))
    clear = encode(np.dstack([smooth(), np.full((21, 17), 100, np.uint8)]))
    assert torch.equal(decoding.decode_image(clear, 3), torch.from_numpy(smooth()).permute(2, 0, 1))


def test_sixteen_bit_png_keeps_its_upper_eight_bits(library):
    deep = np.arange(0, 65536, 256 * 4, dtype=np.uint16).reshape(8, 8) + 77
    stream = io.BytesIO()
    Image.fromarray(deep).save(stream, "PNG")
    found = decoding.decode_image(stream.getvalue(), 1)
    assert torch.equal(found[0], torch.from_numpy((deep >> 8).astype(np.uint8)))


def test_survey_finds_size_and_channels(encode, tmp_path):
    grey, colour = encode(smooth()[..., 0]), encode(smooth())
    assert encoded.survey([write(tmp_path, grey, grey)], None).shape == (1, 21, 17)
    assert encoded.survey([write(tmp_path, colour)], None).shape == (3, 21, 17)
    assert encoded.survey([write(tmp_path, colour)], 32).shape == (3, 32, 32)


def test_one_colour_image_among_many_grey_ones_makes_the_set_colour(encode, tmp_path):
    contents = [encode(smooth()[..., 0])] * 200
    contents[101] = encode(smooth())  # between the sampled ones
    assert 101 not in encoded.spread_evenly(200, encoded.SAMPLED_HEADERS)
    assert encoded.survey([write(tmp_path, *contents)], None).shape[0] == 3


def test_survey_refuses_different_sizes_unless_one_is_given(encode, tmp_path):
    files = write(tmp_path, encode(smooth()), encode(smooth(30, 20)))
    with pytest.raises(DataError, match="from 21x17 to 30x20 pixels; give an image size"):
        encoded.survey([files], None)
    assert encoded.survey([files], 16).shape == (3, 16, 16)


def test_size_that_the_survey_missed_is_reported_when_decoded(encode, tmp_path):
    files = write(tmp_path, encode(smooth()), encode(smooth(30, 20)))
    decode = encoded.decoder(files, (3, 21, 17), resized=False)
    assert decode(0).shape == (3, 21, 17)
    with pytest.raises(DataError, match=r"1\.png has 30x20 pixels, others 21x17"):
        decode(1)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_truncated_image_is_named_in_one_line(library, encode, tmp_path, kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = encode(noise, kind)
    decode = encoded.decoder(write(tmp_path, content[: len(content) // 2]), (3, 64, 64), resized=0)
    with pytest.raises(DataError, match=r"0\.png.*truncated or damaged") as caught:
        decode(0)
    assert "\n" not in str(caught.value)


def test_file_that_is_no_image_is_named(tmp_path):
    with pytest.raises(DataError, match=r"0\.png cannot be read as an image"):
        encoded.survey([write(tmp_path, b"hello")], None)


def test_vanished_file_is_named(tmp_path):
    files = EncodedFiles(tmp_path, [tmp_path / "gone.png"])
    with pytest.raises(DataError, match=r"gone\.png: No such file"):
        files.read(0)
