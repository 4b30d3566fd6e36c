"""Weights of the user's own: read, fitted to the model, and found to know these data."""

import torch
from torch import Tensor, nn

from unlearn_bench.core.errors import ModelError
from unlearn_bench.data.datasets import Dataset
from unlearn_bench.execution.task import Task
from unlearn_bench.measure import evaluate
from unlearn_bench.store.store import Built
from unlearn_bench.suite.spec import RunSpec
from unlearn_bench.training.models import load_weights


def given_original(spec: RunSpec, task: Task) -> Built:
    """Return the user's original weights, with the test accuracy among the notes.

    Raises:
        ModelError: If they classify little more than chance.
    """
    assert spec.original is not None
    model = task.build(seed=0)
    load_weights(model, spec.original.path)
    if spec.surrogate is not None:  # the test part stays unread while tuning
        return model.state_dict(), {}
    right = check_classifies(model.to(task.device), task.data, task.device)
    return model.state_dict(), {"test_accuracy": right}


def given_unlearned(spec: RunSpec, task: Task) -> dict[str, Tensor] | None:
    """Return the user's unlearned weights, which fit the model, if the run is about such."""
    if spec.unlearned is None:
        return None
    model = task.build(seed=0)
    load_weights(model, spec.unlearned.path)
    return model.state_dict()


def check_classifies(model: nn.Module, data: Dataset, device: torch.device) -> float:
    """Return the test accuracy of given weights; refuse such as classify other data.

    Raises:
        ModelError: If it is little more than chance.
    """
    logits = evaluate.logits(model, data, data.test, device)
    right = float((logits.argmax(1) == data.test.labels).double().mean())
    # Twice chance is asked of many classes; of two or three it would be near perfection.
    chance = 1 / data.num_classes
    if right < min(2 * chance, chance + (1 - chance) / 10):
        raise ModelError(
            f"the weights classify {right:.1%} of the {data.name} test images, little more than "
            "chance; they may expect other data, another class order, or inputs not normalised "
            f"as {data.normalization}: see --mean, --std, --image-size"
        )
    return right
