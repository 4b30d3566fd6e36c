"""Invented outputs of three models, for metrics that only need some numbers to work on."""

import pytest
import torch

from unlearn_bench.measure.outputs import (
    Evaluation,
    Observed,
    Outputs,
    Probed,
    Recovered,
    Relearned,
)

SIZES = {"forget": 60, "retain": 200, "test_forget": 120, "test_retain": 180}
CLASSES = ("a", "b", "c", "d")
FORGOTTEN = 2


def invented(seed: int, knows: float, fitted: float = 0.0) -> Observed:
    """A model that leans towards the true label, by ``knows`` for the class to forget.

    ``fitted`` is what it leans more on training examples.
    """
    generator = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(99)
    outputs = {}
    for split, size in SIZES.items():
        if "forget" in split:
            labels = torch.full((size,), FORGOTTEN)
        else:
            labels = torch.tensor([0, 1, 3])[torch.randint(3, (size,), generator=fixed)]
        logits = torch.randn(size, len(CLASSES), generator=generator).double()
        lean = knows if "forget" in split else 3.0
        lean += 0.0 if "test" in split else fitted
        logits[torch.arange(size), labels] += lean
        outputs[split] = Outputs(split, logits, labels)
    renewed = {split: outputs[split] for split in ("forget", "test_forget")}
    copies = {
        split: Outputs(split, part.logits.repeat(5, 1), part.labels.repeat(5))
        for split, part in renewed.items()
    }
    probed = Probed(
        Relearned(12, False),
        Relearned(30, False),
        recall=0.75,
        recall_of=120,
        renewed=renewed,
        copies=copies,
        recovered=Recovered(0.25, "blurred", 40),
        layers={"stem": 0.0, "block": 0.5, "head": 0.1},
        heads=("head",),
    )
    return Observed(outputs, probed)


@pytest.fixture
def evaluation():
    """``evaluation(...)`` gives U that half forgot, beside an overfitted O and a clean G."""

    def make(unlearned=None, original=None, retrained=None, **rest):
        generator = torch.Generator().manual_seed(4)
        shape = (SIZES["forget"], len(CLASSES))
        untrained = tuple(torch.randn(shape, generator=generator).double() for _ in range(2))
        return Evaluation(
            unlearned or invented(1, 0.0),
            original or invented(2, 3.0, fitted=2.0),
            retrained or invented(3, -3.0),
            CLASSES,
            untrained,
            forget_classes=(FORGOTTEN,),
            **rest,
        )

    return make
