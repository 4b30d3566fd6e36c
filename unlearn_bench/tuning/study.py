"""The searches of a suite: which runs come next, and what they showed in the end.

Every method of every dataset, model and scenario is searched by itself, one trial after the
other; a trial is one run per surrogate and tuning seed. What comes next follows from results
alone, so that a study which was killed is gone through again from the results on disk, and comes
to the same runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from unlearn_bench.core.blindness import FIRST_SEED
from unlearn_bench.core.errors import ConfigError
from unlearn_bench.core.keys import content_key
from unlearn_bench.core.seeds import derive
from unlearn_bench.execution.identity import reference
from unlearn_bench.execution.trials import GAP
from unlearn_bench.plugins import registry
from unlearn_bench.results.records import RunResult
from unlearn_bench.suite.config import Plan
from unlearn_bench.suite.spec import RunSpec, Surrogate
from unlearn_bench.suite.tuned import Budget, Tuned, TunedMethod, TunedSetting
from unlearn_bench.tuning import choice, sampler
from unlearn_bench.tuning.choice import Trial

# Backward passes take about twice as long as forward ones.
BACKWARD = 2.0


def seconds_of(result: RunResult, device: str) -> float:
    """Return what a budget counts of a run: seconds of the processor, of a GPU by the clock.

    On a CPU that others use as well, the clock would give a busy hour's methods fewer trials.
    """
    return _figure(result, "wall_seconds" if device == "cuda" else "cpu_seconds")


def _figure(result: RunResult, metric: str) -> float:
    found = (r.value for r in result.records if r.metric == metric and r.split == "")
    return next((value for value in found if value is not None), 0.0)


def _gap(result: RunResult) -> float | None:
    found = (r.value for r in result.records if r.metric == GAP and r.split == "")
    return next(found, None) if result.status == "ok" else None


@dataclass
class _Setting:
    """One dataset, model and scenario: its retrainings, and the searches that wait for them.

    Attributes:
        base: A run of it, of whatever method and seed.
        waiting: Keys of retrainings without a result.
        seconds: Of those of tuning seeds that are finished.
        failed: Why a retraining failed; empty while none did.
    """

    base: RunSpec
    waiting: set[str] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)
    failed: str = ""
    searches: "list[_Search]" = field(default_factory=list)

    @property
    def retraining(self) -> float:
        return fmean(self.seconds) if self.seconds else 0.0


class Tuning:
    """All searches of a suite.

    Args:
        plan: The suite's runs as they would be without tuning.
        budget: What every method gets.

    Attributes:
        plan: The retrainings that all trials are compared with, to begin with.
    """

    def __init__(self, plan: Plan, budget: Budget) -> None:
        self.budget = budget
        self._settings: list[_Setting] = []
        self._places: dict[str, Callable[[RunResult], list[RunSpec]]] = {}
        retrainings: list[RunSpec] = []
        for runs in _by_setting(plan):
            setting = _Setting(runs[0])
            setting.searches = [_Search(spec, budget, setting) for spec in runs]
            self._settings.append(setting)
            for seed in range(budget.tuning_seeds + 1):
                cells = [reference(cell) for cell in _cells(runs[0], budget, seed)]
                for cell in cells:
                    chooses = seed < budget.tuning_seeds
                    setting.waiting.add(_name(cell))
                    self._places[_name(cell)] = self._retrained(setting, cell, chooses=chooses)
                retrainings += cells
        searched = tuple(dict.fromkeys(s.spec.method for s in self._searches()))
        self.plan = replace(
            plan,
            runs=tuple(retrainings),
            notes=(*plan.notes, *_fixed(plan)),
            tuning=budget.model_dump(mode="json"),
            searched=searched,
        )

    @property
    def most_runs(self) -> int:
        """How many runs there will be if every search uses up its trials."""
        each = self.budget.trials * self.budget.surrogates * self.budget.tuning_seeds
        checks = 2 * self.budget.surrogates
        return len(self.plan.runs) + (each + checks) * len(self._searches())

    @property
    def searched(self) -> int:
        """How many searches there are: methods times datasets, models and scenarios."""
        return len(self._searches())

    def follow_up(self, spec: RunSpec, result: RunResult) -> list[RunSpec]:
        """Take a result; return the runs that follow from it."""
        return self._places.pop(_name(spec))(result)

    def _searches(self) -> "list[_Search]":
        return [search for setting in self._settings for search in setting.searches]

    def _expect(self, search: "_Search", runs: Sequence[RunSpec]) -> list[RunSpec]:
        def taken(cell: RunSpec) -> Callable[[RunResult], list[RunSpec]]:
            return lambda result: self._expect(search, search.take(cell, result))

        for cell in runs:
            self._places[_name(cell)] = taken(cell)
        return list(runs)

    def _retrained(
        self, setting: _Setting, cell: RunSpec, *, chooses: bool
    ) -> Callable[[RunResult], list[RunSpec]]:
        def take(result: RunResult) -> list[RunSpec]:
            setting.waiting.discard(_name(cell))
            if result.status != "ok":
                setting.failed = f"retraining without the surrogate failed: {result.error}"
            elif chooses:
                setting.seconds.append(seconds_of(result, cell.device))
            if setting.waiting or setting.failed:
                return []
            return [r for s in setting.searches for r in self._expect(s, s.begin())]

        return take

    def tuned(
        self,
        fingerprint: Callable[[RunSpec], str],
        *,
        command: str,
        versions: Mapping[str, str],
    ) -> Tuned:
        """Return what was chosen.

        Args:
            fingerprint: Gives that of a run's dataset.
            command: Which made it.
            versions: Of the software.
        """
        return Tuned(
            command=command,
            suite=self.plan.suite.name,
            budget=self.budget,
            versions=dict(versions),
            settings=tuple(
                TunedSetting(
                    dataset=setting.base.dataset,
                    image_size=setting.base.image_size,
                    normalize=setting.base.normalize,
                    data=fingerprint(setting.base),
                    model=setting.base.model,
                    scenario=setting.base.forget,
                    retraining=_rounded(setting.retraining),
                    methods={s.spec.method: s.outcome() for s in setting.searches},
                )
                for setting in self._settings
            ),
        )

    def write_journal(self, folder: Any) -> None:
        """Write the trials for optuna's own tools."""
        sampler.write_journal(
            folder,
            {
                f"{s.spec.dataset} {s.spec.model.label} {s.spec.forget.name} {s.spec.method}": (
                    s.space,
                    s.tried,
                )
                for s in self._searches()
                if s.space
            },
        )


def _by_setting(plan: Plan) -> list[list[RunSpec]]:
    """Group what is to be tuned by dataset, model and scenario: methods under their own names."""
    groups: dict[str, list[RunSpec]] = {}
    for spec in plan.runs:
        entry = registry.get(spec.method)
        # How an original is trained in shards is no setting of the method's.
        whole = spec.model.sharding is None
        if whole and spec.seed == 0 and entry.kind == "method" and spec.label == spec.method:
            name = content_key(spec.model_dump(mode="json", include={"dataset", "model", "forget"}))
            groups.setdefault(name, []).append(spec)
    if not groups:
        raise ConfigError("tune: the suite has no method to tune; name some with --methods")
    return list(groups.values())


def _fixed(plan: Plan) -> list[str]:
    """Say which entries keep the setting that the suite gives them."""
    fixed = dict.fromkeys(
        spec.label
        for spec in plan.runs
        if registry.get(spec.method).kind == "method" and spec.label != spec.method
    )
    notes = [f"{', '.join(fixed)}: set by the suite, so not tuned"] if fixed else []
    sharded = dict.fromkeys(
        spec.label for spec in plan.runs if registry.get(spec.method).access.checkpoints
    )
    if sharded:
        notes.append(
            f"{', '.join(sharded)}: shards and slices are part of the protocol, so not tuned"
        )
    return notes


def _cells(spec: RunSpec, budget: Budget, seed: int) -> list[RunSpec]:
    """Return one run per surrogate under one tuning seed, counted from 0."""
    return [
        spec.model_copy(
            update={
                "seed": FIRST_SEED + seed,
                "surrogate": Surrogate(number=number, of=budget.surrogates),
            }
        )
        for number in range(budget.surrogates)
    ]


def _name(spec: RunSpec) -> str:
    return content_key(spec.identity())


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


class _Search:
    """The search for one method's setting.

    Args:
        spec: The run as the suite has it: its parameters are trial 1 if they differ from the
            published default.
        budget: What it gets.
        setting: What it shares with other methods.
    """

    def __init__(self, spec: RunSpec, budget: Budget, setting: _Setting) -> None:
        self.spec = spec
        self._budget, self._setting = budget, setting
        entry = registry.get(spec.method)
        self.space, self._code = entry.space, entry.code_key
        self._first = [entry.resolve({})]
        if spec.params != self._first[0] and budget.trials > 1:
            self._first.append(spec.params)
        place = spec.model_dump_json(include={"dataset", "model", "forget"})
        self._seed = derive(FIRST_SEED, "tuning", place, spec.method)
        self._trials: list[Trial] = []
        self._params: dict[str, Any] = {}
        self._open: dict[str, RunResult | None] = {}  # cells of the trial under way
        self._ended = ""
        self._chosen: Trial | None = None
        self._checked: list[list[float | None]] = []

    @property
    def tried(self) -> sampler.Tried:
        """Parameters and value of every trial so far, failed ones at the worst value seen."""
        found = zip(self._trials, choice.values(self._trials), strict=True)
        return [(trial.params, value) for trial, value in found]

    def begin(self) -> list[RunSpec]:
        """Return the runs of the published default."""
        return self._try(self._first[0])

    def take(self, cell: RunSpec, result: RunResult) -> list[RunSpec]:
        """Take the result of one run; return the runs that follow from it."""
        self._open[_name(cell)] = result
        results = [found for found in self._open.values() if found is not None]
        if len(results) < len(self._open):
            return []
        if self._ended:
            return self._take_check(results)
        self._trials.append(_trial(len(self._trials), self._params, results, self.spec.device))
        return self._next()

    def _next(self) -> list[RunSpec]:
        number = len(self._trials)
        if number < len(self._first):
            return self._try(self._first[number])
        if number >= self._budget.trials:
            return self._end(f"{number} trials")
        if self._left() <= 0:
            return self._end(f"the time of {self._budget.retrainings:g} retrainings")
        startup = max(1, self._budget.trials // 2)
        found = sampler.propose(
            self.space, self.tried, seed=self._seed, startup=startup, kind=self._budget.sampler
        )
        if found is None:
            return self._end("no other setting to try" if self.space else "nothing to search")
        return self._try(self._first[0] | found)

    @property
    def _whole(self) -> float:
        """Seconds that the budget gives."""
        return self._budget.retrainings * self._setting.retraining

    def _left(self) -> float:
        return self._whole - sum(trial.seconds for trial in self._trials)

    def _try(self, params: dict[str, Any]) -> list[RunSpec]:
        """Return the runs of one trial, each with its share of the time that is left.

        What is given in advance is worth more than that: the default is measured also where it
        alone uses up the time, as long as no single run takes all of it.
        """
        number = len(self._trials)
        self._params = params
        seeds = range(self._budget.tuning_seeds)
        each = self._left() / (len(seeds) * self._budget.surrogates)
        limit = self._whole if number < len(self._first) else each
        cells = [c for seed in seeds for c in self._run(params, seed, f"#{number}", limit)]
        self._open = {_name(cell): None for cell in cells}
        return cells

    def _run(
        self, params: dict[str, Any], seed: int, what: str, limit: float | None = None
    ) -> list[RunSpec]:
        label = f"{self.spec.method} {what}"
        spec = self.spec.model_copy(update={"params": params, "label": label, "limit": limit})
        return _cells(spec, self._budget, seed)

    def _end(self, why: str) -> list[RunSpec]:
        """Choose, and return the runs of the noise check where another setting was chosen."""
        self._ended = why
        self._chosen = choice.choose(self._trials)
        if self._chosen is None or self._chosen.number == 0:
            self._open = {}
            return []
        fresh, chosen = self._budget.tuning_seeds, dict(self._chosen.params)
        both = self._run(chosen, fresh, f"#{self._chosen.number} again", self._whole)
        # A default that failed, or took more than the budget, would do so again.
        if self._trials[0].gap is not None:
            both = [*self._run(self._first[0], fresh, "#0 again", self._whole), *both]
        self._open = {_name(cell): None for cell in both}
        return both

    def _take_check(self, results: Sequence[RunResult]) -> list[RunSpec]:
        gaps, cells = [_gap(result) for result in results], self._budget.surrogates
        default = gaps[:-cells] or [None] * cells
        self._checked = [default, gaps[-cells:]]
        return []

    def outcome(self) -> TunedMethod:
        """Return what came of it; the default where nothing did."""
        chosen = self._chosen
        seconds = sum(trial.seconds for trial in self._trials)
        one = self._setting.retraining
        unfinished = "not finished" if self._trials else self._setting.failed or "not begun"
        return TunedMethod(
            params=dict(chosen.params) if chosen else self._first[0],
            chosen=chosen.number if chosen else 0,
            gap=_rounded(chosen.gap) if chosen and chosen.gap is not None else None,
            error=_rounded(chosen.error) if chosen else None,
            trials=len(self._trials),
            ended=self._ended or unfinished,
            seconds=_rounded(seconds),
            retrainings=_rounded(seconds / one) if one else 0.0,
            history=tuple(t.gap if t.gap is None else _rounded(t.gap) for t in self._trials),
            failures={trial.number: trial.reason for trial in self._trials if trial.reason},
            mattered=sampler.mattered(self.space, self._succeeded()),
            check=choice.check(*self._checked) if self._checked else None,
            code=self._code,
            surrogate_data=self.spec.surrogate_data,
        )

    def _succeeded(self) -> sampler.Tried:
        return [(trial.params, trial.gap) for trial in self._trials if trial.gap is not None]


def _trial(
    number: int, params: Mapping[str, Any], results: Sequence[RunResult], device: str
) -> Trial:
    costs = [
        _figure(result, "forward_examples") + BACKWARD * _figure(result, "backward_examples")
        for result in results
    ]
    return Trial(
        number,
        params,
        tuple(_gap(result) for result in results),
        sum(seconds_of(result, device) for result in results),
        fmean(costs),
        next((result.error for result in results if result.status != "ok"), ""),
    )
