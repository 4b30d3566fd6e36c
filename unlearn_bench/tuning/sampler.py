"""Which setting is tried next, and which parameters mattered: all that is asked of optuna.

A proposal depends on the space, on what was tried before and on a seed, and on no state: a search
that was killed goes on as it would have.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlearn_bench.core.errors import ConfigError
from unlearn_bench.core.files import temporary_beside
from unlearn_bench.core.seeds import derive
from unlearn_bench.plugins.tunable import Choice, Dimension

if TYPE_CHECKING:
    from types import ModuleType

JOURNAL = "optuna.journal"
# Draws after which a space counts as exhausted: small ones repeat themselves.
ATTEMPTS = 20
# Digits of a number that is searched: more say nothing, and do not read well.
DIGITS = 4
# Fewer trials than this explain no variance.
FEWEST = 5

Tried = Sequence[tuple[Mapping[str, Any], float]]


@cache
def require() -> "ModuleType":
    """Return optuna.

    Raises:
        ConfigError: If it is not installed; one line that says what to do.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "optuna":
            raise
        raise ConfigError(
            "tuning needs optuna, which is not installed; pip install 'unlearn-bench[tune]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def propose(
    space: Sequence[Dimension], tried: Tried, *, seed: int, startup: int, kind: str
) -> dict[str, Any] | None:
    """Return a setting that was not tried yet; None if there seems to be none.

    Args:
        space: What is searched.
        tried: Parameters and value of every trial so far, in order; values are minimised.
        seed: Of the method's search.
        startup: Trials before which settings are drawn at random.
        kind: ``tpe``, the tree-structured Parzen estimator over all parameters together, or
            ``random``.
    """
    optuna = require()
    if not space:
        return None
    for attempt in range(ATTEMPTS):
        drawn = derive(seed, "trial", len(tried), attempt) % 2**32
        sampler = (
            optuna.samplers.TPESampler(multivariate=True, n_startup_trials=startup, seed=drawn)
            if kind == "tpe"
            else optuna.samplers.RandomSampler(seed=drawn)
        )
        study = _study(space, tried, sampler=sampler)
        asked = study.ask({dimension.name: _distribution(dimension) for dimension in space})
        found = {d.name: _readable(d, asked.params[d.name]) for d in space}
        if not any(all(other.get(n) == v for n, v in found.items()) for other, _ in tried):
            return found
    return None


def mattered(space: Sequence[Dimension], tried: Tried) -> dict[str, float]:
    """Return the share of the values' variance that each parameter explains, largest first.

    Empty where too few trials, or trials without any difference, explain nothing.
    """
    optuna = require()
    inside = [(params, value) for params, value in tried if _is_inside(space, params)]
    varied = [d for d in space if len({repr(params[d.name]) for params, _ in inside}) > 1]
    if len(inside) < FEWEST or not varied or len({value for _, value in inside}) < 2:
        return {}
    study = _study(varied, inside)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (ValueError, RuntimeError, ZeroDivisionError):
        return {}  # a parameter without any effect leaves no variance to explain
    shares = {str(name): round(float(share), DIGITS) for name, share in found.items()}
    return {name: share for name, share in shares.items() if math.isfinite(share)}


def write_journal(folder: Path, searches: Mapping[str, tuple[Sequence[Dimension], Tried]]) -> None:
    """Write all trials as optuna's journal, for its own tools to look at; nothing here reads it."""
    optuna = require()
    path = folder / JOURNAL
    temporary = temporary_beside(path)
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(temporary))
    )
    for name, (space, tried) in searches.items():
        study = optuna.create_study(study_name=name, storage=storage)
        study.add_trials(_trials(space, tried))
    if temporary.exists():
        temporary.replace(path)


def _study(space: Sequence[Dimension], tried: Tried, *, sampler: Any = None) -> Any:
    study = require().create_study(sampler=sampler)
    study.add_trials(_trials(space, tried))
    return study


def _trials(space: Sequence[Dimension], tried: Tried) -> list[Any]:
    """Return the trials that lie in the space, as a published default or a suite's own need not."""
    optuna = require()
    distributions = {dimension.name: _distribution(dimension) for dimension in space}
    return [
        optuna.trial.create_trial(
            params={dimension.name: params[dimension.name] for dimension in space},
            distributions=distributions,
            value=value,
        )
        for params, value in tried
        if _is_inside(space, params)
    ]


def _is_inside(space: Sequence[Dimension], params: Mapping[str, Any]) -> bool:
    return all(dimension.holds(params[dimension.name]) for dimension in space)


def _distribution(dimension: Dimension) -> Any:
    distributions = require().distributions
    if isinstance(dimension, Choice):
        return distributions.CategoricalDistribution(dimension.values)
    if dimension.integer:
        low, high = int(dimension.low), int(dimension.high)
        return distributions.IntDistribution(low, high, log=dimension.log)
    return distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _readable(dimension: Dimension, value: Any) -> Any:
    if isinstance(dimension, Choice) or dimension.integer:
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), dimension.low), dimension.high)
