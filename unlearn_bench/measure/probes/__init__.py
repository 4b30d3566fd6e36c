"""Probes: what only the model itself can tell, not its outputs.

A probe takes a copy, changes that as it likes, and leaves the model as it was; a hash before
and after proves it. What a probe draws comes from a seed that O, U and G share. Results are
plain numbers and logits, kept in the store per weights like everything else.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unlearn_bench.core.seeds import derive
from unlearn_bench.data.splits import Indices

# Raise when a probe changes: what is stored is then measured again.
VERSION = 6


def fingerprint(model: nn.Module) -> str:
    """Return a hash of all that a probe could leave behind: weights, buffers, modes, flags."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    for name, module in model.named_modules():
        digest.update(f"{name} {type(module).__name__} {module.training}".encode())
    for name, parameter in model.named_parameters():
        digest.update(f"{name} {parameter.requires_grad}".encode())
    return digest.hexdigest()


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Make sure that the block leaves the model as it was.

    Raises:
        RuntimeError: If it does not.
    """
    before = fingerprint(model)
    yield
    if fingerprint(model) != before:
        raise RuntimeError("a probe changed the model that other metrics read; work on a copy")


@dataclass(frozen=True)
class Examples:
    """Which examples the probes look at, the same for every model of a scenario and seed.

    Attributes:
        fit: Half of F and as many of every retained class, at most :data:`PER_CLASS` of each;
            into the training part.
        tested: TF, into the test part.
        relearned: F and as many of R, into the training part.
        balanced: F and as many of every retained class, for a head that knows no class yet.
        watched: Of TF, what the stop rule of relearning looks at.
        others: Of TR, examples of retained classes that must not be taken for forgotten ones.
        estimated: Of R, what normalisation statistics are estimated on.
        forget: Of F, what accuracy after that and the label-only attack are measured on.
    """

    fit: Tensor
    tested: Tensor
    relearned: Tensor
    balanced: Tensor
    watched: Tensor
    others: Tensor
    estimated: Tensor
    forget: Tensor


PER_CLASS = 500
WATCHED = 256
ESTIMATED = 512
MEASURED = 1000


def choose(indices: Indices, labels: Tensor, seed: int) -> Examples:
    """Draw the probes' examples.

    Args:
        indices: The scenario's index sets.
        labels: Classes of the training part, [N].
        seed: Determines the draws.
    """

    def draw(members: Tensor, count: int, purpose: str) -> Tensor:
        generator = torch.Generator().manual_seed(derive(seed, "probe", purpose))
        return members[torch.randperm(len(members), generator=generator)[:count]].sort().values

    half = draw(indices.forget, max(1, len(indices.forget) // 2), "half")
    kinds = labels[half].unique()
    share = min(PER_CLASS, max(1, len(half) // len(kinds)))
    fit = [draw(half[labels[half] == label], share, f"fit {label}") for label in kinds.tolist()]
    retained = labels[indices.retain]
    others = {
        label: indices.retain[retained == label]
        for label in retained.unique().tolist()
        if label not in kinds
    }
    fit += [draw(members, share, f"retain {label}") for label, members in others.items()]
    most = int(labels[indices.forget].bincount().max())
    evenly = [draw(members, most, f"balanced {label}") for label, members in others.items()]
    relearned = torch.cat([indices.forget, draw(indices.retain, len(indices.forget), "relearned")])
    return Examples(
        fit=torch.cat(fit).sort().values,
        tested=draw(indices.test_forget, MEASURED, "tested"),
        relearned=relearned,
        # Forgotten at random, F has every class in its proportion already.
        balanced=torch.cat([indices.forget, *evenly]) if evenly else relearned,
        watched=draw(indices.test_forget, WATCHED, "watched"),
        others=draw(indices.test_retain, WATCHED, "others"),
        estimated=draw(indices.retain, ESTIMATED, "estimated"),
        forget=draw(indices.forget, MEASURED, "forget"),
    )


def has_features(model: nn.Module) -> bool:
    """Whether the model speaks timm's interface for features and heads."""
    return all(
        hasattr(model, name) for name in ("forward_features", "forward_head", "reset_classifier")
    )
