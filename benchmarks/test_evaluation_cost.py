"""What judging one model costs: CPU seconds by metric and probe, beside one epoch of training.

    pytest benchmarks/test_evaluation_cost.py -s     # half a minute on a quiet machine

On scikit-learn's digits with the demo's network, one thread. Judged is a second retraining, which
relearns as late as a model that has forgotten; what is seen of the original and of the first one
is there already, as in all runs of a suite but the first. In each round the model is judged next
to a training, so that both suffer alike from other jobs of the machine; the bound is on the
smallest ratio.
"""

import time
from pathlib import Path

import pytest
import torch

from unlearn_bench.execution.run import Runner
from unlearn_bench.store.store import Store
from unlearn_bench.suite.config import expand
from unlearn_bench.suite.spec import Suite

pytestmark = pytest.mark.timeout(600)

ROUNDS = 2
# Epochs of training that judging one model may take: half more than it takes on a quiet machine.
MOST_EPOCHS = 7.5
SHOWN = 0.01  # of the seconds


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def runs():
    suite = {
        "name": "evaluation-cost",
        "datasets": "digits",
        "models": {"name": "test_resnet", "stem": "standard"},
        "scenarios": "class:8",
        "methods": {"name": "finetune", "params": {"epochs": 1}},
        "seeds": 1,
        "threads": 1,
        "recipe": {"epochs": 5, "batch_size": 64, "lr": 4e-3, "warmup": 0.2},
    }
    made = expand(Suite.model_validate(suite), device="cpu").runs
    return {spec.method: spec for spec in made}


def quiet(text):
    """Take no notice of progress."""


def epoch(task):
    """CPU seconds of one epoch of training the original."""
    model = task.new_original()
    start = time.process_time()
    task.train_original(model, quiet)
    return (time.process_time() - start) / task.recipe.epochs


def test_judging_a_model_takes_a_few_epochs(tmp_path: Path):
    specs = runs()
    made = Runner(Store(tmp_path / "models"), torch.device("cpu"))
    spec = specs["retrain_other_seed"]
    task = made.task(spec)
    trio = made.models.of(spec, task, quiet)
    found = []
    for number in range(ROUNDS):
        judge = Runner(Store(tmp_path / str(number)), torch.device("cpu")).judge
        for known in (trio.original, trio.retrained):
            judge.lab(spec, task).observe(known, trio.original)
        one = epoch(task)
        start = time.process_time()
        seconds = judge.judge(spec, task, trio)["metric_seconds"]
        whole = time.process_time() - start
        found.append((whole / one, one, whole, seconds))
    ratio, one, whole, seconds = min(found, key=lambda round: round[0])
    print(f"\none epoch of training takes {one:.3f} CPU s; judging one model {whole:.3f}:")
    for name, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        if spent > SHOWN * whole:
            print(f"  {spent:6.3f} s  {spent / one:5.2f} epochs  {name}")
    print(
        f"  {whole:6.3f} s  {ratio:5.2f} epochs  together (rounds "
        f"{', '.join(f'{each[0]:.2f}' for each in found)})"
    )
    assert ratio <= MOST_EPOCHS
