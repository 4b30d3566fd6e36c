"""What a suite would do: what of it is done, what can be reused, how long it takes, how much disk.

Everything is checked as before a real run, data are read and models set up; nothing is trained
and nothing is written. Times come from what the same methods took on the same model and data,
in the results folder or in the store; where nothing is known, that is said.
"""

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unlearn_bench.core.errors import OutputError
from unlearn_bench.core.keys import canonical_json
from unlearn_bench.core.reading import expand_user
from unlearn_bench.core.seeds import derive
from unlearn_bench.execution.durations import Durations, variants
from unlearn_bench.execution.folder import refuse_another_suite, refuse_foreign
from unlearn_bench.execution.identity import RETRAIN, reference
from unlearn_bench.execution.memorisation import HALVES
from unlearn_bench.execution.models import wants_log
from unlearn_bench.execution.order import awaited
from unlearn_bench.execution.run import Runner
from unlearn_bench.execution.scheduler import check_plan
from unlearn_bench.measure import probes
from unlearn_bench.measure.metrics.zrf import RANDOM_MODELS
from unlearn_bench.results.brief import read_briefs
from unlearn_bench.results.records import RunResult, read_run
from unlearn_bench.store import layout
from unlearn_bench.suite.config import Plan
from unlearn_bench.suite.spec import RunSpec

# A run's JSON with its log, and its rows in records.csv; a log of a thousand entries takes more.
RESULT_BYTES = 50_000
# The log of a training keeps the changes in float64.
LOG_PER_MODEL = 2
ORIGINAL = "the original's training"


@dataclass
class Group:
    """All runs of one dataset, model and scenario.

    Attributes:
        name: Which.
        originals: By seed, whether the original is in the store.
        planned: Runs by label.
        done: Of them with a result in the folder.
        stored: Of the others, those whose unlearned model is in the store.
    """

    name: str
    originals: dict[int, bool] = field(default_factory=dict)
    planned: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    stored: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Forecast:
    """What a suite would do.

    Attributes:
        groups: What is planned.
        runs: How many runs.
        done: Of them with a result in the folder.
        seconds: What is known of the time that is left.
        unknown: Of what it is not known how long it takes, and how often it is left.
        basis: What the time is told from.
        disk: Bytes that are written at most, by what.
        free: Bytes free, by place.
        short: Places that are too small.
    """

    groups: tuple[Group, ...]
    runs: int
    done: int
    seconds: float
    unknown: Mapping[str, int]
    basis: str
    disk: Mapping[str, int]
    free: Mapping[str, int]
    short: tuple[str, ...]


def forecast(plan: Plan, runner: Runner, home: Path, out: Path, at_a_time: int = 1) -> Forecast:
    """Look at all that a run of ``plan`` into ``out`` would look at, and do nothing.

    Args:
        plan: The runs.
        runner: Knows keys, data and models.
        home: The artifact store.
        out: The results folder, which need not exist.
        at_a_time: How many runs would go on side by side.

    Raises:
        UserError: What would make the suite impossible.
    """
    keys = check_plan(plan, runner)
    refuse_foreign(out)
    refuse_another_suite(plan, out)
    layout.check_layout(home)
    briefs = read_briefs(out)
    results = [_finished(out, key, briefs.get(key)) for key in keys]
    todo = {p: spec for p, spec in enumerate(plan.runs) if results[p] is None}
    watch = _Watch(plan, results, home)
    work = _Work(runner, home, watch)
    for position, others in sorted(awaited(todo).items()):
        work.add(todo[position], trains=not others)
    disk = dict(work.disk) | {"results": len(todo) * RESULT_BYTES}
    need = {home: disk["models"] + disk["logits and features"], out: disk["results"]}
    free = {place: shutil.disk_usage(_existing(place)).free for place in need}
    if _existing(home).stat().st_dev == _existing(out).stat().st_dev:
        need = dict.fromkeys(need, sum(need.values()))
    return Forecast(
        _groups(plan, results, runner, home),
        len(keys),
        len(keys) - len(todo),
        watch.seconds / max(1, min(at_a_time, len(todo))),
        watch.unknown,
        watch.basis(),
        disk,
        {str(place): size for place, size in free.items()},
        tuple(str(place) for place in need if need[place] > free[place]),
    )


def _groups(
    plan: Plan, results: list[RunResult | None], runner: Runner, home: Path
) -> tuple[Group, ...]:
    """Count what is planned, done and stored, by dataset, model and scenario."""
    groups: dict[str, Group] = {}
    for spec, result in zip(plan.runs, results, strict=True):
        name = f"{spec.dataset} · {spec.model.label} · {spec.scenario}"
        group = groups.setdefault(name, Group(name))
        original, unlearned = (
            layout.holds(home, kind, runner.identity(spec, kind))
            for kind in ("original", "unlearned")
        )
        group.originals[spec.seed] = original
        group.planned[spec.label] += 1
        group.done[spec.label] += result is not None
        group.stored[spec.label] += result is None and unlearned
    return tuple(groups.values())


class _Work:
    """Adds up what is to be made: the time goes to the watch, the bytes to :attr:`disk`."""

    def __init__(self, runner: Runner, home: Path, watch: "_Watch") -> None:
        self.disk = Counter({"models": 0, "logits and features": 0})
        self._runner, self._home, self._watch = runner, home, watch
        self._sizes = _Sizes(runner)

    def add(self, spec: RunSpec, trains: bool) -> None:
        """Add a run with what it needs, which may have been removed from the store since.

        Args:
            spec: The run.
            trains: Whether it trains the original if that is missing, and logs that on the way.
        """
        identity, watch = self._runner.identity, self._watch
        model = self._sizes.model(spec)
        looked_at = 1
        training, made = identity(spec, "original"), identity(spec, "unlearned")
        original = layout.holds(self._home, "original", training)
        if not original and watch.is_new(training):
            looked_at += 1
            # Of an ensemble, a checkpoint of every slice is kept besides.
            slices = spec.model.sharding.slices if spec.model.sharding else 0
            self.disk["models"] += (1 + slices) * model
            if spec.original is None:
                watch.train(spec)
        memorised = spec.forget.memorised is not None
        if memorised and self._is_missing("memorisation", identity(spec, "memorisation")):
            self.disk["models"] += len(HALVES) * model
            watch.train(spec)  # two halves of the data, one after the other
        retrain = reference(spec)
        retrained = identity(retrain, "unlearned")
        if retrained != made and self._is_missing("unlearned", retrained):
            looked_at += 1
            self.disk["models"] += model
            watch.run(retrain, unlearned=False)
        unlearned = not self._is_missing("unlearned", made)
        self.disk["models"] += 0 if unlearned else model
        self.disk["logits and features"] += looked_at * self._sizes.views(spec)
        logs = wants_log(spec) and not unlearned
        if logs and self._is_missing("training_log", identity(spec, "training_log")):
            self.disk["models"] += LOG_PER_MODEL * model
            if original or not trains:
                watch.train(spec)
        watch.run(spec, unlearned)

    def _is_missing(self, kind: str, identity: Mapping[str, Any]) -> bool:
        """Say whether something is to be made that nobody asked for before."""
        return not layout.holds(self._home, kind, identity) and self._watch.is_new(identity)


class _Watch:
    """Adds up the time of what is left."""

    def __init__(self, plan: Plan, results: list[RunResult | None], home: Path) -> None:
        self.seconds = 0.0
        self.unknown: Counter[str] = Counter()
        self._durations = Durations()
        self._sources: list[str] = []
        self._assumed: set[str] = set()
        self._asked: set[str] = set()
        finished = [result for result in results if result is not None]
        for result in finished:
            self._durations.add_result(result, plan.suite.recipe.epochs)
        stored = self._durations.add_store(home, plan.runs[0].device)
        if finished:
            self._sources.append(f"{len(finished)} finished runs in the results folder")
        if stored:
            self._sources.append(f"{stored} models in the store")

    def is_new(self, identity: Mapping[str, Any]) -> bool:
        """Say whether nobody asked for this before."""
        key = canonical_json(identity)
        new = key not in self._asked
        self._asked.add(key)
        return new

    def train(self, spec: RunSpec) -> None:
        """Add the training of an original, or its repetition for a log of it."""
        where = (spec.dataset, spec.model.label)
        seconds = self._durations.original(where, spec.recipe.epochs)
        if seconds is None:
            self.unknown[ORIGINAL] += 1
        self.seconds += seconds or 0.0

    def run(self, spec: RunSpec, unlearned: bool) -> None:
        """Add unlearning, unless that is in the store, and evaluating."""
        where = (spec.dataset, spec.model.label)
        exactly, any_recipe = variants(spec.method, spec.params, spec.recipe.model_dump())
        there = unlearned or spec.unlearned is not None
        seconds = 0.0 if there else self._durations.unlearning(where, [spec.label, exactly])
        if seconds is None and spec.method == RETRAIN:
            seconds = self._durations.original(where, spec.recipe.epochs)
            assumption = "retraining assumed to take as long as the original's training"
            self._assumed |= set() if seconds is None else {assumption}
        if seconds is None:
            seconds = self._durations.unlearning(where, [any_recipe])
            assumption = "some estimated from another training recipe"
            self._assumed |= set() if seconds is None else {assumption}
        evaluating = self._durations.evaluating(where)
        if seconds is None or evaluating is None:
            self.unknown[spec.label] += 1
        self.seconds += (seconds or 0.0) + (evaluating or 0.0)

    def basis(self) -> str:
        """Say what the time is told from."""
        if not self._sources:
            return "no earlier runs to estimate from"
        return "; ".join([f"from {' and '.join(self._sources)}", *sorted(self._assumed)])


class _Sizes:
    """How many bytes a model takes, and what is kept of looking at one."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._models: dict[str, tuple[int, int]] = {}
        self._views: dict[str, int] = {}

    def model(self, spec: RunSpec) -> int:
        """Return the bytes of its weights and buffers."""
        return self._model(spec)[0]

    def _model(self, spec: RunSpec) -> tuple[int, int]:
        key = f"{spec.dataset} {spec.model.model_dump_json()}"
        if key not in self._models:
            model = self._runner.check_model(spec)
            size = sum(tensor.nbytes for tensor in model.state_dict().values())
            width = getattr(model, "num_features", 0)
            self._models[key] = size, width if isinstance(width, int) else 0
        return self._models[key]

    def views(self, spec: RunSpec) -> int:
        """Return the bytes of float64 logits on all parts, and of the probes' float32 features."""
        key = f"{spec.dataset} {spec.model.model_dump_json()} {spec.asked} {spec.seed}"
        if key not in self._views:
            data, indices = self._runner.dataset(spec), self._runner.check_split(spec)
            chosen = probes.choose(indices, data.train.labels, derive(spec.seed, "probes"))
            looked_at = (
                len(data.train.labels)
                + len(data.test.labels)
                + len(chosen.forget)
                + len(chosen.tested)
                + RANDOM_MODELS * len(indices.forget)
            )
            features = (len(chosen.fit) + len(chosen.tested)) * self._model(spec)[1]
            self._views[key] = 8 * looked_at * data.num_classes + 4 * features
        return self._views[key]


def _finished(out: Path, key: str, brief: RunResult | None) -> RunResult | None:
    """Return a result that would not be made again, in brief where that is known."""
    try:
        result = brief or read_run(out, key)
    except OutputError:
        return None
    return result if result is not None and result.status == "ok" and not result.error else None


def _existing(path: Path) -> Path:
    """Return the closest folder that is there already: it lies on the same disk."""
    path = expand_user(path, "--out").absolute()
    return next(parent for parent in (path, *path.parents) if parent.is_dir())
