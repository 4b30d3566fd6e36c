"""How fast the training loop is: beside a plain PyTorch loop, and what that gains by other means.

    pytest benchmarks/test_training_speed.py -s      # five minutes on a quiet machine
    pytest benchmarks/test_training_speed.py -s -k "resnet and not compile"

One thread, CPU seconds of a step with Adam, as a ratio to the plain loop's. Sides take turns within
a round, so that all suffer alike from other jobs of the machine; the ratio is the median over
rounds. ``compile`` counts steps after the first, which compiles, and says how long that took.
Only our loop is held to a bound. Beside each ratio stands the largest difference of a logit from
the plain layers' own, in units of the largest logit.
"""

import copy
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from unlearn_bench.core import small_maps
from unlearn_bench.data.datasets import Dataset, Part, TensorImages, load
from unlearn_bench.fisher.timing import randomised
from unlearn_bench.suite.recipe import Recipe
from unlearn_bench.suite.spec import ModelSpec
from unlearn_bench.toolkit.context import Split
from unlearn_bench.training.loop import train
from unlearn_bench.training.models import build

pytestmark = pytest.mark.timeout(1800)

CPU = torch.device("cpu")
ROUNDS = 5
MOST_OVER_PLAIN = 1.15
CLASSES = 10
# Name, stem, image size, channels, batch size, steps of a round.
NETS = {
    "resnet18": ("auto", 32, 3, 16, 2),
    "test_resnet": ("standard", 8, 1, 64, 20),
    "lenet": ("auto", 28, 1, 64, 20),
    "vit_tiny_patch16_224": ("auto", 32, 3, 16, 2),
}
WAYS = ("our loop", "channels-last", "small maps multiplied", "compile")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def world(name: str) -> tuple[nn.Module, Dataset, Recipe]:
    """Return a model, random images for the steps of one round, and the recipe."""
    stem, size, channels, batch, steps = NETS[name]
    generator = torch.Generator().manual_seed(0)
    shape = (batch * steps, channels, size, size)
    pixels = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    part = Part(TensorImages(pixels), torch.arange(len(pixels)) % CLASSES)
    half = (0.5,) * channels
    data = replace(load("digits"), train=part, mean=half, std=half)
    spec = ModelSpec(name=name, stem=stem)
    model = build(spec, channels=channels, image_size=(size, size), num_classes=CLASSES, seed=0)
    return randomised(model), data, Recipe(epochs=1, batch_size=batch, lr=1e-4, augment="none")


def plain(
    model: nn.Module,
    data: Dataset,
    recipe: Recipe,
    forward: Callable[[Tensor], Tensor] | None = None,
    layout: torch.memory_format = torch.contiguous_format,
) -> None:
    """Take one epoch's steps as most scripts do."""
    pixels, labels = data.train.images.data, data.train.labels
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (data.mean, data.std))
    adam = torch.optim.Adam(model.parameters(), recipe.lr, fused=True)
    model.train()
    for rows in torch.randperm(len(labels)).split(recipe.batch_size):
        x = ((pixels[rows].float() / 255 - mean) / std).contiguous(memory_format=layout)
        loss = cross_entropy((forward or model)(x), labels[rows])
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()


def ours(model: nn.Module, data: Dataset, recipe: Recipe) -> None:
    """Take them as the suite does."""
    chosen = torch.arange(len(data.train.labels))
    split = Split("train", data, chosen, recipe, device=CPU, seed=0, ledger=Counter())
    train(model, split, recipe, seed=0, step=lambda text: None)


def side(way: str, model: nn.Module, data: Dataset, recipe: Recipe) -> tuple[nn.Module, Callable]:
    """Return a copy of the model as it is trained that way, and what takes the steps."""
    own = copy.deepcopy(model)
    if way == "our loop":
        return own, lambda: ours(own, data, recipe)
    if way == "channels-last":
        own = own.to(memory_format=torch.channels_last)
        return own, lambda: plain(own, data, recipe, layout=torch.channels_last)
    if way == "small maps multiplied":
        return small_maps.multiply(own), lambda: plain(own, data, recipe)
    if way == "compile":
        compiled = torch.compile(own)
        return compiled, lambda: plain(own, data, recipe, compiled)
    return own, lambda: plain(own, data, recipe)


def seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NETS)
def test_a_step_beside_the_plain_loop(name: str, way: str) -> None:
    if way == "compile" and shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler on a CPU")
    model, data, recipe = world(name)
    (_, base), (other, step) = (side(w, model, data, recipe) for w in ("plain", way))
    _, size, channels, batch, _ = NETS[name]
    x = torch.randn(batch, channels, size, size)
    with torch.no_grad():
        expected = model.eval()(x)
        error = float((other.eval()(x) - expected).abs().max() / expected.abs().max())
    base()
    first = seconds(step)
    ratios = []
    for number in range(ROUNDS):
        spent = {}
        turns = [("plain", base), (way, step)]
        for which, call in turns[:: -1 if number % 2 else 1]:
            spent[which] = seconds(call)
        ratios.append(spent[way] / spent["plain"])
    ratio = statistics.median(ratios)
    print(
        f"\n{name}, {size} px, {way}: {ratio:.2f} of the plain loop's CPU seconds (rounds "
        f"{', '.join(f'{each:.2f}' for each in ratios)}); logits differ by {error:.0e}"
        + (f"; compiled in {first:.0f} s" if way == "compile" else "")
    )
    if way == "our loop":
        assert ratio <= MOST_OVER_PLAIN
