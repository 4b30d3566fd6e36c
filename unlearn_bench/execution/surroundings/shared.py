"""The list of what runs of one process share: how each is called, read and put back.

What torch, NumPy, Python and the system keep globally and a run's numbers, or its chance to run
at all, depend on. Random generators are not in it: every run seeds them.
"""

import contextlib
import gc
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.modules import module as modules
from torch.optim import optimizer as optimizers
from torch.utils import _python_dispatch as dispatch
from torch.utils._device import DeviceContext

from unlearn_bench.execution.surroundings import streams
from unlearn_bench.plugins.method import Method
from unlearn_bench.plugins.registry import REGISTERED


@dataclass(frozen=True)
class Shared:
    """One thing that runs share.

    Attributes:
        name: For the user.
        read: Returns its state; a mapping where it has parts, whose names are shown.
        restore: Puts back what ``read`` returned.
        shown: Whether the state is shown where it has no parts.
    """

    name: str
    read: Callable[[], Any]
    restore: Callable[[Any], object]
    shown: bool = True

    def difference(self, before: Any, after: Any) -> str:
        """Say what changed."""
        if isinstance(before, Mapping):
            parts = [k for k in {**before, **after} if before.get(k) != after.get(k)]
            return f"{self.name}: {', '.join(map(str, parts))}"
        return f"{self.name}: {before} became {after}" if self.shown else self.name


_modes: list[torch.inference_mode] = []


def _set_inference_mode(before: bool) -> None:
    mode = torch.inference_mode(before)
    mode.__enter__()
    _modes.append(mode)  # it would end with the object


def _set_device(before: torch.device) -> None:
    # The CPU is the default without a default, which costs nothing.
    torch.set_default_device(None if before.type == "cpu" else before)


def _autocast() -> dict[str, Any]:
    found: dict[str, Any] = {
        device: (torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))
        for device in ("cpu", "cuda")
    }
    return found | {"cache": torch.is_autocast_cache_enabled()}


def _set_autocast(before: Mapping[str, Any]) -> None:
    for device in ("cpu", "cuda"):
        enabled, dtype = before[device]
        torch.set_autocast_enabled(device, enabled)
        torch.set_autocast_dtype(device, dtype)
    torch.set_autocast_cache_enabled(before["cache"])
    torch.clear_autocast_cache()


# Below torch.backends.
_FLAGS = (
    "cudnn.enabled",
    "cudnn.benchmark",
    "cudnn.deterministic",
    "cudnn.conv.fp32_precision",
    "cudnn.rnn.fp32_precision",
    "cuda.matmul.fp32_precision",
    "mkldnn.enabled",
    "mkldnn.conv.fp32_precision",
    "mkldnn.matmul.fp32_precision",
)


def _flags() -> dict[str, Any]:
    return {name: attrgetter(name)(torch.backends) for name in _FLAGS}


def _set_flags(before: Mapping[str, Any]) -> None:
    for name, value in _flags().items():
        if value != before[name]:
            place, _, flag = name.rpartition(".")
            setattr(attrgetter(place)(torch.backends), flag, before[name])


def _flushes_denormals() -> bool:
    return float(torch.tensor(5e-324, dtype=torch.float64, device="cpu") * 1) == 0


_HOOKS = {
    name.strip("_").replace("_", " "): table
    for module in (modules, optimizers)
    for name, table in vars(module).items()
    if name.startswith("_global_") and isinstance(table, dict)
}


def _hooks() -> dict[str, dict[Any, Any]]:
    return {name: dict(table) for name, table in _HOOKS.items()}


def _set_hooks(before: Mapping[str, Mapping[Any, Any]]) -> None:
    for name, table in _HOOKS.items():
        table.clear()
        table.update(before[name])


def _full_backward_hooks() -> bool | None:
    return modules._global_is_full_backward_hook


def _set_full_backward_hooks(before: bool | None) -> None:
    modules._global_is_full_backward_hook = before


def _function_modes() -> int:
    """Return how many modes look at every call, without that of a default device."""
    there = range(torch._C._len_torch_function_stack())
    return sum(not isinstance(torch._C._get_function_stack_at(i), DeviceContext) for i in there)


def _pop_function_modes(before: int) -> None:
    count = torch._C._len_torch_function_stack()
    stack = [torch._C._pop_torch_function_stack() for _ in range(count)][::-1]
    devices = [mode for mode in stack if isinstance(mode, DeviceContext)]
    for mode in devices + [mode for mode in stack if mode not in devices][:before]:
        torch._C._push_on_torch_function_stack(mode)


def _pop_dispatch_modes(before: int) -> None:
    while torch._C._len_torch_dispatch_stack() > before:
        dispatch._pop_mode()


def _folder() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def _set_folder(before: Path | None) -> None:
    if before is not None:
        with contextlib.suppress(OSError):
            os.chdir(before)


_LIMITS = {name: getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}


def _limits() -> dict[str, tuple[int, int]]:
    return {name: resource.getrlimit(number) for name, number in _LIMITS.items()}


def _set_limits(before: Mapping[str, tuple[int, int]]) -> None:
    for name, (soft, hard) in before.items():
        number = _LIMITS[name]
        try:
            resource.setrlimit(number, (soft, hard))
        except (ValueError, OSError):  # only root may raise what is hard
            _, most = resource.getrlimit(number)
            resource.setrlimit(number, (most, most))


def _handlers() -> dict[str, Any]:
    return {number.name: signal.getsignal(number) for number in signal.Signals}


def _set_handlers(before: Mapping[str, Any]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # only the main thread may decide about signals
    for number in signal.Signals:
        handler = before[number.name]
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def _alarm() -> bool:
    return signal.getitimer(signal.ITIMER_REAL)[0] > 0


def _set_alarm(before: bool) -> None:
    if not before:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _umask() -> int:
    os.umask(mask := os.umask(0o077))
    return mask


def _collecting(before: bool) -> None:
    (gc.enable if before else gc.disable)()


def _cores() -> frozenset[int]:
    if not hasattr(os, "sched_getaffinity"):
        return frozenset()
    return frozenset(os.sched_getaffinity(0))


def _set_registered(before: Mapping[str, Method]) -> None:
    REGISTERED.clear()
    REGISTERED.update(before)


def _set_anomalies(before: tuple[bool, bool]) -> None:
    torch.autograd.set_detect_anomaly(*before)


SHARED = (
    # First: modes see what the others do.
    Shared("function modes", _function_modes, _pop_function_modes),
    Shared("dispatch modes", lambda: torch._C._len_torch_dispatch_stack(), _pop_dispatch_modes),
    Shared("default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Shared("default device", torch.get_default_device, _set_device),
    # Before gradients, which it sets as well.
    Shared("inference mode", torch.is_inference_mode_enabled, _set_inference_mode),
    Shared("gradients enabled", torch.is_grad_enabled, torch.set_grad_enabled),
    Shared("autocast", _autocast, _set_autocast),
    Shared(
        "deterministic algorithms",
        torch.get_deterministic_debug_mode,
        torch.set_deterministic_debug_mode,
    ),
    Shared(
        "matmul precision",
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
    ),
    Shared("flags of torch", _flags, _set_flags),  # after the precision, which sets some
    Shared("denormals flushed", _flushes_denormals, torch.set_flush_denormal),
    Shared(
        "anomaly detection",
        lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        _set_anomalies,
    ),
    Shared("threads", torch.get_num_threads, torch.set_num_threads),
    Shared("hooks on every module or optimiser", _hooks, _set_hooks),
    Shared("kind of global backward hooks", _full_backward_hooks, _set_full_backward_hooks),
    Shared(
        "NumPy's generator",
        attrgetter("get_bit_generator")(np.random),
        attrgetter("set_bit_generator")(np.random),
        shown=False,
    ),
    Shared("NumPy's handling of errors", np.geterr, lambda before: np.seterr(**before)),
    Shared("standard streams", streams.read, streams.restore),
    Shared("working folder", _folder, _set_folder, shown=False),
    Shared("resource limits", _limits, _set_limits),
    Shared("signal handlers", _handlers, _set_handlers),
    Shared("alarm set", _alarm, _set_alarm),
    Shared("permissions of new files", _umask, os.umask, shown=False),
    Shared("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Shared("garbage collection", gc.isenabled, _collecting),
    Shared("cores", _cores, lambda before: os.sched_setaffinity(0, before), shown=False),
    Shared("registered methods", lambda: dict(REGISTERED), _set_registered),
    Shared("tracing", sys.gettrace, sys.settrace, shown=False),
    Shared("profiling", sys.getprofile, sys.setprofile, shown=False),
)
