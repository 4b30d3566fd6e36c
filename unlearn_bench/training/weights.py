"""The user's own weights: safetensors and PyTorch files, fitted to a model where that is certain.

What training code adds around weights is taken off: a dictionary around them, the prefixes of
wrappers, another name of the last layer. What does not change the model is filled in or left
out. Everything done is said; what is not certain is refused with the names that do not fit.

PyTorch files are pickles. They are read by torch's own reader of weights only, which makes
tensors, plain values, NumPy numbers and command lines as argparse leaves them, and calls nothing
else.
"""

import argparse
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from unlearn_bench.core.errors import ModelError, RefusedError, one_line
from unlearn_bench.core.quantities import in_order
from unlearn_bench.core.reading import opened, safetensors_header

PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "encoder.", "backbone.")
# Under which training code keeps the weights beside the epoch, the optimiser and the like.
INNER = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights")
# And their average over training, beside them or alone.
AVERAGED = ("state_dict_ema", "model_ema", "model_state_dict_ema", "ema_state_dict", "ema")
# What a checkpoint often holds beside weights: inert values, which torch's reader does not know.
_NUMPY_NUMBER = np.float64(0).__reduce__()[0]
INERT: tuple[Any, ...] = (
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "bool")),
    *((_NUMPY_NUMBER, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
)
COUNTER = "num_batches_tracked"  # of BatchNorm; only used where no momentum is set
CONSTANTS = ("normalize.mean", "normalize.std", "normalizer.mean", "normalizer.std")
ZIP_START, PICKLE_START = b"PK\x03\x04", b"\x80"
SHOWN_MISFITS = 3
MORE_NUMBERS = 1 << 28  # than the model has: of another architecture, whose misfits are named


def load_weights(model: nn.Module, path: Path) -> tuple[str, ...]:
    """Load the user's own weights into ``model``, in place.

    Args:
        model: Of the architecture that the weights are of.
        path: A safetensors or PyTorch file.

    Returns:
        What was done to make them fit: one line, or none.

    Raises:
        ModelError: If the file is damaged or its tensors do not fit; names the first misfits.
    """
    expected = model.state_dict()
    try:
        with opened(path) as stream:
            start = stream.read(9)
        # A safetensors header of such a length begins with the byte that a pickle begins with.
        if start[8:9] != b"{" and start.startswith((ZIP_START, PICKLE_START)):
            given, notes = _from_torch(path)
        else:
            given, notes = _from_safetensors(path, expected), []
    except RefusedError as error:
        raise ModelError(f"{error}; give a .safetensors file of trained weights") from error
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error
    given = _fitted(given, expected, model, notes)
    misfits = list(_misfits(expected, given))
    if misfits:
        more = f" and {len(misfits) - SHOWN_MISFITS} more" if len(misfits) > SHOWN_MISFITS else ""
        raise ModelError(
            f"{path} does not fit this model: {'; '.join(misfits[:SHOWN_MISFITS])}{more}; "
            "give the --model, --stem and --dataset that the weights were trained with"
        )
    model.load_state_dict(given)
    return (f"{path.name}: {'; '.join(notes)}",) if notes else ()


def _from_safetensors(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read a safetensors file whose header is sound and not much larger than the model."""
    header = safetensors_header(path)
    size = sum(torch.Size(shape).numel() for _, shape in header.values())
    most = sum(tensor.numel() for tensor in expected.values())
    if size > most + MORE_NUMBERS:
        raise RefusedError(f"{path} holds {size:,} numbers, this model {most:,}")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = one_line(str(error))
        raise RefusedError(f"{path} is not a readable safetensors file: {reason}") from error


def _from_torch(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Read the tensors of a PyTorch file, and say where in it they were."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as members:
                inside = sum(member.file_size for member in members.infolist())
            if inside > path.stat().st_size:  # torch packs nothing
                raise RefusedError(f"{path} is compressed; write it again by torch.save")
        with torch.serialization.safe_globals([*INERT]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except RefusedError:
        raise
    except pickle.UnpicklingError as error:
        raise RefusedError(
            f"{path} holds more than tensors and plain values, and is not unpickled, for that can "
            "run code; where you trust it: sd = torch.load(FILE, weights_only=False).state_dict(), "
            "or ['state_dict'] of a dictionary; safetensors.torch.save_file(sd, 'w.safetensors')"
        ) from error
    except Exception as error:  # whatever a damaged file makes torch's reader raise
        raise RefusedError(
            f"{path} is not a readable PyTorch file: {one_line(str(error)) or type(error).__name__}"
        ) from error
    if _is_state_dict(content):
        return dict(content), []
    if isinstance(content, Mapping):
        inner = [name for name in INNER if _is_state_dict(content.get(name))]
        averaged = [name for name in AVERAGED if _is_state_dict(content.get(name))]
        if len(inner) == 1:
            beside = [f"its {name!r}, averaged over training, is left out" for name in averaged]
            return dict(content[inner[0]]), [f"read its entry {inner[0]!r}", *beside]
        if not inner and len(averaged) == 1:
            return dict(content[averaged[0]]), [f"read its entry {averaged[0]!r}, an average"]
        names = in_order([one_line(str(name))[:40] for name in content], 8)
        raise RefusedError(f"{path} does not hold a single dictionary of tensors, but {names}")
    raise RefusedError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors")


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())
    )


def _fitted(
    given: dict[str, Tensor], expected: Mapping[str, Tensor], model: nn.Module, notes: list[str]
) -> dict[str, Tensor]:
    """Return the tensors under the model's names and of its types, as far as that is certain."""
    if "n_averaged" in given and "n_averaged" not in expected:  # of torch's AveragedModel
        given = {name: tensor for name, tensor in given.items() if name != "n_averaged"}
        notes.append("it is an average over training, whose count is left out")
    given = _without_prefixes(_of_the_model(given, expected, notes), expected, notes)
    given = _with_the_models_names(given, expected, notes)
    given = _without_constants(given, expected, notes)
    missing = [name for name in expected if name.endswith(COUNTER) and name not in given]
    if missing and len(missing) < len(expected):
        notes.append(f"{len(missing)} counters {COUNTER} are missing and keep their values")
        given |= {name: expected[name] for name in missing}
    ready, converted = {}, set()
    for name, tensor in given.items():
        wanted = expected.get(name)
        if wanted is not None and wanted.dtype != tensor.dtype and _converts(tensor, wanted):
            converted.add(str(tensor.dtype).removeprefix("torch."))
            tensor = tensor.to(wanted.dtype)
        ready[name] = tensor
    if converted:
        notes.append(f"its {' and '.join(sorted(converted))} numbers become the model's type")
    return ready


def _of_the_model(
    given: dict[str, Tensor], expected: Mapping[str, Tensor], notes: list[str]
) -> dict[str, Tensor]:
    """Leave out what a training module holds beside the model, such as its loss's weights."""
    for prefix in PREFIXES:
        ours = {name for name in given if name.startswith(prefix)}
        others = [one_line(name)[:40] for name in given if name not in ours]
        if others and {name.removeprefix(prefix) for name in ours} == expected.keys():
            notes.append(f"beside {prefix!r} it holds {in_order(others, 3)}, which is left out")
            return {name: given[name] for name in given if name in ours}
    return given


def _without_prefixes(
    given: dict[str, Tensor], expected: Mapping[str, Tensor], notes: list[str]
) -> dict[str, Tensor]:
    """Take off what wrappers put before every name, while the model has no such names."""
    taken = ""
    while given and not given.keys() & expected.keys():
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in given)), None)
        if prefix is None:
            break
        given = {name.removeprefix(prefix): tensor for name, tensor in given.items()}
        taken += prefix
    if taken:
        notes.append(f"its names begin with {taken!r}, which is removed")
    return given


def _with_the_models_names(
    given: dict[str, Tensor], expected: Mapping[str, Tensor], notes: list[str]
) -> dict[str, Tensor]:
    """Rename the usual other names: of a ResNet's short cuts, and of the last layer."""
    renamed = {}
    for name, tensor in given.items():
        other = re.sub(r"\bshortcut\b", "downsample", name)
        known = name in expected or other not in expected
        renamed[name if known else other] = tensor
    if renamed.keys() != given.keys():
        notes.append("its shortcut is the model's downsample")
    unknown = {name.rpartition(".")[0] for name in renamed if name not in expected}
    missing = {name.rpartition(".")[0] for name in expected if name not in renamed}
    missing = {name for name in missing if f"{name}.{COUNTER}" not in expected}
    unknown -= {name.rpartition(".")[0] for name in CONSTANTS}
    if len(unknown) == len(missing) == 1:
        (theirs,), (ours,) = unknown, missing
        pairs = {f"{theirs}.{end}": f"{ours}.{end}" for end in ("weight", "bias")}
        if all(
            old in renamed and new in expected and renamed[old].shape == expected[new].shape
            for old, new in pairs.items()
        ):
            notes.append(f"its {one_line(theirs)} is the model's {ours}")
            return {pairs.get(name, name): tensor for name, tensor in renamed.items()}
    return renamed


def _without_constants(
    given: dict[str, Tensor], expected: Mapping[str, Tensor], notes: list[str]
) -> dict[str, Tensor]:
    """Leave out constants of a normalisation that the training code kept within the model."""
    kept = {name: given[name] for name in CONSTANTS if name in given and name not in expected}
    if not kept or any(tensor.numel() > 16 for tensor in kept.values()):
        return given
    flags = [
        f"--{name.rpartition('.')[2]} "
        + ",".join(f"{value:.4g}" for value in tensor.flatten().tolist())
        for name, tensor in kept.items()
    ]
    notes.append(
        f"it normalises its inputs itself, which this model does not do: give {' '.join(flags)} "
        "unless "
        "these are the constants in use"
    )
    return {name: tensor for name, tensor in given.items() if name not in kept}


def _converts(given: Tensor, wanted: Tensor) -> bool:
    """Whether both are floating-point types, or both whole numbers."""
    if given.is_complex() or given.dtype == torch.bool or given.is_sparse or given.is_quantized:
        return False
    return given.is_floating_point() == wanted.is_floating_point()


def _misfits(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> Iterable[str]:
    for name, tensor in expected.items():
        if name not in given:
            yield f"{name} is missing"
        elif given[name].shape != tensor.shape:
            yield f"{name} is {list(given[name].shape)}, expected {list(tensor.shape)}"
        elif given[name].dtype != tensor.dtype or given[name].layout != tensor.layout:
            yield f"{name} holds {given[name].dtype}, expected {tensor.dtype}"
        elif not torch.isfinite(given[name]).all():
            yield f"{name} holds NaN or infinity"
    yield from (f"{one_line(name)[:80]} is unknown" for name in given if name not in expected)


__all__ = ["load_weights"]
