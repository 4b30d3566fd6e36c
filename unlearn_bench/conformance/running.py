"""Does it run at all, wherever it says it does, and is what comes back a model?"""

from unlearn_bench.conformance.check import check, listed
from unlearn_bench.conformance.subject import (
    FEWER_CLASSES,
    FailedError,
    NotApplicableError,
    Subject,
    told,
)
from unlearn_bench.conformance.trial import Trial
from unlearn_bench.errors import MethodError, ParameterError
from unlearn_bench.runner import stored_log


@check("it runs", "of a method that ends in an error nothing else can be said")
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
    """Run one class, several and random examples, as far as declared."""
    subject.base()
    for scope in subject.scopes[1:]:
        trial = subject.trial(scope=scope)
        if not trial.usable:
            raise FailedError(f"{scope}: {told(trial)}; mend it, or declare forgets= without it")
    return ", ".join(subject.scopes)


@check("any number of classes", "published code counts on ten")
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
    if not _small_transformer(subject).usable:
        subject.run(transformer=True)
    return "finite on test_vit"


@check("batches of one", "a last batch of one example must not end in NaN or a riddle")
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
    return subject.trial(classes=FEWER_CLASSES, transformer=True)
