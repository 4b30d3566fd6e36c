"""One forward pass per part: eval mode, test transform, order kept, float64 logits.

Metrics never touch a model. They are pure functions of what is computed here once.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from unlearn_bench.core.errors import MethodError
from unlearn_bench.core.memory import halving
from unlearn_bench.data.batches import iterate
from unlearn_bench.data.datasets import Dataset, Part
from unlearn_bench.data.splits import Indices
from unlearn_bench.measure.outputs import Outputs

BATCH_SIZE = 512
SPLITS = ("forget", "retain", "test_forget", "test_retain")


@torch.no_grad()
def logits(
    model: nn.Module,
    dataset: Dataset,
    part: Part,
    device: torch.device,
    indices: Tensor | None = None,
    batch_size: int = BATCH_SIZE,
) -> Tensor:
    """Return the model's logits on examples of ``part``, float64 [N, C] on the CPU.

    Batches that memory does not hold are halved, which changes no number's meaning.

    Args:
        model: On ``device``; put in eval mode for the pass.
        dataset: For its normalisation.
        part: Training or test part of it.
        device: Where the forward passes run.
        indices: Which examples, in this order; all of them by default.
        batch_size: Examples of one forward pass.

    Raises:
        MethodError: If a logit is NaN.
    """
    was_training = model.training
    model.eval()
    chosen = torch.arange(len(part.labels)) if indices is None else indices

    def rows_in(batch_size: int) -> Tensor:
        batches: Iterator[tuple[Tensor, Tensor]] = iterate(
            part,
            chosen,
            batch_size=batch_size,
            device=device,
            mean=dataset.mean,
            std=dataset.std,
        )
        # float64: differences of logits decide metrics, and log-sum-exp should not add to them.
        return torch.cat([model(x).double().cpu() for x, _ in batches])

    rows = halving("evaluate", batch_size, rows_in)
    model.train(was_training)
    if rows.isnan().any():
        raise MethodError("the model's output is NaN on some examples")
    return rows


def split_outputs(
    parts: Mapping[str, Tensor], dataset: Dataset, indices: Indices
) -> dict[str, Outputs]:
    """Cut the logits of the training and test parts into the splits of one scenario.

    Args:
        parts: Logits on ``train``, the examples of ``indices.train`` in that order, and on
            ``test``, the whole test part; with thirds also on ``unseen``.
        dataset: Where the labels come from.
        indices: The scenario's index sets.
    """
    trained = indices.train
    outputs = {}
    for split in SPLITS:
        chosen = getattr(indices, split)
        if split.startswith("test"):
            rows, labels = parts["test"][chosen], dataset.test.labels
        else:
            rows = parts["train"][torch.searchsorted(trained, chosen)]
            labels = dataset.train.labels
        outputs[split] = Outputs(split, rows, labels[chosen])
    if "unseen" in parts:
        outputs["unseen"] = Outputs("unseen", parts["unseen"], dataset.train.labels[indices.unseen])
    return outputs
