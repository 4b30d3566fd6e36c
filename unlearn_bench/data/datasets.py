"""Named datasets: ``load("digits")``, ``load("cifar10", root=...)``, ``load("parquet:PATH")``.

A source reads its files (:data:`SOURCES`); :func:`load` brings the images to one size, holds
them in memory where they fit, and adds what every dataset needs: normalisation constants and a
fingerprint of the content.
"""

import hashlib
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from unlearn_bench.core.blindness import is_blind
from unlearn_bench.core.errors import (
    DataError,
    ParameterError,
    RefusedError,
    one_line,
    unknown_name,
)
from unlearn_bench.core.reading import opened
from unlearn_bench.data import encoded, plugged
from unlearn_bench.data.corrupt import without_corrupt
from unlearn_bench.data.decoding import EIGHT_BITS, PixelRange
from unlearn_bench.data.images import (
    Dataset,
    Images,
    Part,
    Shape,
    StreamedImages,
    TensorImages,
    fits_in_memory,
)
from unlearn_bench.data.readers import SOURCES, resolved
from unlearn_bench.data.soundness import check_labels
from unlearn_bench.data.sources import (
    USUAL_COLUMNS,
    Columns,
    Raw,
    RawPart,
    file_names,
)
from unlearn_bench.plugins.parts import parts
from unlearn_bench.suite.datasets import info
from unlearn_bench.suite.spec import MAX_IMAGE_SIZE, Normalize

__all__ = [
    "SOURCES",
    "Dataset",
    "Images",
    "Part",
    "StreamedImages",
    "TensorImages",
    "load",
    "names",
    "on_device",
    "places",
]

DEFAULT_ROOT = Path("data")
# Files up to this size in all are fingerprinted byte by byte, larger sets by names and sizes.
HASHED_BYTES = 4 << 30
MEASURED_IMAGES = 4096
MAX_CLASS_NAME = 80  # characters of it that tables and figures show
SMALL_IMAGE = 64  # pixels


def load(
    name: str,
    *,
    root: Path | None = None,
    image_size: int | None = None,
    download: bool = False,
    normalize: Normalize | None = None,
    columns: Columns = USUAL_COLUMNS,
    skip_corrupt: bool = False,
) -> Dataset:
    """Load a dataset by name.

    Images are held in memory where all of them, at their final size, take at most half of what
    is available; otherwise they are decoded when needed.

    Args:
        name: One of :func:`names`; ``imagefolder:`` and ``parquet:`` are followed by a path.
        root: Folder of datasets, by default ``data`` in the working folder.
        image_size: Side to bring every image to, in pixels: the shortest side is scaled
            (bilinear, antialiased) and the centre cut out. By default images stay as they are.
        download: Whether to get missing files from where torchvision gets them.
        normalize: Constants in place of the usual ones, or of those measured where none are.
        columns: Of Parquet files, where their names are not the usual ones.
        skip_corrupt: Whether to leave out images that cannot be decoded; notes name them.

    Raises:
        UnknownNameError: If there is no such dataset.
        ParameterError: If ``image_size`` is not a positive whole number, ``normalize`` gives
            neither one value nor one per channel, or the dataset has no columns to choose from.
        DataError: If files are missing, damaged or do not make up a dataset.
    """
    read = reading(name, root, download, columns)
    _refuse_size(image_size)
    with data_errors():
        raw = without_corrupt(read()) if skip_corrupt else read()
        check_labels(raw, name)
        fingerprint = _fingerprint(raw, image_size)
    train, test, notes = _of_one_size([raw.train, raw.test], image_size)
    mean, std, constants = constants_for(name, train, normalize, raw.constants)
    data = Dataset(
        name,
        Part(train, raw.train.labels, raw.train.numbers),
        Part(test, raw.test.labels, raw.test.numbers),
        shown_names(raw.classes),
        mean=mean,
        std=std,
        fingerprint=fingerprint,
        constants=constants,
        notes=(*raw.notes, *notes),
        attributes=replace(raw.attributes, files=file_names(raw.train.images)),
        counted=raw.counted,
    )
    return data.sealed() if is_blind() else data


@contextmanager
def data_errors() -> Iterator[None]:
    """Turn what goes wrong with files into errors for the user."""
    try:
        yield
    except RefusedError as error:
        raise DataError(str(error)) from error
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from error


def reading(
    name: str, root: Path | None, download: bool, columns: Columns = USUAL_COLUMNS
) -> Callable[[], Raw]:
    """Return what reads the dataset of that name, a plug-in's included; arguments as of `load`.

    Raises:
        UnknownNameError: If there is no such dataset.
        ParameterError: If it has no columns to choose from.
        DataError: If the name lacks its path, or two datasets bear it.
    """
    root = DEFAULT_ROOT if root is None else Path(root)
    kind, separator, path = name.partition(":")
    key = f"{kind}:PATH" if separator else name
    own = {} if separator else parts("dataset")
    if name in own and key in SOURCES:
        raise DataError(
            f"{own[name].file.name} names a dataset {name!r}, and that name is taken; rename it"
        )
    if name not in own and key not in SOURCES:
        raise unknown_name("dataset", name, names(), "unlearn-bench list datasets")
    if separator and not path:
        raise DataError(f"dataset {name!r} names no path; write {kind}:PATH")
    _refuse_columns(name, key, columns)
    if name in own:
        return lambda: plugged.read(own[name], root)
    return lambda: SOURCES[key].read(root, path, download, columns)


def _refuse_size(image_size: int | None) -> None:
    if image_size is not None and (
        not isinstance(image_size, int) or not 1 <= image_size <= MAX_IMAGE_SIZE
    ):
        raise ParameterError(
            f"image_size is {image_size!r}; it must be a whole number from 1 to {MAX_IMAGE_SIZE}"
        )


def _refuse_columns(name: str, key: str, columns: Columns) -> None:
    given = next((part for part, column in columns._asdict().items() if column), None)
    if given and key != "parquet:PATH":
        raise ParameterError(
            f"--{given}-column: only for parquet:PATH, not for {name}; leave it out"
        )


def shown_names(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Return class names that can be shown: escaped, short, and each its own."""
    shown: dict[str, None] = {}
    for label, name in enumerate(classes):
        short = one_line(name) or f"({label})"
        if len(short) > MAX_CLASS_NAME:
            short = f"{short[:MAX_CLASS_NAME]}..."
        shown.setdefault(short if short not in shown else f"{short} ({label})")
    if len(shown) != len(classes):
        raise DataError("class names are not distinct, not even with their labels; rename some")
    return tuple(shown)


def constants_for(
    name: str,
    train: Images,
    given: Normalize | None,
    own: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    """Return mean and standard deviation per channel, and where they come from.

    Args:
        name: Of the dataset.
        train: What they are measured on where nobody knows them.
        given: By the user.
        own: By the dataset's plug-in.
    """
    if given is None:
        known = info(name)
        usual = own or (known.constants if known else None)
        return (*usual, "usual") if usual else (*measured(train), "measured")
    channels = train.shape[0]
    for what, values in (("mean", given.mean), ("std", given.std)):
        if len(values) not in (1, channels):
            raise ParameterError(
                f"normalize.{what} has {len(values)} values, the images of {name} have {channels} "
                "channels; give one value, or one per channel"
            )
    mean, std = (v * channels if len(v) == 1 else v for v in (given.mean, given.std))
    return mean, std, "given"


def places(name: str, root: Path | None = None) -> tuple[Path, ...]:
    """Return where data lie that models are made from: closed to methods, which are handed theirs.

    Args:
        name: Of a dataset.
        root: As for :func:`load`.
    """
    root = (DEFAULT_ROOT if root is None else Path(root)).absolute()
    sklearn = importlib.util.find_spec("sklearn")
    packages = (sklearn and sklearn.submodule_search_locations) or ()
    found = [root, *(Path(package) / "datasets" / "data" for package in packages)]
    kind, separator, path = name.partition(":")
    return (*found, resolved(root, path).absolute()) if separator and path else tuple(found)


def names() -> list[str]:
    """Return every dataset name, those of plug-ins included; ``PATH`` stands for a path."""
    return [*SOURCES, *parts("dataset")]


def on_device(dataset: Dataset, device: torch.device, *, reserve: float = 0.5) -> Dataset:
    """Move images to ``device`` where they fit, so that batches need no transfer.

    Args:
        dataset: Its streamed images, and those that do not fit, stay where they are.
        device: Where the model is.
        reserve: Share of the device's free memory to leave for model and activations, in [0, 1].

    Raises:
        ParameterError: If ``reserve`` is out of its range.
    """
    if not 0 <= reserve <= 1:
        raise ParameterError(f"reserve is {reserve}; it must lie between 0 and 1")
    allowed = (1 - reserve) * free_memory(device)
    parts = []
    for part in (dataset.train, dataset.test):
        images = part.images
        if isinstance(images, TensorImages) and images.nbytes <= allowed:
            part = replace(part, images=images.to(device))
            allowed -= images.nbytes
        parts.append(part)
    return replace(dataset, train=parts[0], test=parts[1])


def free_memory(device: torch.device) -> int:
    """Bytes free on an accelerator, 0 for the CPU, where the images already are."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return 0


def _of_one_size(
    parts: list[RawPart], image_size: int | None
) -> tuple[Images, Images, tuple[str, ...]]:
    """Give the images of both parts one shape, in memory where they fit, and what to say of it."""
    packed = [part.images for part in parts if not isinstance(part.images, TensorImages)]
    if packed:
        found = encoded.survey(packed, image_size)
        shape, pixels, notes = found.shape, found.pixels, found.notes
    else:
        shape, pixels, notes = _tensor_shape(parts, image_size), EIGHT_BITS, ()
    ready: list[Images] = [
        part.images
        for part in parts
        if isinstance(part.images, TensorImages) and part.images.shape == shape
    ]
    if len(ready) < len(parts):
        resized = image_size is not None
        streamed = [_streamed(part, shape, pixels, resized=resized) for part in parts]
        fit = fits_in_memory(sum(images.nbytes for images in streamed))
        ready = [images.in_memory() if fit else images for images in streamed]
    train, test = ready
    return train, test, notes


def _tensor_shape(parts: list[RawPart], image_size: int | None) -> Shape:
    shapes = [part.images.shape for part in parts if isinstance(part.images, TensorImages)]
    channels, height, width = shapes[0]
    return (channels, height, width) if image_size is None else (channels, image_size, image_size)


def _streamed(part: RawPart, shape: Shape, pixels: PixelRange, *, resized: bool) -> StreamedImages:
    images = part.images
    if isinstance(images, TensorImages):
        return StreamedImages(images.data.__getitem__, len(images), shape)
    # Images known to be small keep the threads busy with the interpreter's lock only.
    threads = 1 if not resized and max(shape[1:]) <= SMALL_IMAGE else None
    decode = encoded.decoder(images, shape, resized=resized, pixels=pixels)
    return StreamedImages(decode, len(images), shape, threads=threads)


def measured(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Measure mean and standard deviation per channel, of pixels scaled to [0, 1].

    At most 4,096 evenly spaced images are read, whether they are in memory or not: the result
    must not depend on how much memory a machine has.
    """
    step = -(-len(images) // MEASURED_IMAGES)
    chosen = torch.arange(0, len(images), step)
    # Counting the 256 values is exact and needs no float copy of the images.
    counts = torch.zeros(images.shape[0], 256, dtype=torch.int64)
    for some in chosen.split(256):
        for channel, pixels in enumerate(images.fetch(some).transpose(0, 1)):
            counts[channel] += torch.bincount(pixels.flatten(), minlength=256)
    share = counts.double() / counts.sum(1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = (share * values).sum(1)
    std = (share * (values - mean[:, None]) ** 2).sum(1).sqrt()
    # A channel of one value would divide by zero.
    std[std == 0] = 1
    return tuple(mean.tolist()), tuple(std.tolist())


def _fingerprint(raw: Raw, image_size: int | None) -> str:
    """Digest labels and images as the source has them, and the size they are brought to.

    What is digested does not depend on whether the images are held in memory, which may
    differ from run to run.
    """
    digest = hashlib.sha256()
    digest.update(f"{len(raw.classes)} classes, size {image_size}".encode())
    for part in (raw.train, raw.test):
        _update(digest, part.labels)
        update_by_images(digest, part)
    digest.update(raw.attributes.digest)
    return digest.hexdigest()


def update_by_images(digest: "hashlib._Hash", part: RawPart) -> None:
    """Digest the images of a part as the source has them."""
    if isinstance(part.images, TensorImages):
        digest.update(str(part.images.shape).encode())
        _update(digest, part.images.data)
    else:
        _update_from_files(digest, part.images)


def _update(digest: "hashlib._Hash", tensor: Tensor) -> None:
    digest.update(tensor.contiguous().numpy().data)


def _update_from_files(digest: "hashlib._Hash", images: encoded.Encoded) -> None:
    sizes = [path.stat().st_size for path in images.files]
    hash_bytes = sum(sizes) <= HASHED_BYTES
    digest.update(images.digest)
    for path, size in zip(images.files, sizes, strict=True):
        name = f"{path.relative_to(images.base).as_posix()} {size}\n"
        digest.update(name.encode(errors="surrogateescape"))  # names need not be UTF-8
        if hash_bytes:
            with opened(path) as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
