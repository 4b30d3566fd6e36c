"""Does it leave everything but its own weights as it was, and repeat itself?

Most of these look at all runs that were made so far: they come last.
"""

import copy
import math
from itertools import pairwise

import torch

from unlearn_bench.conformance.check import check, listed
from unlearn_bench.conformance.subject import FailedError, Subject
from unlearn_bench.conformance.trial import Trial, same, storages
from unlearn_bench.toolkit.alignment import realign

# Share of the realignment's move that may differ: a method may estimate it on part of F.
REALIGNED = 0.25
TINY = 1e-12


@check("same seed, same weights", "what cannot be repeated cannot be checked")
def same_seed_same_weights(subject: Subject) -> str:
    """Run again after others drew random numbers."""
    base = subject.base()
    if not same(base.state, _again(subject).state):
        raise FailedError(
            "two runs of the same seed differ; draw from ctx.rng, and keep nothing between calls"
        )
    return "bit for bit, whatever others drew before"


@check("other seeds", "a seed written into the method makes its spread over seeds meaningless")
def other_seeds(subject: Subject) -> str:
    """Compare the global generators after another seed; tell whether it gives other weights."""
    base, other = subject.base(), subject.run(seed=1)
    reseeded = [name for name, at in base.generators.items() if at == other.generators[name]]
    if reseeded:
        raise FailedError(
            f"after runs of two seeds {' and '.join(reseeded)} would go on alike: it sets a seed "
            "of its own; draw from ctx.rng, and seed nothing"
        )
    alike = same(base.weights, other.weights)
    return "the same weights: it neither draws nor shuffles" if alike else "other weights"


@check("old gradients", "gradients never zeroed add up over batches")
def old_gradients(subject: Subject) -> str:
    """Run again with rubbish in .grad after every optimiser step.

    Not at the start: a model is handed over without gradients, and ``step(); zero_grad()`` is as
    right an order as any.
    """
    base, poisoned = subject.base(), subject.trial(repeat=1, poisoned=True)
    if not poisoned.usable or not same(base.state, poisoned.state):
        same_seed_same_weights(subject)  # else the difference says nothing
        raise FailedError(
            "what lies in .grad after a step changes the next; call optimizer.zero_grad() once "
            "for every optimizer.step()"
        )
    return "do not matter after a step" if base.steps > 1 else f"{base.steps} steps leave none"


@check("fresh batches", "itertools.cycle replays one shuffle and one augmentation for ever")
def fresh_batches(subject: Subject) -> str:
    """Look for training batches that come back after others, in all runs so far."""
    subject.base()
    watched = [trial for trial in subject.trials() if trial.usable]
    for trial in watched:
        again = _replayed(trial)
        if again:
            raise FailedError(
                f"{again} training batches came back as they were after others had been trained "
                f"on ({listed(trial.params)}); take a new pass: ctx.SPLIT.epochs or .forever"
            )
    return f"no training batch came twice in {len(watched)} runs"


@check("BatchNorm statistics", "passes over F alone drag them towards F, and the model with them")
def batch_norm_statistics(subject: Subject) -> str:
    """Compare running means and variances before and after.

    A method that sees F alone may leave them, or move them by what its change of the weights does
    to F, as :func:`~unlearn_bench.toolkit.alignment.realign` does. That move is zero where the
    weights are as they were, so nothing of F enters the statistics; a drift towards F is not.
    """
    base = subject.base()
    statistics = [n for n in base.state if n.endswith(("running_mean", "running_var"))]
    if any((base.state[n] < 0).any() for n in statistics if n.endswith("var")):
        raise FailedError("a running variance is negative")
    moved = [n for n in statistics if not torch.equal(base.state[n], base.given[n])]
    access = subject.method.access
    blind = access.forget and not (access.retain or access.validation)
    if moved and blind:
        mode = subject.quick.get("batch_norm", subject.method.resolve({}).get("batch_norm"))
        unexplained = _unexplained(subject, base)
        if unexplained <= REALIGNED:
            return f"{len(moved)} of {len(statistics)} moved as the weights moved F's activations"
        if not (mode == "train" and "batch_norm" in subject.quick):
            raise FailedError(
                f"{len(moved)} of {len(statistics)} moved on forget data alone; train within "
                'training(model, batch_norm), and let batch_norm: BatchNormMode default to "eval" '
                'or "batch"; or move them by realign(model, original, ctx.forget.batches())'
            )
    return f"{len(moved)} of {len(statistics)} moved, all finite"


def _unexplained(subject: Subject, base: Trial) -> float:
    """Return how far the statistics are from those realigned on F, relative to that move.

    Means are measured in the original's standard deviations and variances by their logarithms:
    otherwise the widest channel would decide alone.
    """
    realigned = copy.deepcopy(subject.original)
    weights = {n: t for n, t in base.state.items() if "running_" not in n}
    realigned.load_state_dict({**base.given, **weights})
    realign(realigned, subject.original, subject.forget.batches())
    expected, off, move = realigned.state_dict(), 0.0, 0.0
    for name, before in base.given.items():
        after, due = base.state[name], expected[name]
        if name.endswith("running_mean"):
            spread = base.given[name.replace("running_mean", "running_var")].clamp_min(TINY).sqrt()
            after, due, before = after / spread, due / spread, before / spread
        elif name.endswith("running_var"):
            after, due, before = (t.clamp_min(TINY).log() for t in (after, due, before))
        else:
            continue
        off += float((after - due).square().sum())
        move += float((due - before).square().sum())
    return math.sqrt(off) / max(math.sqrt(move), TINY)


@check("modes and flags", "a model left in train mode, frozen or hooked is evaluated wrongly")
def modes_and_flags(subject: Subject) -> str:
    """Compare modes, hooks and gradient flags before and after, in all runs so far."""
    subject.base()
    for trial in subject.trials():
        if trial.flags:
            more = f" and {len(trial.flags) - 1} more" if len(trial.flags) > 1 else ""
            left = trial.flags[0].startswith("training ")
            advice = "; train inside `with training(model):`" if left else ""
            raise FailedError(f"{trial.flags[0]}{more} ({listed(trial.params)}){advice}")
    return "train/eval, requires_grad, hooks and track_running_stats as they were"


@check("global settings", "what a method leaves switched changes every later run")
def global_settings(subject: Subject) -> str:
    """Compare what all runs share before and after, in all runs so far."""
    subject.base()
    for trial in subject.trials():
        if trial.settings:
            raise FailedError(f"{'; '.join(trial.settings)} ({listed(trial.params)})")
    return "torch, NumPy, streams, folder, limits and functions as they were"


@check("the harness's own things", "the original and the data belong to all methods")
def the_harness_own_things(subject: Subject) -> str:
    """Compare the original, the data and the log before and after."""
    subject.base()
    for trial in subject.trials():
        if trial.damaged:
            raise FailedError(f"changed: {', '.join(trial.damaged[:3])}")
    return "the original, indices, images and labels are untouched"


@check("storage of its own", "a shared tensor changes when somebody else trains")
def storage_of_its_own(subject: Subject) -> str:
    """Look at where the returned model's tensors lie in memory."""
    base, again = subject.base(), _again(subject)
    assert base.model is not None and again.model is not None
    mine = storages(base.model)
    if mine & storages(subject.original):
        raise FailedError("the returned model shares storage with the original")
    if len(mine) < len(storages(subject.original)):
        raise FailedError("tensors of the returned model share storage that the original's do not")
    if mine & storages(again.model):
        raise FailedError(
            "the models of two runs share storage; build each from the model handed over"
        )
    return f"{len(mine)} tensors, shared neither with the original nor with another run"


@check("declared data only", "undeclared data would be an unfair and unnoticed advantage")
def declared_data_only(subject: Subject) -> str:
    """Ask the context and the images who looked at them, in all runs so far."""
    subject.trial()
    for trial in subject.trials():
        if trial.refused:
            raise FailedError(trial.refused[0])
        if trial.test_attempts:
            raise FailedError("it tried to read test images")
        if trial.strayed:
            raise FailedError(f"it looked at {trial.strayed} training images of no declared split")
    return f"reads {subject.method.access}, never anything else"


@check("all work in its time", "time without precomputation flatters the method")
def all_work_in_its_time(subject: Subject) -> str:
    """Look for work before and after the call: caches, threads, lazy weights."""
    base, again = subject.base(), _again(subject)
    if base.running:
        raise FailedError("; ".join(base.running))
    if (base.touched, base.forwards) != (again.touched, again.forwards):
        raise FailedError(
            f"the second run did other work than the first: {_work(again)} against {_work(base)}; "
            "keep nothing between calls"
        )
    assert base.model is not None
    with torch.no_grad():
        base.model(torch.zeros(2, 1, 8, 8))
    if not same(base.state, dict(base.model.state_dict())):
        raise FailedError(
            "a forward pass after it had returned changed the weights; return the model in eval "
            "mode, with nothing left to compute"
        )
    before = base.seconds.get("precompute")
    part = f", {before.wall / base.seconds['unlearn'].wall:.0%} precomputation" if before else ""
    return f"{_work(base)} within the call in every run{part}; nothing is put off"


def _again(subject: Subject) -> Trial:
    """Return a second run like the base, the one with rubbish in .grad if that did not matter."""
    base, poisoned = subject.base(), subject.trial(repeat=1, poisoned=True)
    if poisoned.usable and same(base.state, poisoned.state):
        return poisoned
    return subject.run(repeat=1)


def _replayed(trial: Trial) -> int:
    """Count batches that came back after others, with an optimiser step in between."""
    sequence = [now for before, now in pairwise([(0, -1), *trial.batches]) if before[0] != now[0]]
    last: dict[int, int] = {}
    again = 0
    for content, steps in sequence:
        again += content in last and steps > last[content]
        last[content] = steps
    return again


def _work(trial: Trial) -> str:
    examples = sum(trial.touched.values())
    return f"{examples} examples and {trial.forwards} forward passes"
