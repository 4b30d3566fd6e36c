"""Surrogate forget sets: others of the same kind and size, drawn from what a scenario retains.

A method is tuned on them, so that nothing of the true forget set F decides how it is set. F is
among the examples that are retained here, as any other examples are that nobody asks to forget:
the surrogate's retraining learns from all data but F'.
"""

import torch
from torch import Tensor

from unlearn_bench.core.errors import DataError
from unlearn_bench.core.seeds import derive
from unlearn_bench.data.attributes import NO_ATTRIBUTES, Attributes
from unlearn_bench.data.splits import Division, Indices, divide
from unlearn_bench.suite.forget import Forget

_NOTHING = torch.empty(0, dtype=torch.int64)


def make(
    forget: Forget,
    number: int,
    of: int,
    train_labels: Tensor,
    classes: tuple[str, ...],
    *,
    validation: float,
    seed: int,
    numbers: Tensor | None = None,
    attributes: Attributes = NO_ATTRIBUTES,
) -> Indices:
    """Divide a dataset for one surrogate of a scenario; no test part is needed.

    For whole classes F' is as many other classes, those nearest in size, and likewise for a fine
    class; for a random share it is another random share; for other examples it is as many others
    of the same classes, as far as there are. Several surrogates are disjoint as far as there are
    enough examples.

    Args:
        forget: Who is forgotten in truth.
        number: Which surrogate, from 0.
        of: How many there are.
        train_labels: Classes of the training part, [N].
        classes: Class names by index.
        validation: Share of the training part set aside as V.
        seed: One of tuning.
        numbers: By which ``forget.indices`` name the training examples, ascending, [N].
        attributes: Of the examples, where the scenario is about one.

    Returns:
        F' as ``forget``, all other training examples as ``retain``, F as ``hidden``; the index
        sets of the test part are empty.

    Raises:
        DataError: If the scenario does not exist, or leaves no room for a surrogate.
    """
    _refuse(forget)
    true = divide(
        forget,
        train_labels,
        classes,
        validation=validation,
        seed=seed,
        numbers=numbers,
        attributes=attributes,
    )
    generator = torch.Generator().manual_seed(derive(seed, "surrogates"))
    members, chosen = _stand_in(forget, true, train_labels, attributes, number, of, generator)
    everyone = torch.cat([true.forget, true.retain])
    return Indices(
        forget=members.sort().values,
        retain=everyone[~torch.isin(everyone, members)].sort().values,
        validation=true.validation,
        test_forget=_NOTHING,
        test_retain=_NOTHING,
        forget_classes=chosen,
        hidden=true.forget,
        hidden_classes=true.forget_classes,
    )


def _refuse(forget: Forget) -> None:
    """Refuse a scenario that has no others of its kind and size."""
    if len(forget.requests) > 1:
        raise DataError(
            f"{forget.name}: settings are tuned for one request; tune on "
            f"{forget.requests[0].name}, for one"
        )
    if forget.changes_data or forget.memorised is not None:
        why = "changes the training data" if forget.changes_data else "asks models whom to forget"
        raise DataError(
            f"{forget.name}: there are no surrogates of a scenario that {why}; tune on another, "
            "such as random:0.1, and give its settings by --params"
        )


def _stand_in(
    forget: Forget,
    true: Division,
    labels: Tensor,
    attributes: Attributes,
    number: int,
    of: int,
    generator: torch.Generator,
) -> tuple[Tensor, tuple[int, ...]]:
    """Return the surrogate's examples, and the classes that they are the whole of."""
    if true.forget_classes:
        wanted = len(true.forget_classes)
        chosen = _classes(forget, true, labels, wanted, number, of, generator)
        return _of_classes(true.retain, labels, chosen), chosen
    if forget.subclass is not None:
        fine = attributes.codes(attributes.finer)
        others = _classes(forget, true, fine, 1, number, of, generator)
        return _of_classes(true.retain, fine, others), ()
    return _examples(forget, true, labels, number, of, generator), ()


def _of_classes(members: Tensor, labels: Tensor, classes: tuple[int, ...]) -> Tensor:
    return members[torch.isin(labels[members], torch.tensor(classes))]


def _classes(
    forget: Forget,
    true: Division,
    labels: Tensor,
    wanted: int,
    number: int,
    of: int,
    generator: torch.Generator,
) -> tuple[int, ...]:
    """Choose as many classes as are forgotten, those nearest to them in size."""
    sizes = labels[true.retain].bincount(minlength=1)
    there = sizes.nonzero().squeeze(1)
    # One class is left to retain beside the surrogate's, apart from those forgotten in truth.
    if len(there) <= wanted:
        raise DataError(
            f"{forget.name}: no retained class is left to serve as surrogate: it forgets {wanted} "
            f"of {wanted + len(there)} classes; tune on a scenario that forgets fewer"
        )
    if of > len(there):
        raise DataError(
            f"{forget.name}: {of} surrogates cannot be made of {len(there)} retained classes; take "
            f"--surrogates {len(there)} or less"
        )
    mean = len(true.forget) / wanted
    there = there[torch.randperm(len(there), generator=generator)]
    order = there[(sizes[there] - mean).abs().sort(stable=True).indices].tolist()
    disjoint = of * wanted <= len(order)
    start = number * (wanted if disjoint else 1)
    return tuple(sorted(order[(start + i) % len(order)] for i in range(wanted)))


def _examples(
    forget: Forget,
    true: Division,
    labels: Tensor,
    number: int,
    of: int,
    generator: torch.Generator,
) -> Tensor:
    """Draw as many retained examples as are forgotten; of the same classes where F was named."""
    wanted, pool = len(true.forget), true.retain
    if wanted >= len(pool):
        raise DataError(
            f"{forget.name}: no retained examples are left to serve as surrogate: it forgets "
            f"{wanted} of {wanted + len(pool)}; tune on a scenario that forgets fewer than half"
        )
    disjoint = of * wanted <= len(pool)
    if not disjoint:
        generator.manual_seed(derive(generator.initial_seed(), number))
    order = pool[torch.randperm(len(pool), generator=generator)]
    start = number * wanted if disjoint else 0
    if forget.fraction is not None:
        return order[start : start + wanted]
    # Each surrogate takes its turn in every class, and fills up with whatever examples are left.
    taken = []
    for label, count in enumerate(labels[true.forget].bincount().tolist()):
        members = order[labels[order] == label]
        first = number * count if of * count <= len(members) else 0
        taken.append(members[first : first + count])
    chosen = torch.cat(taken)
    rest = order[~torch.isin(order, chosen)]
    return torch.cat([chosen, rest[: wanted - len(chosen)]])
