"""Time the Fisher diagonal against a plain forward and backward pass of the same batch.

The ratio of the two says what a diagonal costs in a unit that travels between machines. Runs
are paired and interleaved in one process, so that noise meets both alike, and the median of
the pairs' ratios is taken. CPU time is counted where there is no GPU to wait for.
"""

import contextlib
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import timm
import torch
from torch import Tensor, nn

from unlearn_bench.core.caches import forgetful
from unlearn_bench.core.errors import ModelError, UserError, one_line, said, suggestion
from unlearn_bench.fisher import Kind, fisher_diagonal


@dataclass(frozen=True)
class Workload:
    """A model and the batch it is timed on.

    Attributes:
        model: Name of a timm model, or ``"all_cnn"``.
        batch: Examples in the batch.
        channels: Of the images.
        size: Height and width of the images.
        options: Further arguments of ``timm.create_model``.
    """

    model: str
    batch: int = 64
    channels: int = 3
    size: int = 32
    options: dict[str, Any] = field(default_factory=dict)

    def build(self, device: str = "cpu") -> tuple[nn.Module, Tensor, Tensor]:
        """The model in eval mode with random parameters, inputs, and labels of 10 classes.

        Args:
            device: Where they are put; their values are those of the CPU's generator.

        Raises:
            ModelError: If timm has no model of that name, or it does not take these images.
        """
        torch.manual_seed(0)
        x = torch.randn(self.batch, self.channels, self.size, self.size)
        if self.model == "all_cnn":
            model = all_cnn(self.channels)
        elif timm.is_model(self.model):
            options = {"num_classes": 10, "in_chans": self.channels, **self.options}
            with self.fitting():
                model = timm.create_model(self.model, **options)
        else:
            close = suggestion(self.model, timm.list_models())
            raise ModelError(f"timm has no model {self.model!r}{close}; see timm.list_models()")
        with self.fitting():
            logits = forgetful(randomised(model), x[:2])
        if not isinstance(logits, Tensor) or logits.shape != (2, 10):
            raise ModelError(f"{self.model} does not return a row of logits; choose a classifier")
        y = torch.randint(0, 10, (self.batch,))
        return model.to(device), x.to(device), y.to(device)

    @contextlib.contextmanager
    def fitting(self) -> Iterator[None]:
        """Say of whatever the model raises within the block that it does not fit."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # a model may raise anything
            raise ModelError(
                f"{self.model} cannot be timed on images of {self.size} x {self.size} pixels: "
                f"{type(error).__name__}: {said(error)}; choose another model"
            ) from error


WORKLOADS = {
    "resnet18": Workload("resnet18"),
    "resnet18_28": Workload("resnet18", channels=1, size=28),
    "mobilenetv3": Workload("mobilenetv3_small_050"),
    "vit_tiny": Workload(
        "vit_tiny_patch16_224", batch=32, options={"img_size": 32, "patch_size": 4}
    ),
    "all_cnn": Workload("all_cnn"),
}


@dataclass(frozen=True)
class Timing:
    """What one measurement found, in seconds; ``ratio`` is the median over pairs."""

    plain: float
    fisher: float
    ratio: float
    pairs: list[float]
    routes: dict[str, str]


def all_cnn(channels: int = 3) -> nn.Module:
    """The All-CNN-C of Springenberg et al. 2015, arXiv:1412.6806, ten classes."""
    layers: list[nn.Module] = []
    widths = [
        (96, 3, 1),
        (96, 3, 1),
        (96, 3, 2),
        (192, 3, 1),
        (192, 3, 1),
        (192, 3, 2),
        (192, 3, 1),
        (192, 1, 1),
        (10, 1, 1),
    ]
    for width, kernel, stride in widths:
        layers += [nn.Conv2d(channels, width, kernel, stride, kernel // 2), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers[:-1], nn.AdaptiveAvgPool2d(1), nn.Flatten())


def randomised(model: nn.Module) -> nn.Module:
    """Put ``model`` into eval mode with values that a trained model could have.

    Fresh models start scales and last layers at zero, which would hide most of the gradient
    from a test, and let a measurement skip work that real models need.
    """
    generator = torch.Generator().manual_seed(0)

    def noise(t: Tensor) -> Tensor:
        return torch.randn(t.shape, generator=generator, dtype=torch.float64).to(t)

    with torch.no_grad():
        for p in model.parameters():
            if p.ndim < 2 or p.eq(p.flatten()[0]).all():
                p.add_(0.2 * noise(p))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(0.2 * noise(buffer))
            elif name.endswith("running_var"):
                buffer.mul_(0.5 + noise(buffer).abs())
    return model.eval()


def plain_pass(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """One forward and backward pass of the mean loss, gradients dropped."""
    torch.nn.functional.cross_entropy(model(x), y).backward()
    model.zero_grad(set_to_none=True)


def clock(run: Callable[[], object], device: torch.device) -> float:
    """Seconds that ``run`` takes: of CPU time, or until the device has finished."""
    if device.type != "cuda":
        start = time.process_time()
        run()
        return time.process_time() - start
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    torch.cuda.synchronize(device)
    return time.perf_counter() - start


def measure(model: nn.Module, x: Tensor, y: Tensor, kind: Kind, rounds: int = 7) -> Timing:
    """Time ``rounds`` pairs of a plain pass and a Fisher diagonal, after one of either.

    Args:
        model: Classifier in eval mode.
        x: Inputs, [N, ...], on the model's device.
        y: Labels, [N].
        kind: Of the diagonal.
        rounds: Pairs to time.
    """
    plain_pass(model, x, y)
    routes = fisher_diagonal(model, [(x, y)], kind).routes
    plain, fisher = [], []
    for _ in range(rounds):
        plain.append(clock(lambda: plain_pass(model, x, y), x.device))
        fisher.append(clock(lambda: fisher_diagonal(model, [(x, y)], kind), x.device))
    pairs = [f / p for f, p in zip(fisher, plain, strict=True)]
    return Timing(median(plain), median(fisher), median(pairs), pairs, routes)


def device_name(device: str) -> str:
    """Name a device as its maker does; the CPU's threads are counted instead."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"the CPU ({threads} thread{'s' if threads != 1 else ''})"


def peak_bytes(workload: str | Workload, kind: str, device: str = "cpu") -> int:
    """Peak memory of a fresh process that runs one workload; on a GPU, what PyTorch took of it.

    Args:
        workload: One, or a key of :data:`WORKLOADS`, or a timm model.
        kind: Of the diagonal, or ``"plain"`` for a plain pass.
        device: Where it runs.

    Raises:
        ModelError: If that process fails, for lack of memory.
    """
    code = f"from {__name__} import Workload, peak_here; "
    code += f"peak_here({workload!r}, {kind!r}, {device!r})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"])[-1]
        raise ModelError(f"its memory cannot be measured: {one_line(last)}; choose another model")
    return int(done.stdout)


def peak_here(workload: str | Workload, kind: str, device: str = "cpu") -> None:
    """Run a workload in this process and write its peak memory in bytes to standard output."""
    torch.set_num_threads(1)
    if isinstance(workload, str):
        workload = WORKLOADS.get(workload, Workload(workload))
    model, x, y = workload.build(device)
    for _ in range(3):
        if kind == "plain":
            plain_pass(model, x, y)
        else:
            fisher_diagonal(model, [(x, y)], kind)  # type: ignore[arg-type]
    on_gpu = torch.device(device).type == "cuda"
    sys.stdout.write(str(torch.cuda.max_memory_allocated(device) if on_gpu else _peak_rss()))


def _peak_rss() -> int:
    """Largest resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: on Linux a child starts with its parent's.
        (line,) = (row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    # Bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
