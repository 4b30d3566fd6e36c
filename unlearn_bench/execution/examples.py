"""Pictures of what scenarios changed in the training data, for the report."""

from typing import Any

import torch

from unlearn_bench.data.images import resize
from unlearn_bench.execution.run import Runner
from unlearn_bench.results.examples import SHOWN, SIDE, Example
from unlearn_bench.suite.config import Plan
from unlearn_bench.suite.spec import RunSpec


def changed_examples(plan: Plan, runner: Runner) -> list[dict[str, Any]]:
    """Return examples of F, as JSON values, of every scenario that changes data.

    They are of the first seed: other seeds change others.
    """
    firsts: dict[tuple[str, str], RunSpec] = {}
    for spec in plan.runs:
        if spec.forget.changes_data and spec.surrogate is None:
            firsts.setdefault((spec.dataset, spec.scenario), spec)
    return [
        {
            "dataset": dataset,
            "scenario": scenario,
            "examples": [example.stored() for example in _examples(runner, spec)],
        }
        for (dataset, scenario), spec in firsts.items()
    ]


def _examples(runner: Runner, spec: RunSpec) -> list[Example]:
    task, data = runner.task(spec), runner.dataset(spec)
    forget = task.indices.forget
    # Evenly spaced: datasets are often stored class by class.
    chosen = forget[torch.linspace(0, len(forget) - 1, min(SHOWN, len(forget))).long()]
    images = task.data.train.images.fetch(chosen).cpu()
    size = images.shape[2:]
    scale = min(1.0, SIDE / max(size))
    small = (max(1, round(scale * size[0])), max(1, round(scale * size[1])))
    before, after = (part.labels[chosen].tolist() for part in (data.train, task.data.train))
    examples = []
    for image, old, new in zip(images, before, after, strict=True):
        pixels = resize(image, small).contiguous()
        channels, height, width = pixels.shape
        names = data.classes[old], data.classes[new]
        examples.append(Example(*names, (channels, height, width), pixels.numpy().tobytes()))
    return examples
