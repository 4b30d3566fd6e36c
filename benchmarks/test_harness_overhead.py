"""What the harness costs beside bare torch loops, its data path beside DataLoader, two workers.

    pytest benchmarks/test_harness_overhead.py -s     # four minutes on a quiet machine

Overhead: ``Runner`` trains an original, retrains and fine-tunes, as in every suite; the bare loops
take the same optimiser steps on batches of the same size, indexed by hand. What evaluation costs on
top is shown beside it: bare loops have none. Real MNIST where ``../shared/data`` has it, else
scikit-learn's digits.

Both sides are timed in turn, in one process with one thread, by CPU seconds, which other jobs of
the machine disturb little; ratios are medians over rounds, which begin with either side in turn.
Wall-clock seconds are shown too.
"""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torchvision.transforms import v2

from unlearn_bench.data.batches import iterate
from unlearn_bench.data.datasets import Dataset, load
from unlearn_bench.execution import capacity
from unlearn_bench.execution.backend import Setup
from unlearn_bench.execution.local import Workers
from unlearn_bench.execution.run import Runner
from unlearn_bench.execution.scheduler import execute
from unlearn_bench.measure import metrics
from unlearn_bench.store.store import Store
from unlearn_bench.suite.config import Plan, expand
from unlearn_bench.suite.spec import RunSpec, Suite

pytestmark = pytest.mark.timeout(1200)

DATA = Path(__file__).parents[2] / "shared" / "data"
MNIST = (DATA / "MNIST").is_dir()
ROUNDS = 2
MOST_OVERHEAD = 1.05
LEAST_SCALING = 1.7
EPOCHS = 30  # of the runs for two workers: starting them should not count for much


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def plan(seeds: int = 1, **changes: Any) -> Plan:
    data = {"datasets": "mnist", "validation": 0.9} if MNIST else {"datasets": "digits"}
    suite = data | {
        "name": "overhead",
        "models": {"name": "test_resnet", "stem": "standard"},
        "scenarios": "class:3",
        "methods": {"name": "finetune", "params": {"epochs": 1}},
        "seeds": seeds,
        "threads": 1,
        "recipe": {"epochs": 2, "batch_size": 64},
    }
    made = expand(Suite.model_validate(suite | changes), device="cpu")
    kept = tuple(spec for spec in made.runs if spec.method in ("retrain", "finetune"))
    return Plan(made.suite, kept)


class Watcher:
    """Nobody looks at a benchmark's progress."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_, **__: None


class TimedRunner(Runner):
    """A runner that knows how many CPU and wall seconds went into evaluation."""

    def __init__(self, home: Path) -> None:
        super().__init__(Store(home), torch.device("cpu"), data_root=DATA)
        self.evaluated = [0.0, 0.0]
        observe = self.judge.observe
        self.judge.observe = lambda *given: self.note(lambda: observe(*given))

    def note(self, call: Callable[[], Any]) -> Any:
        cpu, wall, found = seconds(call)
        self.evaluated[0] += cpu
        self.evaluated[1] += wall
        return found


def seconds(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """CPU and wall seconds of a call, and what it returned."""
    cpu, wall = time.process_time(), time.perf_counter()
    found = call()
    return time.process_time() - cpu, time.perf_counter() - wall, found


def bare(runner: Runner, retrain: RunSpec, finetune: RunSpec) -> None:
    """Take the suite's optimiser steps by plain loops: original, retraining, fine-tuning."""
    task = runner.task(retrain)
    data, indices = task.data, task.indices
    pixels, labels = data.train.images.data, data.train.labels
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (data.mean, data.std))

    def descend(
        model: nn.Module, chosen: torch.Tensor, epochs: int, batch: int, optimizer: Any
    ) -> None:
        model.train()
        for _ in range(epochs):
            for rows in chosen[torch.randperm(len(chosen))].split(batch):
                x = (pixels[rows].float() / 255 - mean) / std
                loss = cross_entropy(model(x), labels[rows])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()

    recipe = retrain.recipe
    for chosen in (indices.train, indices.retain):
        model = task.build(seed=0)
        adam = torch.optim.Adam(model.parameters(), recipe.lr, fused=True)
        descend(model, chosen, recipe.epochs, recipe.batch_size, adam)
    own = finetune.params
    sgd = torch.optim.SGD(model.parameters(), own["lr"], momentum=0.9, weight_decay=5e-4)
    descend(model, indices.retain, own["epochs"], own.get("batch_size") or 64, sgd)


def test_the_harness_costs_little_beside_bare_loops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retrain, finetune = plan().runs
    compute = metrics.compute
    found: dict[str, list[float]] = {"cpu": [], "wall": [], "evaluation": []}
    for number in range(ROUNDS):
        ours = TimedRunner(tmp_path / str(number))
        ours.dataset(retrain)  # reading the files is the same for both
        monkeypatch.setattr(metrics, "compute", lambda e, r=ours: r.note(lambda: compute(e)))

        def suite(r: TimedRunner = ours) -> None:
            for spec in (retrain, finetune):
                r.run(spec, lambda text: None)

        sides = {"suite": suite, "bare": lambda r=ours: bare(r, retrain, finetune)}
        spent = {name: seconds(sides[name]) for name in sorted(sides, reverse=bool(number % 2))}
        cpu, wall, _ = spent["suite"]
        bare_cpu, bare_wall, _ = spent["bare"]
        found["cpu"].append((cpu - ours.evaluated[0]) / bare_cpu)
        found["wall"].append((wall - ours.evaluated[1]) / bare_wall)
        found["evaluation"].append(ours.evaluated[0] / bare_cpu)
    cpu, wall, evaluation = (statistics.median(found[name]) for name in found)
    print(
        f"\n{retrain.dataset}: harness over bare loops {cpu:.3f} by CPU seconds (rounds "
        f"{', '.join(f'{ratio:.3f}' for ratio in found['cpu'])}), {wall:.3f} by the clock; bare "
        f"loops {bare_cpu:.1f} s; evaluation takes another {evaluation:.2f} of them"
    )
    assert cpu <= MOST_OVERHEAD


class Plain(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Images one by one, through torchvision's transforms, as most training scripts have them."""

    def __init__(self, data: Dataset) -> None:
        self.pixels, self.labels = data.train.images.data, data.train.labels
        self.transform = v2.Compose(
            [
                v2.RandomCrop(data.image_size, padding=4),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(data.mean, data.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.pixels[index]), int(self.labels[index])


def test_the_data_path_beats_a_data_loader() -> None:
    data = load("mnist", root=DATA) if MNIST else load("digits")
    count = min(6000, len(data.train.labels))
    some = torch.utils.data.Subset(Plain(data), range(count))
    loader = torch.utils.data.DataLoader(some, batch_size=128, shuffle=True)

    def ours() -> int:
        generator = torch.Generator().manual_seed(0)
        batches = iterate(
            data.train,
            torch.arange(count),
            batch_size=128,
            device=torch.device("cpu"),
            mean=data.mean,
            std=data.std,
            augment="crop",
            generator=generator,
        )
        return sum(len(x) for x, _ in batches)

    rates: list[tuple[float, float]] = []
    for _ in range(ROUNDS):
        mine, _, seen = seconds(ours)
        theirs, _, also = seconds(lambda: sum(len(x) for x, _ in loader))
        assert seen == also == count
        rates.append((count / mine, count / theirs))
    mine, theirs = (statistics.median(rate) for rate in zip(*rates, strict=True))
    print(f"\nimages per CPU second, with crops: ours {mine:,.0f}, DataLoader {theirs:,.0f}")
    assert mine > 2 * theirs


def test_two_workers_do_nearly_twice_as_much_as_one(tmp_path: Path) -> None:
    if capacity.usable_cores() < 2:
        pytest.skip("two workers need two cores")
    # Equal runs that do not wait for each other: retrainings of so many seeds.
    given = plan(
        seeds=6, datasets="digits", validation=0.1, recipe={"epochs": EPOCHS, "batch_size": 64}
    )
    given = Plan(given.suite, tuple(s for s in given.runs if s.method == "retrain"))
    took: dict[int, float] = {}
    load = psutil.getloadavg()[0]
    for count in (1, 2):
        home = tmp_path / f"home {count}"
        team = Workers(count, Setup(home, "cpu", data_root=DATA))
        driver = Runner(Store(home), torch.device("cpu"), data_root=DATA)
        _, took[count], results = seconds(
            lambda d=driver, w=team, c=count: execute(
                given,
                d,
                tmp_path / f"out {c}",
                Watcher(),
                command="benchmark",
                workers=w,
            )
        )
        assert {result.status for result in results} == {"ok"}
    gain = took[1] / took[2]
    print(
        f"\n6 equal runs: one worker {took[1]:.1f} s, two {took[2]:.1f} s, {gain:.2f}x "
        f"(load of the machine before: {load:.1f} on {os.cpu_count()} cores)"
    )
    assert gain >= LEAST_SCALING or load > 0.5, "on a machine that does nothing else"
