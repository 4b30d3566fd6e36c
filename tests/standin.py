"""A pretended accelerator: finds device mistakes on a machine that has no GPU.

Inside :class:`StandIn` every tensor lies where its code put it, on the CPU or on a pretended
``xpu:0``, though all data stay in main memory and every kernel is the CPU's. What a GPU refuses is
refused: an operation over tensors of both places, a generator of the wrong one, NumPy on the
device. What makes a program wait for a GPU (``.item()``, ``.cpu()``, ``bool(tensor)``) is noted.

A tensor's place is that of its storage, so views and in-place operations need no care. Places are
given where Python calls torch (:class:`_Calls`) and passed on by every operation underneath, the
backward pass and ``torch.func`` included (:class:`_Operations`). Tensors that C++ makes for itself
have no place and go with all.
"""

import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._C import _functorch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

DEVICE = torch.device("xpu", 0)
CPU = torch.device("cpu")
_PARSE_TO = torch._C._nn._parse_to

# Operations that may take tensors of both places: copies, and indices that lie on the CPU.
_COPIES = {"aten::copy_", "aten::_copy_from", "aten::_to_copy"}
_INDEXED = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
_WAITS = {"aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal", "aten::nonzero"}
_ON_CPU_ONLY = {"numpy", "__array__", "pin_memory"}


class DeviceMistakeError(RuntimeError):
    """What a GPU would have refused, or got wrong."""


class StandIn:
    """Pretends that :data:`DEVICE` is there; a context manager.

    Attributes:
        waits: Where a program would have waited for the device: ``file:line function``, in order.
    """

    def __init__(self) -> None:
        self.waits: list[str] = []
        self._places: dict[int, tuple[StorageWeakRef, torch.device]] = {}
        self._open: list[ExitStack] = []
        self._sweep = 1 << 12

    def __enter__(self) -> "StandIn":
        stack = ExitStack()
        stack.enter_context(_Calls(self))
        stack.enter_context(_Operations(self))
        stack.enter_context(mock.patch.object(torch._C._nn, "_parse_to", self._parse_to))
        self._open.append(stack)
        return self

    def __exit__(self, *error: object) -> None:
        self._open.pop().close()

    def _parse_to(self, *args: Any, **kwargs: Any) -> Any:
        """Read the arguments of ``Module.to``, which asks a tensor for its device in C++."""
        device, *rest = _PARSE_TO(*args, **kwargs)
        if args and isinstance(args[0], Tensor):
            device = self.place(args[0]) or CPU
        return device, *rest

    def place(self, tensor: Tensor) -> torch.device | None:
        """Return where a tensor lies; None where C++ made it for itself."""
        found = self._places.get(_storage(tensor)._cdata)
        return None if found is None else found[1]

    def put(self, tensor: Tensor, place: torch.device) -> None:
        """Say where a tensor lies."""
        storage = _storage(tensor)
        # Held weakly, an address is not given to another storage.
        self._places[storage._cdata] = StorageWeakRef(storage), place
        if len(self._places) > self._sweep:
            alive = {k: found for k, found in self._places.items() if not found[0].expired()}
            self._places, self._sweep = alive, max(1 << 12, 2 * len(alive))

    def wait(self) -> None:
        """Note that the program waits for the device here."""
        self.waits.append(_caller())

    def check(
        self, name: str, tensors: Iterable[Tensor], generator: torch.Generator | None
    ) -> None:
        """Refuse what a GPU refuses of one operation.

        Raises:
            DeviceMistakeError: If its tensors lie in both places, or the generator in another.
        """
        places = {DEVICE: [], CPU: []}
        for tensor in tensors:
            place = self.place(tensor)
            # A single number may come from the CPU.
            if place is not None and (place == DEVICE or tensor.dim()):
                places[place].append(list(tensor.shape))
        if places[DEVICE] and places[CPU]:
            raise DeviceMistakeError(
                f"{name} of tensors {places[DEVICE]} on {DEVICE} and {places[CPU]} on the CPU, "
                f"at {_caller()}"
            )
        if generator is not None and places[DEVICE]:
            raise DeviceMistakeError(
                f"{name} on {DEVICE} by a generator on the CPU, at {_caller()}"
            )


def _wrong_generator(name: str) -> DeviceMistakeError:
    return DeviceMistakeError(f"{name} on {DEVICE} by a generator on the CPU, at {_caller()}")


class _Calls(TorchFunctionMode):
    """Where Python calls torch: makes, moves and asks for the place of tensors."""

    def __init__(self, standin: StandIn) -> None:
        super().__init__()
        self._standin = standin

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs, name, standin = dict(kwargs or {}), getattr(func, "__name__", ""), self._standin
        owner = getattr(func, "__self__", None)
        if name == "__get__" and owner is Tensor.device:
            return standin.place(args[0]) or CPU
        if name in _ON_CPU_ONLY and args and standin.place(args[0]) == DEVICE:
            raise DeviceMistakeError(f"{name}() of a tensor on {DEVICE}, at {_caller()}")
        if name == "tolist" and standin.place(args[0]) == DEVICE:
            standin.wait()
        if name in ("to", "cpu", "cuda", "xpu") and isinstance(args[0], Tensor):
            return self._moved(func, name, args, kwargs)
        wanted = kwargs.pop("device", None)
        place = None if wanted is None else _device(wanted)
        if place is not None and place.type == "cpu":
            kwargs["device"], place = place, CPU
        # The memo of a deep copy holds the whole world.
        given = args[:1] if name == "__deepcopy__" else (args, kwargs)
        tensors = _tensors(given)
        if place == DEVICE and kwargs.get("generator") is not None:
            raise DeviceMistakeError(
                f"{name} on {DEVICE} by a generator on the CPU, at {_caller()}"
            )
        found = func(*args, **kwargs)
        if place is None:
            places = {standin.place(tensor) for tensor in tensors}
            place = DEVICE if DEVICE in places else CPU if CPU in places or not tensors else None
            for made in _tensors(found):
                if place is not None and standin.place(made) is None:
                    standin.put(made, place)
        else:
            for made in _tensors(found):
                standin.put(made, place)
        return found

    def _moved(self, func: Callable[..., Any], name: str, args: Any, kwargs: Any) -> Any:
        tensor, rest, standin = args[0], list(args[1:]), self._standin
        wanted = CPU if name == "cpu" else DEVICE if name in ("cuda", "xpu") else None
        if name == "to":
            wanted = kwargs.pop("device", None)
            if rest and isinstance(rest[0], torch.device | str | int):
                wanted = rest.pop(0)
            elif rest and isinstance(rest[0], Tensor):
                wanted = standin.place(rest[0]) or CPU
            kwargs.pop("non_blocking", None)
            if len(rest) > 1 or rest and isinstance(rest[0], bool):
                rest = rest[:1] if isinstance(rest[0], torch.dtype) else []
            found = func(tensor, *rest, **kwargs) if rest or kwargs else tensor
        else:
            found = tensor
        before, after = standin.place(tensor), None if wanted is None else _device(wanted)
        if after is None or after == (before or CPU):
            return found
        if after == CPU:
            standin.wait()
        # Another storage: a move leaves the original where it is.
        found = found.clone() if _storage(found)._cdata == _storage(tensor)._cdata else found
        standin.put(found, after)
        return found


class _Operations(TorchDispatchMode):
    """Every operation underneath: checks its tensors and passes their place on."""

    def __init__(self, standin: StandIn) -> None:
        super().__init__()
        self._standin = standin

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, standin = kwargs or {}, self._standin
        name = func._schema.name
        tensors = _tensors((args, kwargs))
        if name in _COPIES:
            checked: list[Tensor] = []
        elif name in _INDEXED and standin.place(args[0]) == DEVICE:
            checked = [args[0], *_tensors((args[2:], kwargs))]
        else:
            checked = tensors
        if checked:
            standin.check(name, checked, kwargs.get("generator"))
        if name in _WAITS and any(standin.place(t) == DEVICE for t in tensors):
            standin.wait()
        found = func(*args, **kwargs)
        places = {standin.place(tensor) for tensor in tensors}
        for made in _tensors(found):
            if standin.place(made) is None and places - {None}:
                standin.put(made, DEVICE if DEVICE in places else CPU)
        return found


@contextmanager
def without_waiting(standin: StandIn) -> Iterator[None]:
    """Make sure that nothing in the block waits for the device.

    Raises:
        AssertionError: If something does; it says where.
    """
    before = len(standin.waits)
    yield
    waits = standin.waits[before:]
    assert not waits, f"the program waits for the device at {', '.join(dict.fromkeys(waits))}"


def _device(wanted: Any) -> torch.device:
    place = torch.device(wanted)
    return CPU if place.type == "cpu" else DEVICE


def _tensors(found: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> torch.UntypedStorage:
    with torch._C.DisableTorchFunction():
        while _functorch.is_functorch_wrapped_tensor(tensor):
            tensor = _functorch.get_unwrapped(tensor)
        return tensor.untyped_storage()


_HERE = Path(__file__).name


def _caller() -> str:
    """Return the innermost line that is ours, neither torch's nor this file's."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if "site-packages" not in path.parts and path.name != _HERE and path.exists():
            return f"{path.name}:{frame.lineno} {frame.name}"
    return "?"
