"""Write what a Fisher diagonal costs besides time at ten classes: memory, classes, precision.

Usage: ``python benchmarks/fisher_costs.py reports/fisher/costs.md``, half an hour on one core;
``memory``, ``classes`` or ``types`` after the path for a section alone.
"""

import platform
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from unlearn_bench.fisher import Kind, fisher_diagonal
from unlearn_bench.fisher.timing import WORKLOADS, Workload, clock, measure, peak_bytes, plain_pass

CPU = torch.device("cpu")
MIB = 2**20
# Few examples, since every class costs each of them a backward pass.
CLASSES = [
    ("mobilenetv3", 10, 16),
    ("mobilenetv3", 100, 16),
    ("mobilenetv3", 1000, 16),
    ("resnet18", 100, 16),
    ("resnet18", 1000, 16),
    ("vit_tiny", 100, 8),
]
LABELS = [1, 4, 16, 64]
DRAWS = 3


def with_classes(name: str, classes: int, batch: int) -> Workload:
    """A workload of ``classes`` classes and ``batch`` examples."""
    workload = WORKLOADS[name]
    options = {**workload.options, "num_classes": classes}
    return replace(workload, batch=batch, options=options)


def plain_seconds(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """CPU time of a plain pass."""
    return median(clock(lambda: plain_pass(model, x, y), CPU) for _ in range(5))


def errors(got: Mapping[str, Tensor], exact: Mapping[str, Tensor]) -> tuple[float, float]:
    """Relative error of a parameter's diagonal, median, and of all as one vector.

    Parameters whose gradient is zero by structure (key biases) are left out of the median.
    """
    exact = {name: t.double() for name, t in exact.items()}
    lengths = {name: float(t.norm()) for name, t in exact.items()}
    off = {name: float((got[name].double() - t).norm()) for name, t in exact.items()}
    floor = 1e-9 * max(lengths.values())
    total = sum(e**2 for e in off.values()) ** 0.5 / sum(e**2 for e in lengths.values()) ** 0.5
    return median(off[name] / t for name, t in lengths.items() if t > floor), total


def memory() -> Iterator[str]:
    """Peak resident memory over that of the plain pass."""
    yield from [
        "## Peak memory over the plain pass",
        "",
        "Resident memory of a process of its own after three passes, MiB.",
        "",
        "| workload | batch | classes | plain | empirical | true |",
        "|---|---|---|---|---|---|",
    ]
    cases = [(name, 10, WORKLOADS[name].batch) for name in WORKLOADS]
    cases += [("mobilenetv3", 1000, 16)]
    for name, classes, batch in cases:
        workload = WORKLOADS[name] if classes == 10 else with_classes(name, classes, batch)
        plain = peak_bytes(workload, "plain")
        more = [(peak_bytes(workload, kind) - plain) / MIB for kind in ("empirical", "true")]
        figures = " | ".join(f"{m:+.0f}" for m in more)
        yield f"| {name} | {batch} | {classes} | {plain / MIB:.0f} | {figures} |"


def classes() -> Iterator[str]:
    """Cost of the exact diagonal by the number of classes, and Monte Carlo's error."""
    rows: list[str] = []
    for name, count, batch in CLASSES:
        model, x, y = with_classes(name, count, batch).build()
        # Long runs need no median: one pair, after a warm-up.
        timing = measure(model, x, y, "true", rounds=1 if count > 100 else 5)
        figures = f"{timing.plain * 1e3:.0f} | {timing.fisher:.1f} | {timing.ratio:.1f}"
        rows.append(f"| {name} | {batch} | {count} | {figures} | {(2 * count - 1) / 3:.0f} |")
    yield from [
        "## Many classes",
        "",
        "The exact true Fisher in plain passes of the same batch, CPU time; `direct` is"
        " (1 + 2 (C - 1)) / 3, one forward and C - 1 backward passes for activations.",
        "",
        "| workload | batch | classes | plain, ms | true, s | true / plain | direct |",
        "|---|---|---|---|---|---|---|",
        *rows,
        "",
        f"`monte_carlo` beside it, mean over {DRAWS} seeds: relative error of a parameter's"
        " diagonal (median over parameters), of all parameters as one vector, and cost.",
        "",
        "| workload | batch | classes | labels | error, median | error, vector | / plain |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, count, batch in [("mobilenetv3", 100, 64), ("mobilenetv3", 1000, 16)]:
        model, x, y = with_classes(name, count, batch).build()
        exact = fisher_diagonal(model, [(x, y)], "true")
        base = plain_seconds(model, x, y)
        for labels in LABELS:
            found, seconds = [], []
            for seed in range(DRAWS):
                start = time.process_time()
                got = fisher_diagonal(model, [(x, y)], "monte_carlo", samples=labels, seed=seed)
                seconds.append(time.process_time() - start)
                found.append(errors(got, exact))
            each, whole = (sum(column) / DRAWS for column in zip(*found, strict=True))
            cost = median(seconds) / base
            yield (
                f"| {name} | {batch} | {count} | {labels} | {each:.1%} | {whole:.1%} | {cost:.1f} |"
            )


def types() -> Iterator[str]:
    """Error and time of the diagonal in narrower types than float64."""
    yield from [
        "## Types",
        "",
        "Relative error against the diagonal of the same model in float64, 16 examples: median"
        " over parameters, and of all parameters as one vector; time in plain float32 passes."
        " A half's error includes what rounding the parameters to it does; `autocast` leaves them"
        " in float32.",
        "",
        "| workload | kind | type | error, median | error, vector | time / plain float32 |",
        "|---|---|---|---|---|---|",
    ]
    kinds: tuple[Kind, ...] = ("empirical", "true")
    for name in ("resnet18", "mobilenetv3", "vit_tiny"):
        model, x, y = replace(WORKLOADS[name], batch=16).build()
        base = plain_seconds(model, x, y)
        for kind in kinds:
            exact = fisher_diagonal(model.double(), [(x.double(), y)], kind)
            for label in ("float32", "bfloat16", "float16", "autocast bfloat16"):
                dtype = torch.float32 if "autocast" in label else getattr(torch, label)
                # From float32 each time: the way back from a half is lossy.
                model, x, y = replace(WORKLOADS[name], batch=16).build()
                batch = x.to(dtype), y
                model.to(dtype)
                seconds = []
                for _ in range(2):
                    start = time.process_time()
                    with torch.autocast("cpu", torch.bfloat16, enabled="autocast" in label):
                        got = fisher_diagonal(model, [batch], kind)
                    seconds.append(time.process_time() - start)
                each, whole = errors(got, exact)
                cost = seconds[-1] / base
                yield f"| {name} | {kind} | {label} | {each:.1e} | {whole:.1e} | {cost:.1f} |"


SECTIONS = {"memory": memory, "classes": classes, "types": types}


def main(target: str, *chosen: str) -> None:
    torch.set_num_threads(1)
    lines = [
        "# Memory, many classes, types",
        "",
        f"Written by `python benchmarks/fisher_costs.py {' '.join([target, *chosen])}`: torch"
        f" {torch.__version__}, Python {platform.python_version()}, one thread of a CPU,"
        f" {time.strftime('%Y-%m-%d')}. Models have random parameters and batches as"
        " `unlearn_bench/fisher/timing.py` makes them.",
    ]
    for name in chosen or SECTIONS:
        lines.append("")
        for line in SECTIONS[name]():
            lines.append(line)
            # Sections take minutes: show what is done.
            print(line, flush=True)
    Path(target).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
