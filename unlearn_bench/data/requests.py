"""Requests that come one after the other, or together: the index sets of each.

Each request is about the examples that are left: ``random:0.02`` is a share of those. What it
takes is gone for all that follow. No set of a later request holds it, validation examples and test
examples of classes that went whole included: nobody is there to retain them for.
"""

from dataclasses import replace

import torch
from torch import Tensor

from unlearn_bench.core.errors import DataError
from unlearn_bench.data import splits
from unlearn_bench.data.attributes import NO_ATTRIBUTES, Attributes
from unlearn_bench.data.before import Before, Gone
from unlearn_bench.data.named import named_places
from unlearn_bench.data.splits import Indices
from unlearn_bench.suite.forget import Forget


def in_turn(
    forget: Forget,
    train_labels: Tensor,
    test_labels: Tensor,
    classes: tuple[str, ...],
    *,
    validation: float,
    seed: int,
    numbers: Tensor | None = None,
    attributes: Attributes = NO_ATTRIBUTES,
) -> tuple[Indices, ...]:
    """Divide a dataset once for each of several requests.

    Args:
        forget: A stream or a union.
        train_labels: As of :func:`~unlearn_bench.data.splits.make`, like all that follow.
        test_labels: Classes of the test part, [M].
        classes: Class names by index.
        validation: Share of the training part set aside as V.
        seed: Determines V and random forget sets.
        numbers: By which requests name training examples by index.
        attributes: Of the examples, where a request is about one.

    Returns:
        The index sets of every request, each with what has gone before it.

    Raises:
        DataError: If a request names what does not exist, or what an earlier one has taken.
    """
    found: list[Indices] = []
    gone: tuple[Gone, ...] = ()
    named = named_places(forget, len(train_labels), numbers, attributes)
    for turn, request in enumerate(forget.requests, 1):
        taken = torch.cat([torch.empty(0, dtype=torch.int64), *(g.forget for g in gone)])
        try:
            indices = splits.make(
                request,
                train_labels,
                test_labels,
                classes,
                validation=validation,
                seed=seed,
                numbers=numbers,
                attributes=attributes,
                before=Before(taken, turn, named),
            )
        except DataError as error:
            raise DataError(f"request {turn} of {forget.name}: {error}") from error
        indices = _without_classes(replace(indices, gone=gone), train_labels, test_labels)
        found.append(indices)
        gone += (Gone(indices.forget, indices.test_forget, indices.forget_classes),)
    return tuple(found)


def _without_classes(indices: Indices, train_labels: Tensor, test_labels: Tensor) -> Indices:
    """Leave out examples of classes that went whole from what was never trained on."""
    gone = [label for earlier in indices.gone for label in earlier.forget_classes]
    if not gone:
        return indices
    v, tr = indices.validation, indices.test_retain
    labels = torch.tensor(gone)
    return replace(
        indices,
        validation=v[~torch.isin(train_labels[v], labels)],
        test_retain=tr[~torch.isin(test_labels[tr], labels)],
    )


def at_once(requests: tuple[Indices, ...]) -> Indices:
    """Return the index sets of several requests, as :func:`in_turn` gives them, made together."""
    first, last = requests[0], requests[-1]
    whole = all(request.forget_classes for request in requests)
    classes = {label for request in requests for label in request.forget_classes}
    tested = torch.cat([request.test_forget for request in requests])
    return replace(
        last,
        forget=torch.cat([request.forget for request in requests]).sort().values,
        validation=first.validation,  # all that is held out: nothing has gone
        test_forget=tested.unique(),
        # With examples of other classes among them it is no scenario of classes.
        forget_classes=tuple(sorted(classes)) if whole else (),
        gone=(),
    )
