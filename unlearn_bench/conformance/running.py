"""Does it run at all, wherever it says it does, and is what comes back a model?"""

from unlearn_bench.conformance.check import check, listed
from unlearn_bench.conformance.subject import (
    FEWER_CLASSES,
    FORGOTTEN,
    DoesNotRunError,
    FailedError,
    NotApplicableError,
    Subject,
    told,
)
from unlearn_bench.conformance.trial import ROUNDING, Trial, movement
from unlearn_bench.core.errors import MethodError, ParameterError
from unlearn_bench.execution.returned import stored_log


@check("it runs", "a method that ends in an error cannot be checked further")
def it_runs(subject: Subject) -> str:
    """Make the ordinary run: quick parameters, the first declared scenario."""
    trial = subject.trial()
    if trial.error is not None:
        raise FailedError(told(trial))
    took = trial.seconds["unlearn"].wall
    return f"in {took:.2f} s, {listed(subject.quick)}"


@check("same architecture", "another network is another experiment, and NaN no result")
def same_architecture(subject: Subject) -> str:
    """Compare tensors, layers and what they are built with; all must be finite."""
    trial = subject.trial()
    if trial.misfit:
        raise FailedError(trial.misfit)
    base = subject.base()
    if base.layers:
        raise FailedError(f"{len(base.layers)} layers differ: {base.layers[0]}")
    return f"{len(base.state)} tensors and all layers as they were, all finite"


@check("every declared scenario", "a scenario that is declared will be run")
def every_declared_scenario(subject: Subject) -> str:
    """Run in every kind of scenario that is declared; weights must move in each.

    Of several classes each must count: without F read, nothing is known of that.
    """
    subject.base()
    seen = [subject.named(subject.scopes[0])]
    for scope in subject.scopes[1:]:
        trial, named = subject.measured(scope=scope), subject.named(scope)
        if not trial.usable:
            raise FailedError(f"{named}: {told(trial)}; fix it, or declare forgets= without it")
        rests = _must_move(subject, trial, named, "declare forgets= without it, or ")
        seen.append(named + rests)
    if "classes" in subject.scopes and "forget" in subject.base().read:
        for label in FORGOTTEN["classes"]:
            _must_count(subject, label)
    return "; ".join(seen)


@check("any number of classes", "published code often assumes ten")
def any_number_of_classes(subject: Subject) -> str:
    """Run where there are seven classes."""
    subject.base()
    if not _small_transformer(subject).usable:
        subject.run(classes=FEWER_CLASSES)
    return f"runs with {FEWER_CLASSES}"


@check("transformers", "not every network has convolutions and BatchNorm")
def transformers(subject: Subject) -> str:
    """Run on a small ViT."""
    subject.base()
    trial = _small_transformer(subject)
    if not trial.usable:
        trial = subject.run(transformer=True)
    return f"finite on test_vit{_must_move(subject, trial, 'test_vit')}"


@check("batches of one", "a last batch of one example must not end in NaN or an obscure error")
def batches_of_one(subject: Subject) -> str:
    """Run with batches of one example."""
    subject.base()
    sizes = [name for name in subject.method.schema.model_fields if "batch_size" in name]
    if not sizes:
        raise NotApplicableError("it has no batch_size")
    trial = subject.trial("few examples", dict.fromkeys(sizes, 1))
    if trial.usable:
        return "finite"
    clear = isinstance(trial.error, ParameterError) or (
        isinstance(trial.error, MethodError) and "batch" in str(trial.error).lower()
    )
    if not clear:
        raise FailedError(
            f"{told(trial)}; where BatchNorm forbids it, raise a MethodError that names the batch "
            "size, as the block of `training` does"
        )
    return f"refused: {told(trial)}"


@check("log", "a log of anything but single numbers cannot be stored")
def log(subject: Subject) -> str:
    """Turn the log into numbers, as the harness will."""
    base = subject.base()
    try:
        stored_log(base.entries)
    except MethodError as error:
        raise FailedError(str(error)) from error
    names = dict.fromkeys(name for entry in base.entries for name in entry)
    return f"{len(base.entries)} steps of {', '.join(names)}" if names else "it logs nothing"


def _small_transformer(subject: Subject) -> Trial:
    # Both at once; only where that fails they are told apart.
    return subject.measured(classes=FEWER_CLASSES, transformer=True)


def _must_move(subject: Subject, trial: Trial, where: str, advice: str = "or ") -> str:
    """Refuse weights that stay without a declared reason; return what to add to the finding."""
    _, _, share = movement(trial.given, trial.parameters)
    if share >= ROUNDING or subject.method.kind == "control":
        return ""
    if subject.method.check.may_rest:
        return f" (weights as they were; declared: {subject.method.check.may_rest})"
    raise FailedError(
        f"{where}: the weights move by {share:.0e} of their norm, no more than rounding: nothing "
        f'is unlearned, and no warning says so; fix it, {advice}declare may_rest="the reason"'
    )


def _must_count(subject: Subject, label: int) -> None:
    """Exchange the examples of one of several forgotten classes, or at last the class."""
    weights = subject.measured(scope="classes").parameters
    for variant in (f"other examples of {label}", f"instead of {label}"):
        other = subject.measured(variant, scope="classes")
        if not other.usable:
            raise DoesNotRunError(f"classes: {told(other)}")
        if movement(weights, other.parameters)[2] >= ROUNDING:
            return
    raise FailedError(
        f"of the classes {', '.join(map(str, FORGOTTEN['classes']))}, {label} does not count: "
        "whichever examples it has and whatever class stands in its place, the weights are the same"
    )
