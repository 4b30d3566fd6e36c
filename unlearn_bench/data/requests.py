"""Requests that come one after the other, or together: the index sets of each.

Each request is about the examples that are left: ``random:0.02`` is a share of those. What it
takes is gone for all that follow. No set of a later request holds it, validation examples and test
examples of classes, fine classes and groups that went included: nobody is there to retain them for.
"""

from dataclasses import replace
from typing import Any

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
    # Like what has gone: of the same class, fine class or group, in either part.
    train_gone = torch.zeros(len(train_labels), dtype=torch.bool)
    test_gone = torch.zeros(len(test_labels), dtype=torch.bool)
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
                before=Before(taken, turn, named, test_gone),
            )
            indices = _without(replace(indices, gone=gone), request, train_gone)
        except DataError as error:
            raise DataError(f"request {turn} of {forget.name}: {error}") from error
        found.append(indices)
        gone += (Gone(indices.forget, indices.test_forget, indices.forget_classes),)
        train, test = _alike(request, indices, train_labels, test_labels, attributes)
        train_gone, test_gone = train_gone | train, test_gone | test
    return tuple(found)


class InTurn:
    """:func:`in_turn` that remembers the last stream, which a suite asks for once per request."""

    def __init__(self) -> None:
        self._asked: tuple[Any, ...] = ()
        self._labels: Tensor | None = None
        self._found: tuple[Indices, ...] = ()

    def __call__(
        self, forget: Forget, train_labels: Tensor, *rest: Any, **common: Any
    ) -> tuple[Indices, ...]:
        """Return what :func:`in_turn` gives for the same arguments."""
        asked = (forget, common["validation"], common["seed"])
        # The labels as an object: they stand for their dataset.
        if self._labels is not train_labels or asked != self._asked:
            self._found = in_turn(forget, train_labels, *rest, **common)
            self._asked, self._labels = asked, train_labels
        return self._found


def _alike(
    request: Forget,
    indices: Indices,
    train_labels: Tensor,
    test_labels: Tensor,
    attributes: Attributes,
) -> tuple[Tensor, Tensor]:
    """Say which examples go with a request that is about a class, a fine class or a group.

    Returns:
        bool [N] over the training part and bool [M] over the test part; of requests for single
        examples or a share nobody goes with them.
    """
    if request.subclass is not None:
        train, test = attributes.subclass(request.subclass)
    elif request.group is not None:
        train, test = attributes.group(request.group.column, request.group.value)
    else:
        classes = torch.tensor(indices.forget_classes, dtype=torch.int64)
        return torch.isin(train_labels, classes), torch.isin(test_labels, classes)
    # A column may be missing in the test part.
    return train, test if len(test) else torch.zeros(len(test_labels), dtype=torch.bool)


def _without(indices: Indices, request: Forget, train_gone: Tensor) -> Indices:
    """Leave out of what was never trained on whatever is like that which has gone."""
    left = indices.validation[~train_gone[indices.validation]]
    if not len(left):
        raise DataError(
            f"{request.name}: every validation example is like what earlier requests took; ask "
            "for less, or set more aside (validation: in the suite)"
        )
    return replace(indices, validation=left)


def at_once(requests: tuple[Indices, ...], train_labels: Tensor) -> Indices:
    """Return the index sets of several requests, as :func:`in_turn` gives them, made together.

    Args:
        requests: The index sets of each.
        train_labels: Classes of the training part, [N].
    """
    first, last = requests[0], requests[-1]
    classes = {label for request in requests for label in request.forget_classes}
    forgotten = torch.cat([request.forget for request in requests]).sort().values
    # A part of a class may have gone before the rest of it did.
    whole = classes.issuperset(train_labels[forgotten].tolist())
    tested = torch.cat([request.test_forget for request in requests])
    return replace(
        last,
        forget=forgotten,
        validation=first.validation,  # all that is held out: nothing has gone
        test_forget=tested.unique(),
        # With examples of other classes among them it is no scenario of classes.
        forget_classes=tuple(sorted(classes)) if whole else (),
        gone=(),
    )
