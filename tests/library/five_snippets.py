"""What a notebook does with the library, in five cells; run and type-checked by test_library.py."""

# ruff: noqa: T201 - a notebook shows what it has

from pathlib import Path

from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import unlearn_bench as ub

Examples = Dataset[tuple[Tensor, ...]]


def unlearn(model: nn.Module, forget_set: Examples, retain_set: Examples) -> ub.Unlearned:
    """Any method, her model, her data. Nothing is written to disk."""
    result = ub.unlearn(model, "pbu", forget=forget_set, num_classes=10)
    result = ub.unlearn(
        model,
        "salun",
        forget=forget_set,
        retain=retain_set,
        params={"epochs": 3},
        seed=0,
        device="auto",
    )
    seconds: float = result.cost.seconds
    print(result.model, seconds, result.log)  # a copy: `model` is untouched
    return result


def judge(
    result: ub.Unlearned,
    model: nn.Module,
    reference: nn.Module,
    forget_set: Examples,
    retain_set: Examples,
    test_set: Examples,
) -> ub.Scores:
    """Any two or three models, from any source."""
    scores = ub.evaluate(
        unlearned=result.model,
        original=model,
        retrained=reference,
        forget=forget_set,
        retain=retain_set,
        test=test_set,
        relearn_steps=4,  # the usual 500 take a minute
    )
    area: float = scores["mia_loss_auc"]
    print(scores.to_frame(), scores.verdict, area)
    return scores


def run_suite(suite: str) -> ub.Run:
    """Run a suite and get data frames."""
    run = ub.run(suite, methods=["finetune"], seeds=1, out=None)  # None: a temporary folder
    print(run.records, run.verdicts, run.report())
    return run


def read(folder: Path, other: ub.Run) -> list[str]:
    """Read what is there."""
    run = ub.load(folder)
    return [*ub.compare(run, other).worse]


def parts(model: nn.Module, forget_set: Examples) -> set[str]:
    """Parts of it alone."""
    found = ub.fisher_diagonal(model, DataLoader(forget_set, 64), kind="true")
    print(ub.methods(), ub.metrics())
    return set(found)
