"""User-defined models and datasets: one decorated function each.

::

    @model("my_net")
    def my_net(channels, image_size, num_classes):
        return MyNet(channels, num_classes)

    @dataset("my_scans")
    def my_scans(root):
        return Data(train=(images, labels), test=(images, labels), classes=["sick", "well"])

Free of torch: what the functions return is looked at where models are built and data are read.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from unlearn_bench.core.errors import PluginError
from unlearn_bench.core.keys import code_hash, content_key
from unlearn_bench.plugins import PLUGIN_MODULE

PartKind = Literal["model", "dataset"]
Augment = Literal["none", "crop", "crop-flip"]
F = TypeVar("F", bound=Callable[..., Any])

_SIGNATURES: dict[PartKind, tuple[str, ...]] = {
    "model": ("channels", "image_size", "num_classes"),
    "dataset": ("root",),
}


@dataclass(frozen=True)
class Part:
    """A registered model or dataset.

    Attributes:
        kind: Which of the two.
        name: As ``--model`` or ``--dataset`` names it.
        function: Builds the one, or reads the other.
        file: The file that defines it; its hash is part of every key.
        augment: How training images of a dataset may be changed.
    """

    kind: PartKind
    name: str
    function: Callable[..., Any]
    file: Path
    augment: Augment = "none"

    @property
    def is_plugin(self) -> bool:
        """Whether it comes from a file given by ``--plugin``, not from an installed package."""
        return self.function.__module__.startswith(PLUGIN_MODULE)

    @cached_property
    def code_key(self) -> str:
        """Hash of the defining file's code: results of an earlier version are never reused."""
        return content_key(code_hash(self.file))

    @property
    def summary(self) -> str:
        """First line of the function's docstring."""
        text = inspect.getdoc(self.function) or f"a {self.kind} of {self.file.name}"
        return text.partition("\n")[0].rstrip(".")


# By kind and name; what tests and notebooks put here for a while is theirs to take away.
REGISTERED: dict[tuple[PartKind, str], Part] = {}


def model(name: str) -> Callable[[F], F]:
    """Register the decorated function as the model ``name``.

    It is called with ``channels``, ``image_size`` (height and width in pixels) and
    ``num_classes``, and returns a ``torch.nn.Module`` with new weights that maps images
    [N, C, H, W] to logits [N, num_classes].

    Args:
        name: As ``--model`` takes it.

    Raises:
        PluginError: If the name or the signature cannot be used.
    """
    return _register("model", name)


def dataset(name: str, *, augment: Augment = "none") -> Callable[[F], F]:
    """Register the decorated function as the dataset ``name``.

    It is called with ``root``, the folder of the datasets, and returns a ``Data``.

    Args:
        name: As ``--dataset`` takes it.
        augment: What a recipe with ``augment: auto`` does to its images: ``none``, ``crop`` or
            ``crop-flip``. Some classes change their meaning when mirrored.

    Raises:
        PluginError: If the name or the signature cannot be used.
    """
    return _register("dataset", name, augment)


def _register(kind: PartKind, name: str, augment: Augment = "none") -> Callable[[F], F]:
    def decorate(function: F) -> F:
        file = Path(inspect.getfile(function)).resolve()
        part = Part(kind, name, function, file, augment)
        _check(part)
        known = REGISTERED.get((kind, name))
        if known is not None and (known.file, known.function.__qualname__) != (
            file,
            function.__qualname__,
        ):
            raise PluginError(
                f"two {kind}s are named {name!r}: in {known.file} and {file}; rename one"
            )
        REGISTERED[kind, name] = part
        return function

    return decorate


def _check(part: Part) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", part.name):
        raise PluginError(
            f"a {part.kind} cannot be named {part.name!r}; use letters, digits, _, . and -"
        )
    if part.augment not in get_args(Augment):
        raise PluginError(
            f"dataset {part.name!r}: augment={part.augment!r} is not one of "
            f"{', '.join(map(repr, get_args(Augment)))}"
        )
    wanted = _SIGNATURES[part.kind]
    try:
        inspect.signature(part.function).bind(*wanted)
    except TypeError:
        raise PluginError(
            f"{part.kind} {part.name!r}: the signature must be ({', '.join(wanted)})"
        ) from None


def parts(kind: PartKind) -> dict[str, Part]:
    """Return the registered parts of a kind by name, those of installed packages included."""
    from unlearn_bench.plugins import registry

    registry.load_packages()
    return {name: part for (of, name), part in sorted(REGISTERED.items()) if of == kind}


def files() -> set[Path]:
    """Return the files of ``--plugin`` that define models or datasets."""
    return {part.file for part in REGISTERED.values() if part.is_plugin}
