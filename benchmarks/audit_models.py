"""Make the models that reports/audit is about: a LeNet, and what two methods made of it.

``python benchmarks/audit_models.py DATA OUT`` trains on the 50,000 images of CIFAR-10 and lets
methods forget 500 of these images, and class 8 (ship).
"""

import sys
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import Subset, TensorDataset

import unlearn_bench as ub
from unlearn_bench.data.datasets import load
from unlearn_bench.training import small_nets  # noqa: F401  (registers LeNet with timm)

HERE = Path(__file__).parents[1] / "reports" / "audit"
EPOCHS, BATCH, RATE = 20, 128, 2e-3  # as in recipe.yaml


def trained(inputs: torch.Tensor, labels: torch.Tensor) -> nn.Module:
    """Return a LeNet that knows its training images well."""
    torch.manual_seed(0)
    model = timm.create_model("lenet", in_chans=3, num_classes=10, img_size=32)
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(labels)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[batch]), labels[batch]).backward()
            optimizer.step()
    return model.eval()


def main(root: Path, out: Path) -> None:
    """Train, unlearn, and save the weights before and after."""
    data = load("cifar10", root=root)
    x, y = data.train.images.fetch(torch.arange(len(data.train.labels))), data.train.labels
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))
    model = trained((x / 255 - mean) / std, y)
    out.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), out / "before.safetensors")
    named = [int(line) for line in (HERE / "random" / "forget.txt").read_text().split()]
    some = torch.zeros(len(y), dtype=torch.bool)
    some[named] = True
    whole, constants = TensorDataset(x, y), {"mean": data.mean, "std": data.std}
    for name, method, forgotten in (("random", "finetune", some), ("class", "pbu", y == 8)):
        forget, retain = (
            Subset(whole, which.nonzero().squeeze(1).tolist()) for which in (forgotten, ~forgotten)
        )
        result = ub.unlearn(model, method, forget=forget, retain=retain, **constants)
        save_file(result.model.state_dict(), out / f"{name}.safetensors")
        print(name, result)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
