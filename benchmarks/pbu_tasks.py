"""Run PBU under several settings on the tasks of reports/pbu, and print one table row per run.

    python benchmarks/pbu_tasks.py mnist-small lenet-mnist --data data --seeds 3
    python benchmarks/pbu_tasks.py digits --set step=adam --set gamma=15 --set step=trust

Each ``--set NAME=VALUE[,NAME=VALUE...]`` is one setting; without any, the defaults run. Originals
are trained once by the harness's loop and kept below ``$UNLEARN_BENCH_HOME``. The cost is the CPU
time of the method over that of retraining, which is the original's times the share of R.
"""

import argparse
import copy
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from unlearn_bench.core.seeds import derive
from unlearn_bench.data import splits
from unlearn_bench.data.datasets import Dataset, load
from unlearn_bench.execution.task import Task, Unlearning
from unlearn_bench.measure import evaluate
from unlearn_bench.measure.probes import batch_norm
from unlearn_bench.plugins import registry
from unlearn_bench.store.layout import default_home
from unlearn_bench.store.store import Store
from unlearn_bench.suite.forget import Forget
from unlearn_bench.suite.recipe import Recipe
from unlearn_bench.suite.spec import ModelSpec

CPU = torch.device("cpu")
RENEWING = 512  # images of R that the harness's probe estimates BatchNorm's statistics on
COLUMNS = (
    "task | class | seed | setting | TF/TR original | forget (F) | TF | TR | points lost | "
    "bn_recovery (F) | steps | forward/backward per example of F | cost, % of retraining | ended"
)


@dataclass(frozen=True)
class Entry:
    """One original and the classes it has to forget; ``validation`` is the share held out."""

    dataset: str
    model: ModelSpec
    classes: tuple[int, ...]
    recipe: Recipe
    validation: float = 0.1


def _recipe(**rest: Any) -> Recipe:
    return Recipe(augment="none", **rest)


# As torchvision's ResNet-18, which the paper starts from.
_RESNET18 = ModelSpec(name="resnet18", stem="standard", args={"zero_init_last": False})
_LENET = ModelSpec(name="lenet")
_TEST_RESNET = ModelSpec(name="test_resnet", stem="standard")
_VIT = ModelSpec(name="test_vit")
_CIFAR = _recipe(epochs=8, batch_size=128, lr=2e-3)
_MNIST = _recipe(epochs=2, batch_size=96, lr=1e-3)
TASKS = {
    "digits": Entry(
        "digits", _TEST_RESNET, (8,), _recipe(epochs=10, batch_size=64, lr=4e-3, warmup=0.2)
    ),
    "digits-vit": Entry(
        "digits", _VIT, (8,), _recipe(epochs=40, batch_size=64, lr=2e-3, warmup=0.2)
    ),
    "mnist-small": Entry(
        "mnist", _TEST_RESNET, (3,), _recipe(epochs=8, batch_size=64, lr=3e-3), 0.95
    ),
    "lenet-mnist-10k": Entry("mnist", _LENET, (8,), _recipe(epochs=4, batch_size=96), 5 / 6),
    "lenet-cifar10-10k": Entry("cifar10", _LENET, (3,), _CIFAR, 0.8),
    "lenet-mnist": Entry("mnist", _LENET, (8,), _MNIST),
    "lenet-cifar10": Entry("cifar10", _LENET, (3,), _CIFAR),
    "resnet18-mnist-3k": Entry(
        "mnist", _RESNET18, (2, 6, 8), _recipe(epochs=3, batch_size=96, lr=1e-3), 0.95
    ),
    "resnet18-mnist-12k": Entry("mnist", _RESNET18, (2, 6, 8), _MNIST, 0.8),
    "resnet18-mnist": Entry(
        "mnist", _RESNET18, (2, 6, 8), _recipe(epochs=1, batch_size=96, lr=1e-3)
    ),
}


@dataclass(frozen=True)
class Subject:
    """A trained original and what it has to forget.

    Attributes:
        seconds: CPU seconds that its training took.
    """

    task: Task
    original: nn.Module
    seconds: float

    def right(self, model: nn.Module, split: str, limit: int | None = None) -> float:
        """Return the accuracy in % on the first examples of one of the four splits."""
        data = self.task.data
        part = data.test if split.startswith("test") else data.train
        chosen: Tensor = getattr(self.task.indices, split)[:limit]
        rows = evaluate.logits(model, data, part, CPU, chosen)
        return 100 * float((rows.argmax(1) == part.labels[chosen]).double().mean())

    def recovery(self, model: nn.Module) -> float:
        """Return the accuracy in % on F once BatchNorm's statistics are those of images of R."""
        if not batch_norm.has_running_statistics(model):
            return math.nan
        retain = self.task.indices.retain
        generator = torch.Generator().manual_seed(derive(self.task.seed, "renewing"))
        chosen = retain[torch.randperm(len(retain), generator=generator)[:RENEWING]]
        renewed = batch_norm.reestimated(model, self.task.data, chosen, CPU)
        return self.right(renewed, "forget", 1000)


def subjects(entry: Entry, data: Dataset, seed: int, store: Store) -> Iterator[Subject]:
    """Yield the original under a seed, trained if need be, with each class to forget."""

    def task_of(label: int) -> Task:
        forget = Forget(classes=(label,))
        indices = splits.make(
            forget,
            data.train.labels,
            data.test.labels,
            data.classes,
            validation=entry.validation,
            seed=seed,
        )
        return Task(data, indices, entry.model, entry.recipe, forget.name, seed, CPU)

    def build() -> tuple[dict[str, Tensor], dict[str, Any]]:
        task = task_of(entry.classes[0])
        model = task.new_original()
        start = time.process_time()
        task.train_original(model)
        return model.state_dict(), {"seconds": time.process_time() - start}

    identity = {
        "dataset": entry.dataset,
        "model": entry.model.model_dump(mode="json"),
        "recipe": entry.recipe.model_dump(mode="json"),
        "validation": entry.validation,
        "seed": seed,
        "for": "pbu_tasks",
    }
    kept = store.get_or_build("original", identity, build)
    for label in entry.classes:
        task = task_of(label)
        yield Subject(task, task.load(kept.tensors), float(kept.notes["seconds"]))


def measure(
    subject: Subject, method: str, params: dict[str, Any], tested: int | None
) -> dict[str, Any]:
    """Unlearn a copy of the original and return the figures; TR is cut to ``tested`` examples."""
    registered = registry.get(method)
    unlearning = Unlearning(subject.task, registered)
    model = copy.deepcopy(subject.original)
    unlearning.run(model, registered.resolve(params))
    passes, log = unlearning.costs.passes.examples, unlearning.context.log_entries
    indices = subject.task.indices
    retrain = subject.seconds * len(indices.retain) / len(indices.train)
    before = subject.right(subject.original, "test_retain", tested)
    after = subject.right(model, "test_retain", tested)
    return {
        "original": (subject.right(subject.original, "test_forget"), before),
        "forget": subject.right(model, "forget", 1000),
        "test_forget": subject.right(model, "test_forget"),
        "test_retain": after,
        "lost": before - after,
        "recovery": subject.recovery(model),
        "steps": len(log),
        "forward": passes["forward"] / len(indices.forget),
        "backward": passes["backward"] / len(indices.forget),
        "cost": 100 * unlearning.costs.clock.phases["unlearn"].cpu / retrain,
        "last": {name: float(value) for name, value in (log[-1] if log else {}).items()},
    }


def row(task: str, label: int, seed: int | str, setting: str, found: dict[str, Any]) -> str:
    """Return one line of the table."""
    recovery = "" if math.isnan(found["recovery"]) else f"{found['recovery']:.1f}"
    last = " ".join(f"{name}={value:.3g}" for name, value in found.get("last", {}).items())
    cells = [
        task,
        label,
        seed,
        setting or "default",
        "{:.1f}/{:.1f}".format(*found["original"]),
        f"{found['forget']:.1f}",
        f"{found['test_forget']:.1f}",
        f"{found['test_retain']:.1f}",
        f"{found['lost']:.1f}",
        recovery,
        f"{found['steps']:.0f}",
        f"{found['forward']:.1f}/{found['backward']:.1f}",
        f"{found['cost']:.1f}",
        last,
    ]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def mean(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean over seeds, figure by figure."""
    numbers = {
        name: statistics.fmean(r[name] for r in rows)
        for name in rows[0]
        if name not in ("original", "last")
    }
    original = tuple(statistics.fmean(r["original"][i] for r in rows) for i in (0, 1))
    return numbers | {"original": original}


def main(say: Callable[[str], None]) -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tasks", nargs="+", choices=TASKS, metavar="TASK", help=", ".join(TASKS))
    parser.add_argument("--method", default="pbu")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE[,...]")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--class", dest="label", type=int, help="only this of the task's classes")
    parser.add_argument("--tested", type=int, help="look at so many examples of TR; else all")
    parser.add_argument("--data", type=Path, help="folder of the datasets")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    store = Store(default_home())
    say("| " + COLUMNS + " |")
    say("|" + "---|" * len(COLUMNS.split("|")))
    for name in asked.tasks:
        entry = TASKS[name]
        data = load(entry.dataset, root=asked.data)
        found: dict[tuple[int, str], list[dict[str, Any]]] = {}
        for seed in range(asked.seeds):
            for subject in subjects(entry, data, seed, store):
                label = subject.task.indices.forget_classes[0]
                if asked.label not in (None, label):
                    continue
                for setting in asked.set or [""]:
                    pairs = [pair.split("=", 1) for pair in setting.split(",") if pair]
                    params = {key: yaml.safe_load(value) for key, value in pairs}
                    result = measure(subject, asked.method, params, asked.tested)
                    found.setdefault((label, setting), []).append(result)
                    say(row(name, label, seed, setting.replace(",", " "), result))
        if asked.seeds > 1:
            for (label, setting), rows in found.items():
                say(row(name, label, "mean", setting.replace(",", " "), mean(rows)))


if __name__ == "__main__":
    main(lambda line: print(line, flush=True))  # noqa: T201
