"""Who is forgotten: from a scenario to disjoint index sets, the same for the same seed.

Of the dataset's training part, a validation share V is set aside first (stop rules and tuning
only). The rest is the original's training set; the scenario divides it into the forget set F
and the retain set R. The test part gives TF and TR: for class scenarios the test examples of
the forget and of the retain classes, and likewise for a fine class or a group; for sample
scenarios TF is matched to F class by class, and TR is the whole test part, for every class is
retained.

With thirds, a fixed set of targets is the same under all seeds. Each target is kept, never seen or
forgotten under one of every three seeds, so that K seeds give K / 3 models of each kind for it.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unlearn_bench.core.errors import DataError, suggestion
from unlearn_bench.data.attributes import NO_ATTRIBUTES, Attributes
from unlearn_bench.data.before import Before, Gone
from unlearn_bench.data.draws import class_matched, draw_share, generator_of, hold_out
from unlearn_bench.data.named import named_places
from unlearn_bench.suite.forget import Forget, Memorised


@dataclass(frozen=True)
class Indices:
    """Index sets of one scenario and seed, each sorted.

    Attributes:
        forget: F, into the training part.
        retain: R, into the training part.
        validation: V, into the training part.
        test_forget: TF, into the test part.
        test_retain: TR, into the test part.
        forget_classes: Classes that are forgotten whole; empty for sample scenarios.
        hidden: Where F is a surrogate, who is forgotten in truth, into the training part: they
            are retained here, and nothing is measured on them.
        hidden_classes: Classes that are forgotten whole in truth.
        kept: Targets of thirds that are trained on and stay: a part of R.
        unseen: Targets of thirds that no model of this seed is trained on.
        changed: Training examples that the scenario changes before training: F, and where only
            some of the poison is known the rest of it, in R.
        gone: What earlier requests of a stream took, in order. The harness alone has it, to see
            what came back: it is in no other set, and no method is handed it.
    """

    forget: Tensor
    retain: Tensor
    validation: Tensor
    test_forget: Tensor
    test_retain: Tensor
    forget_classes: tuple[int, ...]
    hidden: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    hidden_classes: tuple[int, ...] = ()
    kept: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    unseen: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    changed: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    gone: tuple[Gone, ...] = ()

    @property
    def train(self) -> Tensor:
        """The original's training set: F and R together, and what has gone since."""
        gone = (earlier.forget for earlier in self.gone)
        return torch.cat([self.forget, self.retain, *gone]).sort().values

    @property
    def hidden_by_filters(self) -> tuple[int, ...]:
        """Classes that are forgotten whole by now: a filter before the outputs stays in place."""
        gone = {label for earlier in self.gone for label in earlier.forget_classes}
        return tuple(sorted(gone.union(self.forget_classes)))


@dataclass(frozen=True)
class Division:
    """F, R and V of one scenario and seed, each sorted, into the training part.

    Attributes:
        forget: F.
        retain: R.
        validation: V.
        forget_classes: Classes that are forgotten whole; empty for sample scenarios.
        kept: Targets of thirds in R.
        unseen: Targets of thirds in none of the three.
        changed: Of F and R, what the scenario changes before training.
    """

    forget: Tensor
    retain: Tensor
    validation: Tensor
    forget_classes: tuple[int, ...]
    kept: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    unseen: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    changed: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))


# With fewer targets no attack by many models is worth its name.
LEAST_TARGETS = 200


def targets(labels: Tensor, share: float) -> Tensor:
    """Return the targets of thirds, the same under every seed, as many of each class, sorted.

    Args:
        labels: Class of every training example, [N].
        share: Of the training part; at least 200 examples are taken.

    Raises:
        DataError: If that is more than half of the training part.
    """
    wanted = max(LEAST_TARGETS, round(share * len(labels)))
    if 2 * wanted > len(labels):
        raise DataError(
            f"thirds:{share:g}: {wanted} targets are more than half of {len(labels)} training "
            f"examples; at least {LEAST_TARGETS} are needed, so take a smaller share or more data"
        )
    order = torch.randperm(len(labels), generator=generator_of(0, "thirds"))
    # The first of every class, then the second of every class, and so on.
    turns = torch.empty(len(labels), dtype=torch.int64)
    for label in labels.unique():
        members = order[labels[order] == label]
        turns[members] = torch.arange(len(members))
    return order[turns[order].sort(stable=True).indices[:wanted]].sort().values


def roles(count: int, seed: int) -> Tensor:
    """Return each target's role under a seed, [count]: 0 is kept, 1 never seen, 2 forgotten.

    Every three seeds from 0, 3, 6, ... on give each target each role once.
    """
    turn = torch.rand(count, 3, generator=generator_of(seed // 3, "thirds")).argsort(1)
    return turn[:, seed % 3]


def make(
    forget: Forget,
    train_labels: Tensor,
    test_labels: Tensor,
    classes: tuple[str, ...],
    *,
    validation: float,
    seed: int,
    numbers: Tensor | None = None,
    attributes: Attributes = NO_ATTRIBUTES,
    memorisation: Tensor | None = None,
    before: Before | None = None,
) -> Indices:
    """Divide a dataset for one scenario.

    Args:
        forget: Who is forgotten.
        train_labels: Classes of the training part, [N].
        test_labels: Classes of the test part, [M].
        classes: Class names by index.
        validation: Share of the training part set aside as V.
        seed: Determines V and random forget sets.
        numbers: By which indices name training examples, ascending, [N]; by default their place.
        attributes: Of the examples, where the scenario is about one.
        memorisation: How far the original memorises each training example, [N], where the scenario
            is about that; without it as many others stand in for F.
        before: Of a request that is one of several, what went before it.

    Returns:
        The index sets; where a scenario changes F, ``test_forget`` are examples it changes alike.

    Raises:
        DataError: If a class, index or attribute does not exist, or a set would be empty.
    """
    part = divide(
        forget,
        train_labels,
        classes,
        validation=validation,
        seed=seed,
        numbers=numbers,
        attributes=attributes,
        memorisation=memorisation,
        before=before,
    )
    if forget.changes_data:
        test_forget = _changeable(forget, test_labels, classes).nonzero().squeeze(1)
        test_retain = torch.arange(len(test_labels))
    else:
        test_forget, test_retain = divide_test(
            train_labels[part.forget],
            part.forget_classes,
            test_labels,
            seed,
            _like_forgotten(forget, attributes, before),
            None if before is None else before.test_gone,
        )
    if not len(test_forget) or not len(test_retain):
        raise DataError(f"{forget.name}: the test part has no examples to measure it on")
    return Indices(**vars(part), test_forget=test_forget, test_retain=test_retain)


def _like_forgotten(forget: Forget, attributes: Attributes, before: Before | None) -> Tensor | None:
    """Say which test examples share the attribute that is forgotten, bool [M], if any do."""
    if forget.subclass is not None:
        return attributes.subclass(forget.subclass)[1]
    if forget.group is not None:
        tf = attributes.group(forget.group.column, forget.group.value)[1]
        left = tf if before is None or not len(tf) else tf & ~before.test_gone
        # A person's pictures may all be in the training part: others of their classes stand in.
        return tf if left.any() else None
    return None


def divide_test(
    forgotten: Tensor,
    forget_classes: tuple[int, ...],
    test_labels: Tensor,
    seed: int,
    alike: Tensor | None = None,
    gone: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return TF and TR, into the test part; either may be empty.

    Args:
        forgotten: Classes of F, [N].
        forget_classes: Classes that are forgotten whole.
        test_labels: Classes of the test part, [M].
        seed: Determines TF where examples of any class are forgotten.
        alike: Test examples that share an attribute with what is forgotten, bool [M].
        gone: Test examples like those that earlier requests took, bool [M]: they are in neither.
    """
    left = torch.ones(len(test_labels), dtype=torch.bool) if gone is None else ~gone
    if forget_classes:
        alike = torch.isin(test_labels, torch.tensor(forget_classes))
    if alike is not None:
        return (alike & left).nonzero().squeeze(1), (~alike & left).nonzero().squeeze(1)
    places = left.nonzero().squeeze(1)
    if not len(places):
        return places, places
    return places[class_matched(forgotten, test_labels[places], seed)], places


def divide(
    forget: Forget,
    train_labels: Tensor,
    classes: tuple[str, ...],
    *,
    validation: float,
    seed: int,
    numbers: Tensor | None = None,
    attributes: Attributes = NO_ATTRIBUTES,
    memorisation: Tensor | None = None,
    before: Before | None = None,
) -> Division:
    """Divide the training part for one scenario; the arguments are those of :func:`make`.

    Raises:
        DataError: If a class, index or attribute does not exist, or a set would be empty.
    """
    held_out = hold_out(train_labels, validation, seed)
    in_training = torch.ones(len(train_labels), dtype=torch.bool)
    in_training[held_out] = False
    chosen = named_places(forget, len(train_labels), numbers, attributes)
    # To be forgotten, so they must have been trained on.
    in_training[chosen if before is None else before.named] = True
    held_out = (~in_training).nonzero().squeeze(1)
    draws = seed if before is None else before.seed(seed)
    if before is not None:
        in_training[before.gone] = False
    if forget.thirds is not None:
        return _divide_thirds(targets(train_labels, forget.thirds), in_training, seed)
    named = tuple(sorted({class_index(c, classes) for c in forget.classes}))
    changed = _changed(forget, train_labels, classes, in_training, seed)
    if len(chosen):
        is_forgotten = torch.zeros(len(train_labels), dtype=torch.bool)
        is_forgotten[chosen] = True
    elif forget.changes_data:
        is_forgotten = changed
        if forget.poisoned is not None and forget.poisoned.known is not None:
            is_forgotten = draw_share(changed, forget.poisoned.known, seed)
    elif forget.subclass is not None:
        is_forgotten = attributes.subclass(forget.subclass)[0]
    elif forget.group is not None:
        is_forgotten = attributes.group(forget.group.column, forget.group.value)[0]
    elif forget.memorised is not None:
        is_forgotten = _ranked(in_training, forget.memorised, memorisation, seed)
    elif forget.fraction is not None:
        is_forgotten = draw_share(in_training, forget.fraction, draws)
    else:
        is_forgotten = torch.isin(train_labels, torch.tensor(named))
        if forget.share is not None:
            is_forgotten = draw_share(is_forgotten & in_training, forget.share, draws)
    f, r = is_forgotten & in_training, ~is_forgotten & in_training
    whole = torch.isin(train_labels, torch.tensor(named)) if named else is_forgotten
    _refuse_empty(forget, f, r, lambda: _cause(whole, held_out, before))
    return Division(
        forget=f.nonzero().squeeze(1),
        retain=r.nonzero().squeeze(1),
        validation=held_out,
        forget_classes=named if forget.share is None else (),
        changed=changed.nonzero().squeeze(1),
    )


def _refuse_empty(forget: Forget, f: Tensor, r: Tensor, cause: Callable[[], str]) -> None:
    if not f.any():
        raise DataError(f"{forget.name}: the forget set is empty: {cause()}")
    if not r.any():
        raise DataError(f"{forget.name}: nothing is left to retain; forget fewer classes")


def _changeable(forget: Forget, labels: Tensor, classes: tuple[str, ...]) -> Tensor:
    """Say which examples a scenario may change, bool [N]; none where it changes nothing.

    Raises:
        DataError: If a class does not exist, or two are the same.
    """
    if forget.confused is not None:
        both = {class_index(name, classes) for name in forget.confused.classes}
        if len(both) < 2:
            raise DataError(f"{forget.name}: both names are of one class; name two")
        return torch.isin(labels, torch.tensor(sorted(both)))
    if forget.poisoned is not None:
        return labels != class_index(forget.poisoned.target, classes)
    return torch.zeros(len(labels), dtype=torch.bool)


def _changed(
    forget: Forget, labels: Tensor, classes: tuple[str, ...], in_training: Tensor, seed: int
) -> Tensor:
    """Draw the examples that a scenario changes, bool [N]."""
    pool = _changeable(forget, labels, classes) & in_training
    drawn = torch.zeros_like(pool)
    if forget.confused is not None:
        # The share of each class: were one confused more often, the boundary would only move.
        for label in labels[pool].unique().tolist():
            members = pool & (labels == label)
            drawn |= draw_share(members, forget.confused.share, seed, f"confused {label}")
    elif forget.poisoned is not None:
        wanted, there = forget.poisoned.share * int(in_training.sum()), int(pool.sum())
        if wanted > there:
            raise DataError(
                f"{forget.name}: only {there} of {int(in_training.sum())} training examples are of "
                "other classes than the target; take a smaller share"
            )
        drawn = draw_share(pool, wanted / max(1, there), seed, "poisoned")
    return drawn


def _ranked(pool: Tensor, wanted: Memorised, memorisation: Tensor | None, seed: int) -> Tensor:
    """Choose by memorisation a share of the examples that ``pool`` marks, bool [N].

    Where nobody has looked at it yet, as many others stand in.
    """
    if memorisation is None:
        return draw_share(pool, wanted.share, seed)
    members = pool.nonzero().squeeze(1)
    order = members[memorisation[members].sort(descending=True, stable=True).indices]
    count = round(wanted.share * len(order))
    start = {"high": 0, "mid": (len(order) - count) // 2, "low": len(order) - count}
    chosen = torch.zeros_like(pool)
    chosen[order[start[wanted.level] : start[wanted.level] + count]] = True
    return chosen


def _divide_thirds(chosen: Tensor, in_training: Tensor, seed: int) -> Division:
    role = roles(len(chosen), seed)
    kept, unseen, forgotten = (chosen[role == number] for number in range(3))
    in_training[chosen] = True
    validation = ~in_training
    in_training[unseen] = in_training[forgotten] = False
    return Division(
        forget=forgotten,
        retain=in_training.nonzero().squeeze(1),
        validation=validation.nonzero().squeeze(1),
        forget_classes=(),
        kept=kept,
        unseen=unseen,
    )


def _cause(asked: Tensor, held_out: Tensor, before: Before | None) -> str:
    """Say why nothing is left of what is asked for, bool [N]."""
    if before is not None and asked[before.gone].any():
        return "an earlier request took all of it; ask for it once"
    if count := int(asked[held_out].sum()):
        return f"its {count} training example(s) are all set aside for validation; it needs more"
    return "no training example is left of it; choose other classes or more"


def class_index(given: int | str, classes: tuple[str, ...]) -> int:
    """Return the index of a class given by name or index; names win where they are numbers.

    Letters with marks may be written as one character or as two; file systems differ in it.
    """
    name = unicodedata.normalize("NFC", str(given))
    same = [i for i, known in enumerate(classes) if unicodedata.normalize("NFC", known) == name]
    if len(same) > 1 and str(given) in classes:
        return classes.index(str(given))
    if len(same) > 1:
        raise DataError(f"{len(same)} classes are named {given!r}; give an index: {same}")
    if same:
        return same[0]
    if isinstance(given, int) and 0 <= given < len(classes):
        return given
    shown = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
    hint = suggestion(given, classes) if isinstance(given, str) else ""
    raise DataError(
        f"no class {given!r} to forget{hint} (classes are 0 to {len(classes) - 1}: {shown})"
    )
