"""What a run costs: synchronised wall, CPU and GPU seconds by phase, and peak memory.

A GPU works behind the program's back; every reading of a clock waits for it first, and GPU
seconds are taken from events on its own time line.
"""

import contextlib
import math
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.utils.hooks import RemovableHandle

from unlearn_bench.core.errors import MethodError


@dataclass
class Seconds:
    """Time spent in one phase. ``gpu`` is None where there is no GPU."""

    wall: float = 0.0
    cpu: float = 0.0
    gpu: float | None = None


@dataclass
class Clock:
    """Measures named phases on one device; phases may nest and add up over repeated use."""

    device: torch.device
    phases: dict[str, Seconds] = field(default_factory=dict)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of the block to the phase ``name``."""
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            torch.cuda.synchronize(self.device)
            start_event = torch.cuda.Event(enable_timing=True)
            end_event = torch.cuda.Event(enable_timing=True)
            start_event.record()
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            total = self.phases.setdefault(name, Seconds())
            if on_gpu:
                end_event.record()
                torch.cuda.synchronize(self.device)
                total.gpu = (total.gpu or 0.0) + start_event.elapsed_time(end_event) / 1000
            total.wall += time.perf_counter() - wall
            total.cpu += time.process_time() - cpu


class Passes:
    """Counts the examples that go forwards and backwards through models while it watches them.

    Copies of a watched model are watched with it. Passes under torch.func count forwards only.

    Args:
        limit: Seconds from :meth:`begin` on, after which the next pass raises; None for no limit.
        on_cpu: Whether they are seconds of the processor, which others' work does not lengthen.

    Attributes:
        examples: ``forward`` and ``backward``, a batch of n counting n.
    """

    def __init__(self, limit: float | None = None, *, on_cpu: bool = False) -> None:
        self.examples = {"forward": 0, "backward": 0}
        self._watched: list[RemovableHandle] = []
        self._limit = limit
        self._now = time.process_time if on_cpu else time.perf_counter
        self._deadline = math.inf

    def begin(self) -> None:
        """Start the clock of the limit."""
        if self._limit is not None:
            self._deadline = self._now() + self._limit

    def _check_time(self) -> None:
        if self._now() > self._deadline:
            raise MethodError(f"ended after {self._limit:.3g} s, all that was left to tune it")

    def watch(self, model: nn.Module) -> nn.Module:
        """Count this model's passes from now on, and return it."""
        examples, check_time = self.examples, self._check_time

        # A plain function: deep copies of the model share it instead of copying the counts.
        def count(_module: nn.Module, _inputs: object, output: object) -> None:
            check_time()
            if not isinstance(output, Tensor) or not output.dim():
                return
            examples["forward"] += len(output)
            if output.requires_grad and not is_functorch_wrapped_tensor(output):
                output.register_hook(lambda gradient: _add(examples, "backward", len(gradient)))

        self._watched.append(model.register_forward_hook(count))
        return model

    def stop(self) -> None:
        """Watch no longer."""
        for handle in self._watched:
            handle.remove()
        self._watched.clear()


def _add(counts: dict[str, int], name: str, amount: int) -> None:
    counts[name] += amount


class PeakMemory:
    """Growth of memory above its level at the start, in bytes.

    On a GPU: what torch allocated. On the CPU: the process's resident memory, whose high-water
    mark Linux can reset; elsewhere the mark covers the process's whole life, and growth that an
    earlier phase hides reads as None.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            self._start = torch.cuda.memory_allocated(device)
        else:
            self._exact = _reset_high_water_mark()
            self._start = _resident_bytes() if self._exact else _high_water_mark()

    def growth(self) -> int | None:
        """Return the peak so far minus the level at the start."""
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device)) - self._start
        grown = max(0, _high_water_mark() - self._start)
        return grown if self._exact or grown else None


def _reset_high_water_mark() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
        _status("VmHWM")
    except (OSError, KeyError):
        return False
    return True


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


def _resident_bytes() -> int:
    return _status("VmRSS")


def _high_water_mark() -> int:
    try:
        return _status("VmHWM")
    except (OSError, KeyError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def environment(device: torch.device) -> Mapping[str, Any]:
    """Return hardware and versions: what a figure in seconds cannot be read without."""
    import timm

    from unlearn_bench import __version__

    gpu = device.type == "cuda"
    return {
        "unlearn_bench": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if gpu else "cpu",
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
