"""Logits in the dataset's order, cut into splits."""

import torch
from torch import nn

from unlearn_bench.data import splits
from unlearn_bench.data.datasets import load
from unlearn_bench.measure import evaluate
from unlearn_bench.suite.forget import Forget

CPU = torch.device("cpu")


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(),
        nn.Flatten(),
        nn.Linear(144, 10),
    )


def test_logits_are_those_of_eval_mode_in_order():
    data, model = load("digits"), net()
    model.train()
    rows = evaluate.logits(model, data, data.test, CPU)
    assert model.training and model[1].num_batches_tracked == 0
    model.eval()
    for i in (0, 100, 358):
        x = (data.test.images.fetch(torch.tensor([i])).float() / 255 - data.mean[0]) / data.std[0]
        torch.testing.assert_close(rows[i], model(x)[0].double(), rtol=1e-4, atol=1e-5)
    assert rows.dtype == torch.float64 and rows.shape == (359, 10)


def test_batch_size_does_not_matter_beyond_rounding(monkeypatch):
    data, model = load("digits"), net().eval()
    whole = evaluate.logits(model, data, data.test, CPU)
    monkeypatch.setattr(evaluate, "BATCH_SIZE", 7)
    torch.testing.assert_close(
        evaluate.logits(model, data, data.test, CPU), whole, rtol=1e-4, atol=1e-5
    )


def test_splits_pair_logits_with_their_labels():
    data = load("digits")
    chosen = splits.make(
        Forget.model_validate("class:3"),
        data.train.labels,
        data.test.labels,
        data.classes,
        validation=0.1,
        seed=0,
    )
    # "Logits" that name the example: column 0 is its index.
    named = {"train": chosen.train, "test": torch.arange(len(data.test.labels))}
    parts = {part: indices.double()[:, None] for part, indices in named.items()}
    outputs = evaluate.split_outputs(parts, data, chosen)
    assert set(outputs) == set(evaluate.SPLITS)
    for name, part in outputs.items():
        labels = (data.test if name.startswith("test") else data.train).labels
        assert torch.equal(part.labels, labels[part.logits[:, 0].long()])
        assert torch.equal(part.logits[:, 0].long(), getattr(chosen, name))
    assert set(outputs["forget"].labels.tolist()) == {3}
    assert 3 not in outputs["retain"].labels.tolist()
