"""``tuned.yaml``: which settings tuning chose, and how, for suites and reports to use.

One entry per dataset, model and scenario, in it one per method. What was tuned for another
dataset, model, scenario or version of a method is stale, and refused unless asked for.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from unlearn_bench.core.errors import ConfigError, RefusedError
from unlearn_bench.core.files import write_atomically
from unlearn_bench.core.keys import content_key
from unlearn_bench.core.reading import MIB, expand_user, read_text
from unlearn_bench.suite.forget import Forget, Spec
from unlearn_bench.suite.spec import ModelSpec, Normalize, RunSpec
from unlearn_bench.suite.yaml_source import parse

FILE = "tuned.yaml"
FORMAT = 1
TUNED_BYTES = 16 * MIB

DEFAULT, BY_HAND = "default", "set by the suite"


class Budget(Spec):
    """What every method gets.

    Attributes:
        trials: Settings that are tried at most, the published default among them.
        retrainings: Time of all trials, in that of one retraining; no trial begins after it.
        surrogates: Surrogate forget sets.
        tuning_seeds: Seeds that each trial runs under.
        sampler: What chooses the settings after a random first half.
    """

    trials: PositiveInt = 20
    retrainings: PositiveFloat = 10.0
    surrogates: PositiveInt = 2
    tuning_seeds: PositiveInt = 2
    sampler: Literal["tpe", "random"] = "tpe"

    def __str__(self) -> str:
        return (
            f"at most {self.trials} trials and {self.retrainings:g} times one retraining per "
            f"method, {self.surrogates} surrogate{'s' * (self.surrogates != 1)}, "
            f"{self.tuning_seeds} tuning seed{'s' * (self.tuning_seeds != 1)}"
        )


class NoiseCheck(Spec):
    """The chosen setting and the default once more, on a tuning seed that chose nothing.

    Attributes:
        default: Gap of the default in points, the mean over surrogates; None if it failed.
        tuned: That of the chosen setting.
        difference: Tuned minus default: negative where tuning helped.
        low: Lower end of its 95 % interval; None for a single surrogate.
        high: Upper end.
    """

    default: float | None = None
    tuned: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None


class TunedMethod(Spec):
    """What tuning made of one method in one setting.

    Attributes:
        params: All parameters, chosen.
        chosen: Number of the chosen trial; 0 is the published default.
        gap: Its mean gap to the surrogates' retraining, in points; None where all trials failed.
        error: Standard error of that.
        trials: How many were run.
        ended: What ended the search.
        seconds: What the trials took, in the seconds that budgets count.
        retrainings: That in times of one retraining.
        history: Gap of each trial in order, None for a failed one.
        failures: Why trials failed, by their number.
        mattered: Share of the gap's variance that each parameter explains (fANOVA).
        check: The noise check; None where the default was chosen.
        code: Hash of the method's file.
        surrogate_data: The dataset whose images it read, where it read those of another.
    """

    params: dict[str, Any]
    chosen: NonNegativeInt = 0
    gap: float | None = None
    error: float | None = None
    trials: NonNegativeInt = 0
    ended: str = ""
    seconds: NonNegativeFloat = 0.0
    retrainings: NonNegativeFloat = 0.0
    history: tuple[float | None, ...] = ()
    failures: dict[int, str] = {}
    mattered: dict[str, float] = {}
    check: NoiseCheck | None = None
    code: str
    surrogate_data: str | None = None


class TunedSetting(Spec):
    """One dataset, model and scenario.

    Attributes:
        data: Fingerprint of the dataset.
        retraining: Seconds of one retraining.
    """

    dataset: str
    image_size: int | None = None
    normalize: Normalize | None = None
    data: str
    model: ModelSpec
    scenario: Forget
    retraining: NonNegativeFloat = 0.0
    methods: dict[str, TunedMethod] = {}

    @property
    def name(self) -> str:
        """Dataset, model and scenario in words."""
        return f"{self.dataset} · {self.model.label} · {self.scenario.name}"

    def fits(self, spec: RunSpec) -> bool:
        """Whether this was tuned for the run's dataset, model and scenario."""
        return (self.dataset, self.image_size, self.normalize, self.model, self.scenario) == (
            spec.dataset,
            spec.image_size,
            spec.normalize,
            spec.model,
            spec.forget,
        )


class Tuned(Spec):
    """The content of ``tuned.yaml``.

    Attributes:
        command: That made it.
        versions: Of the software that it was made with.
    """

    format: int = FORMAT
    command: str = ""
    suite: str = ""
    budget: Budget = Budget()
    versions: dict[str, str] = {}
    settings: tuple[TunedSetting, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Hash of all of it."""
        return content_key(self.model_dump(mode="json"))

    def setting(self, spec: RunSpec) -> TunedSetting | None:
        """Return the entry that was tuned for the run's dataset, model and scenario."""
        return next((setting for setting in self.settings if setting.fits(spec)), None)


def row_text(budget: Budget, method: TunedMethod, params: Mapping[str, Any]) -> str:
    """Say in a few words how the parameters in force came about."""
    if dict(params) != method.params:
        return BY_HAND
    trials = f"{method.trials} trial{'s' * (method.trials != 1)}"
    surrogates = f"{budget.surrogates} surrogate{'s' * (budget.surrogates != 1)}"
    if method.gap is None:
        return f"default (all {trials} of tuning failed)"
    return f"tuned ({trials}, {surrogates})"


def read_tuned(path: Path, where: str) -> Tuned:
    """Read a file of tuned settings.

    Args:
        path: The file.
        where: What named it, for errors: a flag or a suite's file.

    Raises:
        ConfigError: If it cannot be read or is no such file; one line.
    """
    path = expand_user(path, where)
    advice = "give a tuned.yaml that `unlearn-bench tune` wrote"
    try:
        _, value = parse(read_text(path, TUNED_BYTES))
    except RefusedError as error:
        raise ConfigError(f"{where}: {error}; {advice}") from error
    except OSError as error:
        raise ConfigError(f"{where}: cannot read {path}: {error.strerror}; {advice}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise ConfigError(
            f"{where}: {path}{line}: {getattr(error, 'problem', error)}; {advice}"
        ) from error
    if not isinstance(value, dict) or "settings" not in value:
        raise ConfigError(f"{where}: {path} holds no tuned settings; {advice}")
    if value.get("format", FORMAT) != FORMAT:
        raise ConfigError(
            f"{where}: {path} is of format {value['format']!r}, this version reads {FORMAT}: "
            "upgrade unlearn-bench, or tune again"
        )
    try:
        return Tuned.model_validate(value)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        raise ConfigError(f"{where}: {path}: {place}: {fault['msg']}; {advice}") from None


def write_tuned(path: Path, tuned: Tuned) -> None:
    """Write a file of tuned settings, readable and without what says nothing.

    Raises:
        OutputError: If the file system refuses.
    """
    stored = tuned.model_dump(mode="json", exclude_defaults=True)
    # Always said, defaults or not: they are what a reader asks first.
    stored = {"format": FORMAT} | stored | {"budget": tuned.budget.model_dump(mode="json")}
    order = ("format", "command", "suite", "budget", "versions", "settings")
    stored = {name: stored[name] for name in order if name in stored}
    head = "# Made by the command below; `run SUITE --params` and `params_from:` read it.\n"
    text = yaml.safe_dump(
        stored, sort_keys=False, allow_unicode=True, width=100, default_flow_style=None
    )
    write_atomically(path, head + text)
