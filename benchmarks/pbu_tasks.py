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
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from unlearn_bench.core.seeds import derive, seed_everything
from unlearn_bench.data import splits
from unlearn_bench.data.datasets import Dataset, load
from unlearn_bench.measure import evaluate
from unlearn_bench.measure.clock import Clock, Passes
from unlearn_bench.measure.probes import batch_norm
from unlearn_bench.plugins import registry
from unlearn_bench.store.layout import default_home
from unlearn_bench.store.store import Store
from unlearn_bench.suite.spec import Forget, ModelSpec, Recipe
from unlearn_bench.toolkit.attacks import Pixels
from unlearn_bench.toolkit.context import Context, Split
from unlearn_bench.training import models
from unlearn_bench.training.loop import train

CPU = torch.device("cpu")
RENEWING = 512  # images of R that the harness's probe estimates BatchNorm's statistics on
COLUMNS = (
    "task | class | seed | setting | TF/TR original | forget (F) | TF | TR | points lost | "
    "bn_recovery (F) | steps | forward/backward per example of F | cost, % of retraining | ended"
)


@dataclass(frozen=True)
class Task:
    """One original and the class it has to forget; ``validation`` is the share held out."""

    dataset: str
    model: ModelSpec
    classes: tuple[int, ...]
    recipe: Recipe
    validation: float = 0.1


def _model(name: str, **rest: Any) -> ModelSpec:
    return ModelSpec(name=name, **rest)


# As torchvision's ResNet-18, which the paper starts from.
_RESNET18 = _model("resnet18", stem="standard", args={"zero_init_last": False})
_LENET = _model("lenet")
_SMALL = Recipe(epochs=10, batch_size=64, lr=4e-3, warmup=0.2)
_VIT = Recipe(epochs=40, batch_size=64, lr=2e-3, warmup=0.2)
_CIFAR = Recipe(epochs=8, batch_size=128, lr=2e-3, augment="none")
_MNIST = Recipe(epochs=2, batch_size=96, lr=1e-3)
TASKS = {
    "digits": Task("digits", _model("test_resnet", stem="standard"), (8,), _SMALL),
    "digits-vit": Task("digits", _model("test_vit"), (8,), _VIT),
    "mnist-small": Task(
        "mnist", _model("test_resnet"), (3,), Recipe(epochs=8, batch_size=64, lr=3e-3), 0.95
    ),
    "lenet-mnist-10k": Task("mnist", _LENET, (8,), Recipe(epochs=4, batch_size=96), 5 / 6),
    "lenet-cifar10-10k": Task("cifar10", _LENET, (3,), _CIFAR, 0.8),
    "lenet-mnist": Task("mnist", _LENET, (8,), _MNIST),
    "lenet-cifar10": Task("cifar10", _LENET, (3,), _CIFAR),
    "resnet18-mnist-3k": Task(
        "mnist", _RESNET18, (2, 6, 8), Recipe(epochs=3, batch_size=96, lr=1e-3), 0.95
    ),
    "resnet18-mnist-12k": Task("mnist", _RESNET18, (2, 6, 8), _MNIST, 0.8),
    "resnet18-mnist": Task("mnist", _RESNET18, (2, 6, 8), _MNIST),
}


@dataclass
class Subject:
    """A trained original with its data, for one class and seed.

    Attributes:
        seconds: CPU seconds that its training took.
        ledger: Examples that the last method touched, by split.
    """

    task: Task
    data: Dataset
    indices: splits.Indices
    original: nn.Module
    seconds: float
    seed: int
    ledger: Counter[str] = field(default_factory=Counter)

    def split(self, name: str, indices: Tensor) -> Split:
        """Return examples of the training part as a method gets them."""
        return _split(self.task, self.data, name, indices, self.seed, self.ledger)

    def context(self, method: str, clock: Clock) -> Context:
        """Return what the method may read."""
        found = registry.get(method)
        readable = {
            name: self.split(name, getattr(self.indices, name))
            for name in ("forget", "retain", "validation")
            if getattr(found.access, name)
        }
        return Context(
            method,
            found.access,
            readable,
            device=CPU,
            seed=derive(self.seed, method),
            num_classes=self.data.num_classes,
            forget_classes=self.indices.forget_classes,
            build=lambda seed, _pretrained: _build(self.task, self.data, seed),
            trainer=lambda model, split, only: train(
                model, split, self.task.recipe, seed=self.seed, step=lambda _: None, only=only
            ),
            clock=clock,
            pixels=Pixels(
                *(torch.tensor(v).view(-1, 1, 1) for v in (self.data.mean, self.data.std))
            ),
        )

    def right(self, model: nn.Module, split: str, limit: int | None = None) -> float:
        """Return the accuracy in % on the first examples of one of the four splits."""
        part = self.data.test if split.startswith("test") else self.data.train
        chosen: Tensor = getattr(self.indices, split)[:limit]
        rows = evaluate.logits(model, self.data, part, CPU, chosen)
        return 100 * float((rows.argmax(1) == part.labels[chosen]).double().mean())

    def recovery(self, model: nn.Module) -> float:
        """Return the accuracy in % on F once BatchNorm's statistics are those of images of R."""
        if not batch_norm.has_running_statistics(model):
            return math.nan
        generator = torch.Generator().manual_seed(derive(self.seed, "renewing"))
        order = torch.randperm(len(self.indices.retain), generator=generator)[:RENEWING]
        renewed = batch_norm.reestimated(model, self.data, self.indices.retain[order], CPU)
        return self.right(renewed, "forget", 1000)


def _build(task: Task, data: Dataset, seed: int) -> nn.Module:
    return models.build(
        task.model,
        channels=data.channels,
        image_size=data.image_size,
        num_classes=data.num_classes,
        seed=seed,
    )


def _split(
    task: Task, data: Dataset, name: str, indices: Tensor, seed: int, ledger: Counter[str]
) -> Split:
    return Split(
        name,
        data.train,
        indices,
        mean=data.mean,
        std=data.std,
        device=CPU,
        batch_size=task.recipe.batch_size,
        augment="none" if task.recipe.augment == "auto" else task.recipe.augment,
        seed=derive(seed, name),
        ledger=ledger,
    )


def subjects(task: Task, data: Dataset, seed: int, store: Store) -> Iterator[Subject]:
    """Yield the task's original under a seed, trained if need be, with each class to forget."""

    def indices_of(label: int) -> splits.Indices:
        return splits.make(
            Forget(classes=(label,)),
            data.train.labels,
            data.test.labels,
            data.classes,
            validation=task.validation,
            seed=seed,
        )

    def build() -> tuple[dict[str, Tensor], dict[str, Any]]:
        model = _build(task, data, derive(seed, "original"))
        everyone = _split(task, data, "train", indices_of(task.classes[0]).train, seed, Counter())
        start = time.process_time()
        train(model, everyone, task.recipe, seed=seed, step=lambda _: None)
        return model.state_dict(), {"seconds": time.process_time() - start}

    identity = {
        "dataset": task.dataset,
        "model": task.model.model_dump(mode="json"),
        "recipe": task.recipe.model_dump(mode="json"),
        "validation": task.validation,
        "seed": seed,
        "for": "pbu_tasks",
    }
    kept = store.get_or_build("original", identity, build)
    for label in task.classes:
        original = _build(task, data, 0)
        original.load_state_dict(kept.tensors)
        seconds = float(kept.notes["seconds"])
        yield Subject(task, data, indices_of(label), original.eval(), seconds, seed)


def measure(
    subject: Subject, method: str, params: dict[str, Any], tested: int | None
) -> dict[str, Any]:
    """Unlearn a copy of the original and return the figures; TR is cut to ``tested`` examples."""
    clock = Clock(CPU)
    context = subject.context(method, clock)
    model = copy.deepcopy(subject.original)
    passes = Passes()
    passes.watch(model)
    seed_everything(derive(subject.seed, "method"))
    start = time.process_time()
    model = registry.get(method).function(model, context, **registry.get(method).resolve(params))
    spent = time.process_time() - start
    passes.stop()
    size = len(subject.indices.forget)
    retrain = subject.seconds * len(subject.indices.retain) / len(subject.indices.train)
    before = subject.right(subject.original, "test_retain", tested)
    after = subject.right(model, "test_retain", tested)
    last = context.log_entries[-1] if context.log_entries else {}
    return {
        "original": (subject.right(subject.original, "test_forget"), before),
        "forget": subject.right(model, "forget", 1000),
        "test_forget": subject.right(model, "test_forget"),
        "test_retain": after,
        "lost": before - after,
        "recovery": subject.recovery(model),
        "steps": len(context.log_entries),
        "forward": passes.examples["forward"] / size,
        "backward": passes.examples["backward"] / size,
        "cost": 100 * spent / retrain,
        "last": {name: float(value) for name, value in last.items()},
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
        task = TASKS[name]
        data = load(task.dataset, root=asked.data)
        found: dict[tuple[int, str], list[dict[str, Any]]] = {}
        for seed in range(asked.seeds):
            for subject in subjects(task, data, seed, store):
                label = subject.indices.forget_classes[0]
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
