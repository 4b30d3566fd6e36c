"""Map the runs of a suite over workers, into a folder that survives anything.

A run whose result is on disk is not repeated; a failed one is tried again. Whatever executes the
runs, this process, several or a cluster, the records are the same: what a run does depends on its
specification alone.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unlearn_bench.core.errors import ConfigError, OutputError
from unlearn_bench.core.quantities import in_order
from unlearn_bench.execution.backend import Backend, Event
from unlearn_bench.execution.failures import RunFailedError
from unlearn_bench.execution.folder import (
    claim,
    is_there,
    record_growth,
    refuse_if_gone,
    stands,
)
from unlearn_bench.execution.heartbeat import Heartbeat
from unlearn_bench.execution.models import SURROGATES, TRAINING
from unlearn_bench.execution.observer import Observer
from unlearn_bench.execution.order import in_turn
from unlearn_bench.execution.ownership import is_alone, joining, owned
from unlearn_bench.execution.run import EVALUATING, Runner
from unlearn_bench.execution.serial import Serial
from unlearn_bench.execution.turns import Turns
from unlearn_bench.results.brief import note_brief, read_briefs
from unlearn_bench.results.curves import write_curves
from unlearn_bench.results.facts import known_metrics, with_primary
from unlearn_bench.results.records import (
    DamagedResultError,
    RunResult,
    put_run_aside,
    read_run,
    write_records,
    write_run,
)
from unlearn_bench.suite.casting import surrogates_notes
from unlearn_bench.suite.choices import ADVICE, stale_data
from unlearn_bench.suite.config import Plan
from unlearn_bench.suite.spec import RunSpec

# Given a run and its result, returns the runs that follow from it.
FollowUp = Callable[[RunSpec, RunResult], Sequence[RunSpec]]


def execute(
    plan: Plan,
    runner: Runner,
    out: Path,
    observer: Observer,
    *,
    command: str,
    workers: Backend | None = None,
    follow_up: FollowUp | None = None,
    seed: int | None = None,
) -> list[RunResult]:
    """Run every planned run that has no result in ``out`` yet; return the results of all.

    Whatever ends this early, ``records.csv`` and ``curves.parquet`` cover what was finished.

    Args:
        plan: The runs, in order.
        runner: Knows keys, checks and environment; executes the runs where no workers do.
        out: The results folder; created if need be.
        observer: Notified of progress.
        command: The command line, for the report.
        workers: What executes the runs, not yet started; None for this process.
        follow_up: Where results decide what is to be run next, as in tuning: asked after every
            result, those on disk included. It must depend on nothing else, for a suite that was
            killed to go on as it would have.
        seed: The only one whose runs are done and returned; other processes may do others in the
            same folder at the same time. Tables then cover what all of them have finished.

    Raises:
        UserError: If the data, a model or the folder make the suite impossible; nothing has
            been run then.
    """
    keys = check_plan(plan, runner)
    team = workers or Serial(runner)
    with (
        owned(out, observer, seed),
        Heartbeat(out, observer, team.at_a_time, seed) as observer,
    ):
        there = {key: found for key in keys if (found := _readable(out, key)) is not None}
        for key in there.keys() - read_briefs(out).keys():
            if seed in (None, there[key].seed):
                note_brief(out, there[key])
        with joining(out, seed):
            alone = is_alone(out, seed)
            stored = claim(plan, runner, keys, there, out, command, alone=alone)
        _tell_of_given(plan, runner, observer)
        agenda = _Agenda(plan, runner, out, observer, there, stored, follow_up, seed)
        try:
            todo = agenda.take(plan.runs, keys)
            if todo:
                Dispatcher(todo, agenda.keys, runner, team, observer, agenda.finish).dispatch()
        finally:
            with joining(out, seed):
                agenda.write_tables()
        refuse_if_gone(out)
    return agenda.asked_for()


class _Agenda:
    """The runs of a plan and those that follow from their results, with what became of them.

    Attributes:
        keys: Of the results of all runs that are planned by now, by their place.
        results: By key.
    """

    def __init__(
        self,
        plan: Plan,
        runner: Runner,
        out: Path,
        observer: Observer,
        there: Mapping[str, RunResult],
        stored: dict[str, Any],
        follow_up: FollowUp | None,
        seed: int | None = None,
    ) -> None:
        self._plan, self._runner, self._out, self._seed = plan, runner, out, seed
        self._observer, self._there = observer, there
        self._stored, self._follow_up = stored, follow_up
        self._runs: list[RunSpec] = []
        self.keys: list[str] = []
        self.results: dict[str, RunResult] = {}

    def take(self, specs: Iterable[RunSpec], keys: Iterable[str]) -> dict[int, RunSpec]:
        """Plan runs and all that follows from results on disk; return those without a result."""
        todo: dict[int, RunSpec] = {}
        waiting = deque(zip(specs, keys, strict=True))
        while waiting:
            spec, key = waiting.popleft()
            position = len(self.keys)
            self._runs.append(spec)
            self.keys.append(key)
            if self._is_of_another(spec):
                continue
            old = _reused(position, spec, key, self._there, self._out, self._observer)
            if old is None:
                todo[position] = spec
            else:
                self.results[key] = old
                waiting += [(more, self._runner.key(more)) for more in self._following(spec, old)]
        if len(self._runs) > len(self._plan.runs):
            grown = replace(self._plan, runs=tuple(self._runs))
            record_growth(grown, self.keys, self._out, self._stored)
        return todo

    def finish(self, position: int, result: RunResult) -> dict[int, RunSpec]:
        """Keep a result; return the runs that follow from it and have none."""
        refuse_if_gone(self._out)
        write_run(self._out, result)
        note_brief(self._out, result)
        self.results[self.keys[position]] = result
        self._observer.run_finished(position, result, reused=False)
        following = self._following(self._runs[position], result)
        return self.take(following, map(self._runner.key, following)) if following else {}

    def write_tables(self) -> None:
        """Write what is finished by now into the tables, whoever finished it."""
        # An earlier process, or one at work beside this one, may have finished others.
        found = {key: self.results.get(key) or _readable(self._out, key) for key in self.keys}
        finished = [result for result in found.values() if result is not None]
        self.results |= {result.key: result for result in finished}
        if is_there(self._out):
            _insistently(lambda: write_records(self._out, finished))
            _insistently(lambda: write_curves(self._out, finished))

    def asked_for(self) -> list[RunResult]:
        """Return the results of all runs that were to be done, in the order of the plan."""
        planned = zip(self._runs, self.keys, strict=True)
        return [self.results[key] for spec, key in planned if not self._is_of_another(spec)]

    def _is_of_another(self, spec: RunSpec) -> bool:
        return self._seed is not None and spec.seed != self._seed

    def _following(self, spec: RunSpec, result: RunResult) -> Sequence[RunSpec]:
        return self._follow_up(spec, result) if self._follow_up else ()


def _insistently(write: Callable[[], object]) -> None:
    """Write, and write again if Ctrl-C came between: a second one ends everything by itself."""
    try:
        write()
    except KeyboardInterrupt:
        write()
        raise


def _readable(out: Path, key: str) -> RunResult | None:
    try:
        return read_run(out, key)
    except OutputError:
        return None


def _reused(
    position: int,
    spec: RunSpec,
    key: str,
    there: Mapping[str, RunResult],
    out: Path,
    observer: Observer,
) -> RunResult | None:
    """Return the result on disk if the run need not be repeated; a damaged one is put aside."""
    try:
        result = there.get(key) or read_run(out, key)
    except DamagedResultError as error:
        observer.notice(
            f"{error.args[0]}".partition("; ")[0]
            + f": moved to {put_run_aside(out, key)} and computed again"
        )
        return None
    if result is None or not stands(result, spec):
        return None
    observer.run_started(position, spec)
    observer.run_finished(position, result, reused=True)
    return result


class Dispatcher:
    """Gives runs out to workers, in turn, and hears what becomes of them.

    Args:
        todo: What is to be run, by its place in the plan.
        keys: Of the results of all planned runs.
        runner: Makes the results of runs whose workers do not.
        workers: What executes the runs, not yet started.
        observer: Notified of progress.
        finish: Given each result as it comes; returns what is to be run besides.
    """

    def __init__(
        self,
        todo: Mapping[int, RunSpec],
        keys: Sequence[str],
        runner: Runner,
        workers: Backend,
        observer: Observer,
        finish: Callable[[int, RunResult], Mapping[int, RunSpec]],
    ) -> None:
        self._todo, self._keys = dict(todo), keys
        self._runner, self._workers = runner, workers
        self._observer, self._finish = observer, finish
        self._turns = Turns(in_turn(todo, workers.at_a_time))
        self._failed: dict[str, str] = {}
        self._steps: dict[int, str] = {}
        self._deaths: Counter[int] = Counter()

    def dispatch(self) -> None:
        """Have every run executed.

        Raises:
            UserError: What a worker found to make the suite impossible.
        """
        with self._workers:
            while self._turns or self._workers.busy:
                self._give_out()
                self._workers.wait(self._hear)

    def _give_out(self) -> None:
        while (position := self._turns.next()) is not None:
            spec = self._todo[position]
            if not self._workers.takes(spec):
                break
            self._turns.begin()
            self._observer.run_started(position, spec)
            self._workers.submit(position, spec, self._keys[position], self._failed)

    def _hear(self, event: Event) -> None:
        if event.error is not None:
            raise event.error
        if event.step:
            self._steps[event.position] = event.step
            self._observer.step(event.position, event.step)
        if event.notice:
            self._observer.notice(event.notice)
        if event.died and self._deaths[event.position] < self._workers.retries:
            self._try_again(event)
        elif event.last:
            self._end(event)

    def _try_again(self, event: Event) -> None:
        spec = self._todo[event.position]
        self._deaths[event.position] += 1
        self._steps.pop(event.position, None)
        self._observer.notice(
            f"{spec.label} (seed {spec.seed}): {event.died}; retry "
            f"{self._deaths[event.position]} of {self._workers.retries}"
        )
        self._turns.put_first(event.position)

    def _end(self, event: Event) -> None:
        """Take note of what failed on the way, and hand the result on."""
        spec, step = self._todo[event.position], self._steps.get(event.position, "")
        result = event.result
        self._failed |= event.failed
        if result is None:
            reason = event.died or _overdue(self._workers.timeout, step)
            result = self._runner.result(spec, "failed", error=reason)
            if event.timed_out and step.startswith(TRAINING):
                self._failed[self._runner.original_key(spec)] = reason
            # A worker that ended tells nothing of what it was making.
            if step != EVALUATING:
                self._failed[result.key] = reason
        if result.status == "failed":
            self._observer.run_failed(event.trace)
        self._turns.end(event.position)
        more = self._finish(event.position, result)
        self._todo |= more
        for position in more:  # what follows from results waits for no other run
            self._turns.add(position)


def _overdue(limit: float | None, step: str) -> str:
    where = f" at {step!r}" if step else ""
    return (
        f"stopped after {limit:g} s, the --timeout of a run,{where}; give more time (training "
        "that a run depends on counts too; finished parts are kept) or use fewer epochs"
    )


def check_plan(plan: Plan, runner: Runner) -> list[str]:
    """Set up every split and every model once, so that mistakes show before hours of work.

    Returns:
        The key of each run's result.

    Raises:
        UserError: If the data, a model or the plan make the suite impossible.
    """
    with_primary(known_metrics(), plan.suite.primary)
    for note in surrogates_notes(plan.suite, plan.runs):
        runner.notify(note)
    seen: set[Any] = set()
    for spec in plan.runs:
        asked = (spec.forget.model_dump_json(), spec.scenario, spec.request)
        split = ("split", spec.dataset, *asked, spec.seed)
        given = spec.unlearned and spec.unlearned.sha256
        model = ("model", spec.dataset, spec.model.model_dump_json(), given)
        stands_in = ("surrogates", spec.dataset, spec.surrogate_data, spec.params.get(SURROGATES))
        checks: list[tuple[Any, Callable[[RunSpec], object]]] = [
            (split, runner.check_split),
            (model, runner.check_model),
            (stands_in, runner.check_surrogates),
        ]
        for what, check in checks:
            if what not in seen:
                seen.add(what)
                check(spec)
    keys = [runner.key(spec) for spec in plan.runs]
    _refuse_repeats(plan, keys)
    if plan.tuned is not None:
        for stale in stale_data(plan.runs, plan.tuned, runner.fingerprints):
            if not plan.allow_stale:
                raise ConfigError(f"params_from: {stale}; {ADVICE}")
            runner.notify(f"stale, but accepted (--allow-stale): {stale}")
    return keys


def _refuse_repeats(plan: Plan, keys: list[str]) -> None:
    by_key: dict[str, RunSpec] = {}
    for spec, key in zip(plan.runs, keys, strict=True):
        other = by_key.setdefault(key, spec)
        if other is not spec:
            raise ConfigError(
                f"methods: {other.label!r} and {spec.label!r} are the same method with the same "
                "parameters; change one or leave it out"
            )


def _tell_of_given(plan: Plan, runner: Runner, observer: Observer) -> None:
    """Say how well the user's own weights do here, who alone knows how well they should."""
    runs = [spec for spec in plan.runs if spec.surrogate is None]  # tuning reads no test image
    firsts = {(spec.dataset, spec.model.label): spec for spec in reversed(runs)}
    for spec in [spec for spec in firsts.values() if spec.original is not None]:
        try:
            right = runner.given_accuracy(spec)
        except RunFailedError:
            continue  # so will the runs, each with the reason
        data = runner.dataset(spec)
        observer.notice(
            f"the given weights classify {right:.1%} of the {spec.dataset} test images; inputs "
            f"are {data.normalization}, classes in the order {in_order(data.classes)}. If you "
            "expected more, check --mean/--std, --image-size and the order of the classes"
        )
