"""Does what it declares have an effect: data, log, every hyper-parameter?"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from unlearn_bench.conformance.check import check, listed
from unlearn_bench.conformance.neighbours import neighbours
from unlearn_bench.conformance.subject import (
    FEWER_CLASSES,
    FORGOTTEN,
    DoesNotRunError,
    FailedError,
    NotApplicableError,
    Subject,
    told,
)
from unlearn_bench.conformance.trial import ROUNDING, State, movement, same
from unlearn_bench.plugins.method import Probe

# Sums in another order differ in the last digits, and a threshold may tip a weight or two.
ORDER_TOLERANCE, ORDER_TIPPED = 1e-3, 1e-3


@check("weights move", "an optimiser that holds other parameters, or a zero gradient, moves none")
def weights_move(subject: Subject) -> str:
    """Count the weights that are other ones after the run."""
    if subject.method.kind == "control":
        raise NotApplicableError("a control may leave the weights alone")
    base = subject.base()
    moved, total, share = movement(base.given, base.parameters)
    if share < ROUNDING:
        raise FailedError(
            f"{moved:,} of {total:,} weights moved, all together by {share:.0e} of their norm: no "
            "more than rounding; does the optimiser hold this model's parameters, and has the loss "
            "a gradient?"
        )
    exact = subject.measured()
    _, _, without_rounding = movement(exact.given, exact.parameters)
    if without_rounding < ROUNDING:
        raise FailedError(
            f"they move by {share:.0e} of their norm in float32 and by {without_rounding:.0e} in "
            "float64: the gradient is rounding alone, of which Adam makes full steps; is the "
            "teacher a copy that shares the student's layers, or the loss constant?"
        )
    return f"{moved:,} of {total:,}, by {share:.1e} of their norm"


@check("forget data matter", "what does not depend on F does not unlearn F")
def forget_data_matter(subject: Subject) -> str:
    """Give other examples of the forgotten class, or at last another class."""
    return _data_matter(subject, "forget")


@check("retain data matter", "declared and unused, R overstates what the method needs")
def retain_data_matter(subject: Subject) -> str:
    """Give other examples of the retained classes."""
    return _data_matter(subject, "retain")


@check("validation data matter", "declared and unread, V overstates what the method needs")
def validation_data_matter(subject: Subject) -> str:
    """Ask for the declared validation data to be read."""
    where = _declared(subject, "validation")
    weights = subject.measured(scope=where).parameters
    _, _, share = movement(weights, _measured(subject, "other validation", where))
    changes = "no" if share < ROUNDING else "other"
    touched = subject.run(scope=where).touched.get("validation", 0)
    return f"read ({touched} examples); other data give {changes} weights"


@check("training log matters", "declared and unused, the log overstates what the method needs")
def training_log_matters(subject: Subject) -> str:
    """Give a log with every update doubled."""
    where = _declared(subject, "log")
    weights = subject.measured(scope=where).parameters
    _, _, share = movement(weights, _measured(subject, "other log", where))
    if share < ROUNDING:
        raise FailedError("twice the logged updates give the same weights: the log has no effect")
    return "another log gives other weights"


@check("checkpoints matter", "declared and unused, they overstate what the method needs")
def checkpoints_matter(subject: Subject) -> str:
    """Give checkpoints with every weight doubled."""
    where = _declared(subject, "checkpoints")
    weights = subject.measured(scope=where).parameters
    _, _, share = movement(weights, _measured(subject, "other checkpoints", where))
    if share < ROUNDING:
        raise FailedError("twice their weights give the same model: they have no effect")
    return "other checkpoints give other weights"


@check("surrogate images matter", "declared and unused, they would have no effect where named")
def surrogate_images_matter(subject: Subject) -> str:
    """Name two sets of surrogate images, one after the other."""
    where = _declared(subject, "surrogate")
    weights = _measured(subject, "surrogate images", where)
    _, _, share = movement(weights, _measured(subject, "other surrogate images", where))
    if share < ROUNDING:
        raise FailedError("other surrogate images give the same weights: they have no effect")
    return "other surrogate images give other weights"


@check("every parameter is read", "a hyper-parameter that is never read misleads")
def every_parameter_is_read(subject: Subject) -> str:
    """Set every hyper-parameter to another value, one at a time."""
    subject.base()
    names = list(subject.method.schema.model_fields)
    if not names:
        raise NotApplicableError("it has none")
    lively: dict[str, Any] = {}
    dead: list[str] = []
    speed_only = subject.method.check.speed_only
    for name in names:
        try:
            if name in speed_only:
                _must_not_tell(subject, name)
                continue
            lively[name] = _telling_value(subject, name)
        except FailedError as error:
            dead.append(f"{name}: {error}")
    if dead:
        raise FailedError("; ".join(dead))
    if speed_only:
        return f"{len(lively)}, by {listed(lively)}; speed only: {', '.join(speed_only)}"
    return f"{len(names)}, by {listed(lively)}"


@check("every parameter is explained", "nobody can choose a value for a name alone")
def every_parameter_is_explained(subject: Subject) -> str:
    """Look for every parameter in the docstring."""
    parameters = subject.method.parameters()
    if not parameters:
        raise NotApplicableError("it has none")
    silent = [p.name for p in parameters if not p.explanation.strip()]
    if silent:
        raise FailedError(
            f"no explanation of {', '.join(silent)}: describe each under Args: in the docstring"
        )
    return f"{len(parameters)} in the docstring"


@check("order of the data", "a statistic must not depend on how the data are stored")
def order_of_the_data(subject: Subject) -> str:
    """Store the examples of each split in another order."""
    if not subject.method.check.one_shot:
        raise NotApplicableError("it trains in passes (one_shot is not declared)")
    base, other = subject.base(), subject.run("other order")
    pairs = [(base.weights[name], other.weights[name]) for name in base.weights]
    tipped = sum(
        int((~torch.isclose(a, b, rtol=ORDER_TOLERANCE, atol=1e-6)).sum()) for a, b in pairs
    )
    total = sum(a.numel() for a, _ in pairs)
    if tipped > ORDER_TIPPED * total:
        raise FailedError(f"{tipped:,} of {total:,} weights depend on the order of the data")
    return f"does not matter: {tipped:,} of {total:,} weights differ by more than rounding"


@check("retrained from scratch", "a reference that starts from the original has seen F")
def retrained_from_scratch(subject: Subject) -> str:
    """Hand over other weights than the original's."""
    if subject.method.kind != "reference":
        raise NotApplicableError("only a reference must be")
    base = subject.base()
    moved, total, _ = movement(base.given, base.parameters)
    if moved < 0.99 * total:
        raise FailedError(f"it keeps {total - moved:,} of the original's {total:,} weights")
    if not same(base.state, subject.run("other original").state):
        raise FailedError("its result depends on the weights that it is handed")
    return f"{moved:,} of {total:,} weights are other ones, whatever original is handed over"


def _declared(subject: Subject, name: str) -> str:
    """Return the first scenario in which the method reads what it declares."""
    if not getattr(subject.method.access, name):
        raise NotApplicableError("it does not declare them" if name != "log" else "not declared")
    for scope in subject.scopes:
        if name in subject.run(scope=scope).read:
            return scope
    read = {"log": "training_log", "surrogate": "surrogates"}.get(name, name)
    raise FailedError(f"it never reads ctx.{read}; do not declare Access.{name.upper()}")


def _data_matter(subject: Subject, name: str) -> str:
    where = _declared(subject, name)
    weights = subject.measured(scope=where).parameters
    moved, total, share = movement(weights, _measured(subject, f"other {name}", where))
    if share >= ROUNDING:
        return f"other {name} images give other weights ({moved:,} of {total:,})"
    # Some need to know only which class is forgotten, and read that from the labels.
    if name == "forget" and where == "class":
        another = _measured(subject, f"instead of {FORGOTTEN['class'][0]}")
        moved, total, share = movement(weights, another)
        if share >= ROUNDING:
            return f"another class gives other weights ({moved:,} of {total:,}), other images none"
    raise FailedError(
        f"other {name} images give the same weights, but for rounding: "
        f"{subject.run(scope=where).touched.get(name, 0)} examples were read for nothing, or "
        "their loss has no gradient"
    )


def _measured(subject: Subject, variant: str, scope: str = "") -> State:
    trial = subject.measured(variant, scope=scope)
    if not trial.usable:
        raise DoesNotRunError(told(trial))
    return trial.parameters


def _telling_value(subject: Subject, name: str) -> Any:
    """Return a value of a parameter that gives other weights than the one in force."""
    method = subject.method
    declared = method.check.probes.get(name)
    probe = declared if isinstance(declared, Probe) else Probe(declared)
    if name in method.check.probes:
        tried = [probe.value]
    else:
        tried = neighbours(method, name, method.resolve(subject.quick)[name])
    settings = list(_settings(subject, name, probe.given))
    # What no value shows as it is most likely needs another setting, not yet another value there.
    attempts = [(settings[0], value) for value in tried]
    attempts += [(setting, value) for setting in settings[1:] for value in tried[:1]]
    attempts += [(setting, value) for setting in settings[1:] for value in tried[1:]]
    for (ground, where), value in attempts:
        one = subject.measured(params=ground, **where)
        other = subject.measured(params={**ground, name: value}, **where)
        if one.usable and other.usable:
            # The statistics count: a parameter may choose what becomes of them alone.
            _, _, share = movement(one.weights, other.weights)
            if share >= ROUNDING:
                return value
        broken = one if not one.usable else other
        if not broken.usable and name in method.check.probes:
            raise FailedError(f"its probe {listed(broken.params)} ends in {told(broken)}")
    if name in method.check.probes:
        raise FailedError(f"its probe {listed({**probe.given, name: probe.value})} changes nothing")
    values = ", ".join(map(str, tried))
    found = f"the same weights, but for rounding, by {values}" if tried else "no value to try"
    raise FailedError(
        f"read nowhere, or not in these settings ({found}); declare "
        f'probes={{"{name}": Probe(value, given={{...}})}}, or speed_only=("{name}",)'
    )


def _must_not_tell(subject: Subject, name: str) -> None:
    """Hold a parameter to its declaration that only speed depends on it."""
    base = subject.measured()
    for value in neighbours(subject.method, name, subject.method.resolve(subject.quick)[name])[:2]:
        other = subject.measured(params={name: value})
        if not other.usable:
            raise FailedError(f"{value} ends in {told(other)}")
        _, _, share = movement(base.weights, other.weights)
        if share >= ROUNDING:
            raise FailedError(f"declared speed_only, but {value} gives other weights ({share:.0e})")


def _settings(
    subject: Subject, name: str, given: Mapping[str, Any]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield where a parameter may show: as it is, in more steps, other scenarios, on a ViT."""
    yield dict(given), {}
    # Momentum, say, shows in the second step alone.
    params = subject.method.resolve(subject.quick)
    longer: dict[str, Any] = {}
    if isinstance(params.get("epochs"), int) and name != "epochs":
        longer["epochs"] = params["epochs"] + 1
    if isinstance(params.get("batch_size"), int) and name != "batch_size":
        longer["batch_size"] = 32 if longer else 8
    if longer:
        yield {**longer, **given}, {}
    for scope in subject.scopes[1:]:
        yield {**longer, **given}, {"scope": scope}
    yield {**longer, **given}, {"transformer": True, "classes": FEWER_CLASSES}
