"""How far a model moves when its training is computed in another way, beside another seed.

    python benchmarks/training_rounding.py [WAY ...]    # a minute, most of it for compiling

Trains the demo's network on scikit-learn's digits by the demo's recipe, without augmentation, in
each way and prints a row: accuracy on the test part, the share of test images that get the same
class as from fp32, the mean differences of logits and probabilities, and CPU seconds, one thread.
"""

import sys
import time
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from unlearn_bench.data.datasets import load
from unlearn_bench.measure import evaluate
from unlearn_bench.suite.recipe import Recipe
from unlearn_bench.suite.spec import ModelSpec
from unlearn_bench.toolkit.context import Split
from unlearn_bench.training.loop import train
from unlearn_bench.training.models import build

CPU = torch.device("cpu")
RECIPE = {"epochs": 10, "batch_size": 64, "lr": 4e-3, "warmup": 0.2, "augment": "none"}
WAYS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "another seed": {"seed": 1},
    "small_maps: multiply": {"small_maps": "multiply"},
    "memory_format: channels_last": {"memory_format": "channels_last"},
    "precision: bf16": {"precision": "bf16"},
    "compile: true": {"compile": True},
}


def trained(seed: int = 0, small_maps: Any = "convolve", **how: Any) -> tuple[Tensor, float]:
    """Return the logits on the test part after training, and the CPU seconds of it."""
    data, recipe = load("digits"), Recipe.model_validate(RECIPE | how)
    spec = ModelSpec(name="test_resnet", stem="standard", small_maps=small_maps)
    model = build(spec, channels=1, image_size=(8, 8), num_classes=10, seed=seed)
    chosen = torch.arange(len(data.train.labels))
    split = Split("train", data, chosen, recipe, device=CPU, seed=seed, ledger=Counter())
    start = time.process_time()
    train(model, split, recipe, seed=seed, step=lambda text: None)
    return evaluate.logits(model, data, data.test, CPU), time.process_time() - start


def main(asked: list[str]) -> None:
    """Print a row for each way."""
    torch.set_num_threads(1)
    labels = load("digits").test.labels
    base, _ = trained()
    print(f"logits have a standard deviation of {base.std():.2f}")
    print("| training | accuracy | same class | logits | probabilities | CPU s |")
    print("|---|---|---|---|---|---|")
    for name in asked or WAYS:
        logits, seconds = trained(**WAYS[name])
        answers = logits.argmax(1)
        apart = (logits - base).abs().mean()
        also = (logits.softmax(1) - base.softmax(1)).abs().mean()
        print(
            f"| {name} | {(answers == labels).double().mean():.1%} "
            f"| {(answers == base.argmax(1)).double().mean():.1%} "
            f"| {apart:.2f} | {also:.4f} | {seconds:.1f} |"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
