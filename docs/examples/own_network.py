# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Notebook: your own network and data
#
# You have an `nn.Module` and a `Dataset`, and you want to know whether a method makes the network
# forget. This page is a notebook; `jupytext --to notebook docs/examples/own_network.py` makes an
# `.ipynb` of it.
#
# ## Data and network
#
# Any dataset of (image, label) pairs will do. Here it is scikit-learn's digits, and we want the
# network to forget the eights.

# %%
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

import unlearn_bench as ub

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
labels = torch.tensor(digits.target)
train, test = random_split(
    TensorDataset(images, labels), [0.8, 0.2], torch.Generator().manual_seed(0)
)
x, y = train[:]
forget, retain = TensorDataset(x[y == 8], y[y == 8]), TensorDataset(x[y != 8], y[y != 8])


# %%
class MyNet(nn.Module):
    """Two convolutions and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.head = nn.Linear(32 * 16, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [N, 10] of images [N, 1, 8, 8]."""
        return self.head(self.features(images))


def fit(data: TensorDataset, epochs: int = 8) -> nn.Module:
    """Train a new network."""
    torch.manual_seed(0)
    model = MyNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(epochs):
        for inputs, targets in DataLoader(data, batch_size=64, shuffle=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
    return model.eval()


# %% [markdown]
# ## Train, retrain, unlearn
#
# The yardstick is the same network trained without the eights. `ub.unlearn` works on a copy:
# `original` stays as it is.

# %%
original = fit(TensorDataset(x, y))
retrained = fit(retain)
unlearned = {
    method: ub.unlearn(original, method, forget=forget, retain=retain)
    for method in ("pbu", "finetune")
}
unlearned["pbu"]

# %% [markdown]
# ## Evaluate
#
# `ub.evaluate` computes the metrics of the command line's report. Read every number beside that of
# retraining.

# %%
scores = {
    method: ub.evaluate(
        unlearned=result,
        original=original,
        retrained=retrained,
        forget=forget,
        retain=retain,
        test=test,
    )
    for method, result in unlearned.items()
}
scores["pbu"]


# %% [markdown]
# ## Plot
#
# Accuracy by class, on the test images.


# %%
def accuracy_by_class(model: nn.Module) -> list[float]:
    """Return the accuracy on the test images of each class, in per cent."""
    inputs, targets = test[:]
    with torch.no_grad():
        right = model(inputs).argmax(1) == targets
    return [100 * right[targets == label].float().mean().item() for label in range(10)]


models = {"original": original, "retrained": retrained}
models |= {method: result.model for method, result in unlearned.items()}
figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
for number, (name, model) in enumerate(models.items()):
    positions = [label + 0.2 * number for label in range(10)]
    axes.bar(positions, accuracy_by_class(model), width=0.2, label=name)
axes.set_xticks([label + 0.3 for label in range(10)], range(10))
axes.set(xlabel="Digit", ylabel="Test accuracy, %")
axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1))
figure.savefig("own_network.png", dpi=150)
