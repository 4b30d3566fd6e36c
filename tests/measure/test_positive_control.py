"""On real images, where a small net overfits, the membership attacks do find members."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from unlearn_bench.data import changes, splits
from unlearn_bench.data.datasets import Dataset, load
from unlearn_bench.data.splits import Indices
from unlearn_bench.measure import evaluate
from unlearn_bench.measure.metrics.mia import loss_attack
from unlearn_bench.measure.metrics.mia_fitted import fitted_attacks
from unlearn_bench.measure.metrics.targeted import confusion
from unlearn_bench.measure.outputs import Evaluation, Observed
from unlearn_bench.suite.forget import Forget
from unlearn_bench.suite.recipe import Recipe
from unlearn_bench.suite.spec import ModelSpec
from unlearn_bench.toolkit.context import Split
from unlearn_bench.training import models
from unlearn_bench.training.loop import train

DATA = Path(__file__).parents[2].parent / "shared" / "data"
CPU = torch.device("cpu")
RECIPE = Recipe(epochs=25, batch_size=64, lr=2e-3, augment="none")


def first_of_cifar10(place: Path, train: int, test: int) -> Dataset:
    """Load the first images of CIFAR-10: to decode all of them would take most of the time."""
    folder = place / "cifar10"
    folder.mkdir()
    for part, count in (("train", train), ("test", test)):
        (whole,) = (DATA / "cifar10").glob(f"{part}-*.parquet")
        rows = next(parquet.ParquetFile(whole).iter_batches(count))
        parquet.write_table(pa.Table.from_batches([rows]), folder / whole.name)
    return load("cifar10", root=place)


def observed(data: Dataset, indices: Indices, chosen: torch.Tensor, seed: int) -> Observed:
    """Train a small net on the chosen examples and look at it."""
    model = models.build(
        ModelSpec(name="lenet"),
        channels=data.channels,
        image_size=data.image_size,
        num_classes=10,
        seed=seed,
    )
    split = Split("train", data, chosen, RECIPE, device=CPU, seed=seed, ledger=Counter())
    train(model, split, RECIPE, seed=seed, step=lambda text: None)
    parts = {
        "train": evaluate.logits(model, data, data.train, CPU, indices.train),
        "test": evaluate.logits(model, data, data.test, CPU),
    }
    return Observed(evaluate.split_outputs(parts, data, indices))


@pytest.mark.thorough
@pytest.mark.skipif(not (DATA / "cifar10").exists(), reason="real CIFAR-10 not in ../shared/data")
def test_attacks_tell_an_overfitted_original_from_retraining(tmp_path):
    torch.set_num_threads(1)
    data = first_of_cifar10(tmp_path, 900, 900)
    assert len(data.train.labels) == len(data.test.labels) == 900
    indices = splits.make(
        Forget.model_validate("random:0.3"),
        data.train.labels,
        data.test.labels,
        data.classes,
        validation=0.1,
        seed=0,
    )

    original = observed(data, indices, indices.train, 0)
    retrained = observed(data, indices, indices.retain, 1)
    assert original["forget"].accuracy() > original["test_forget"].accuracy() + 0.25
    for attacks in (loss_attack, fitted_attacks):
        o, g = (
            {r.metric: r for r in attacks(Evaluation(seen, original, retrained, data.classes))}
            for seen in (original, retrained)
        )
        for name in (metric for metric in o if metric.endswith("_auc")):
            assert o[name].low > 0.5 and g[name].low < 0.5 < g[name].high, name
            # What knows the label has most power: its interval lies clear of retraining's.
            if name in ("mia_loss_auc", "mia_features_auc"):
                assert o[name].low > g[name].high + 0.03, name


@pytest.mark.heavy
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not (DATA / "MNIST").exists(), reason="real MNIST not in ../shared/data")
def test_confusion_has_power_on_mnist_where_loss_attacks_have_none():
    torch.set_num_threads(1)
    mnist = load("mnist", root=DATA)

    def gaps(text: str, *measures) -> list[float]:
        """Return what each measures of the original beyond retraining."""
        forget = Forget.model_validate(text)
        indices = splits.make(
            forget,
            mnist.train.labels,
            mnist.test.labels,
            mnist.classes,
            validation=0.95,  # of 60,000 training images 3,000 remain
            seed=0,
        )
        data, indices = changes.apply(forget, mnist, indices)
        original = observed(data, indices, indices.train, 0)
        retrained = observed(data, indices, indices.retain, 1)
        evaluations = [
            Evaluation(seen, original, retrained, data.classes) for seen in (original, retrained)
        ]
        pairs = [[measure(asked)[0].value for asked in evaluations] for measure in measures]
        return [o - g for o, g in pairs]

    [of_random] = gaps("random:0.1", loss_attack)
    confused, of_confused = gaps("confused:3,5:0.3", confusion, loss_attack)
    assert abs(of_random) < 0.04
    assert confused > 0.04 and of_confused > 0.15
