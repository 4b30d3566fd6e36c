"""Where the forget class went, and what its neighbours paid for it.

A mean over retained classes hides that one of them is lost. Drops are paired with retraining:
``drop(c) = acc(G; c) - acc(U; c)`` on the test examples of class c.
"""

import torch

from unlearn_bench.measure.metrics import measures
from unlearn_bench.measure.outputs import Evaluation, Outputs
from unlearn_bench.results.records import Record

NEAR = 2


def class_accuracies(outputs: Outputs) -> dict[int, float]:
    """Return the accuracy of every class that has examples, by its index."""
    correct = outputs.correct()
    return {
        int(label): float(correct[outputs.labels == label].double().mean())
        for label in outputs.labels.unique()
    }


def class_drops(evaluation: Evaluation) -> dict[int, float]:
    """Return acc(G) - acc(U) on TR of every retained class, in [-1, 1]."""
    u = class_accuracies(evaluation.unlearned["test_retain"])
    g = class_accuracies(evaluation.reference["test_retain"])
    return {label: g[label] - u[label] for label in u if label not in evaluation.forget_classes}


def near_classes(evaluation: Evaluation) -> list[int]:
    """Return the retained classes that the original confuses most with the forget classes.

    By its mean probability on TF; that tells neighbours apart where no test example is
    misclassified. Classes that an earlier request of a stream took are not retained.
    """
    mass = evaluation.original["test_forget"].logits.softmax(1).mean(0)
    retained = set(evaluation.unlearned["test_retain"].labels.tolist())
    retained -= set(evaluation.forget_classes)
    order = torch.sort(mass, descending=True, stable=True).indices.tolist()
    return [label for label in order if label in retained][:NEAR]


@measures("worst_class_drop", "near_class_drop", "class_drop", needs_retrained=True)
def damage(evaluation: Evaluation) -> list[Record]:
    """Return the drop of the worst, of the nearest and of every retained class."""
    drops = class_drops(evaluation)
    records = [Record("worst_class_drop", "test_retain", max(drops.values()))]
    if evaluation.forget_classes:
        near = max(drops[label] for label in near_classes(evaluation))
        records.append(Record("near_class_drop", "test_retain", near))
    else:
        records.append(
            Record(
                "near_class_drop",
                "test_retain",
                None,
                status="not_applicable",
                reason="no class is forgotten",
            )
        )
    names = evaluation.classes
    return records + [Record("class_drop", names[label], drop) for label, drop in drops.items()]


@measures("forget_predicted_as")
def destinations(evaluation: Evaluation) -> list[Record]:
    """Return where the predictions on F go, one record per class."""
    predicted = evaluation.unlearned["forget"].logits.argmax(1)
    shares = predicted.bincount(minlength=len(evaluation.classes)).double() / len(predicted)
    return [
        Record("forget_predicted_as", name, share)
        for name, share in zip(evaluation.classes, shares.tolist(), strict=True)
    ]
