"""Evaluate the user's own models: every metric of each of them, side by side."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import pandas as pd
import torch
from torch import nn

from unlearn_bench.analysis.table import ORIGINAL, Section, sections
from unlearn_bench.analysis.verdict import Verdict, verdicts
from unlearn_bench.core.errors import DataError, ModelError, ParameterError, UnknownNameError
from unlearn_bench.core.errors import suggestion as closest
from unlearn_bench.core.keys import content_key
from unlearn_bench.execution.identity import RETRAIN
from unlearn_bench.execution.judge import lab_of, measure, observe
from unlearn_bench.execution.models import Trio
from unlearn_bench.library.architecture import Build, copied, difference
from unlearn_bench.library.display import table_html
from unlearn_bench.library.examples import Constants, Examples
from unlearn_bench.library.task import DATA, Asked, OwnTask, undisturbed
from unlearn_bench.library.unlearning import Unlearned
from unlearn_bench.measure.metrics.cost import cost_records
from unlearn_bench.measure.outputs import Evaluation
from unlearn_bench.plugins import registry
from unlearn_bench.plugins.method import GIVEN, Method
from unlearn_bench.report.text import format_value, main_columns
from unlearn_bench.results.facts import Facts, known_metrics
from unlearn_bench.results.ratios import with_time_ratios
from unlearn_bench.results.records import Record, RunResult, table
from unlearn_bench.store.memory import Memory, artifact
from unlearn_bench.store.store import Artifact
from unlearn_bench.suite.spec import OTHER_RETRAIN, RELEARN_STEPS
from unlearn_bench.training.models import load_weights

Model: TypeAlias = nn.Module | Unlearned | str | Path


@dataclass(frozen=True, eq=False)
class Scores:
    """What :func:`evaluate` found: every metric of the unlearned model, original and retraining.

    ``scores["mia_loss_auc"]`` is the unlearned model's value. Scores of several seeds, added up,
    give means and, from a few seeds on, a verdict.

    Attributes:
        label: Name of the unlearned model in tables.
        results: The measurements, one entry per model and seed.
        fakes: Labels of controls whose weights still hold what they hide.
    """

    label: str
    results: tuple[RunResult, ...]
    fakes: frozenset[str] = frozenset()

    @property
    def records(self) -> pd.DataFrame:
        """Every record, in long form, with the columns of a suite's ``records.csv``."""
        return with_time_ratios(table(self.results))

    @property
    def verdict(self) -> Verdict:
        """The verdict on the unlearned model; a single seed gives numbers only."""
        return next(v for v in verdicts(self._section) if v.method == self.label)

    def to_frame(self) -> pd.DataFrame:
        """Return a row per metric and split, a column per model, and why a number is missing."""
        section = self._section
        names = [row.method for row in section.table.rows]
        numbers = {
            name: [self._mean(name, column) for column in section.table.columns] for name in names
        }
        missing = [self._reason(column) for column in section.table.columns]
        index = pd.Index(section.table.columns, name="metric")
        return pd.DataFrame({**numbers, "missing": missing}, index=index)

    def __getitem__(self, metric: str) -> float:
        """Return the unlearned model's value, the mean over seeds.

        Args:
            metric: Name of a metric; where it has several splits, ``"metric (split)"``.

        Raises:
            UnknownNameError: If there is no such metric.
            DataError: If it could not be measured; says why.
        """
        columns = self._section.table.columns
        value = self._mean(self.label, metric) if metric in columns else None
        if value is not None:
            return value
        of_splits = [column for column in columns if column.startswith(f"{metric} (")]
        if of_splits:
            raise UnknownNameError(f"{metric} has several splits: {', '.join(of_splits)}")
        if metric in columns:
            raise DataError(f"{metric} was not measured: {self._reason(metric)}")
        raise UnknownNameError(
            f"no metric named {metric!r}{closest(metric, columns)} (`scores.to_frame()` shows all)"
        )

    def __add__(self, other: "Scores") -> "Scores":
        """Return the scores of several seeds together.

        Raises:
            ParameterError: If both have the same seed, or name the unlearned model differently.
        """
        seeds = {result.seed for result in self.results}
        if self.label != other.label or seeds & {result.seed for result in other.results}:
            raise ParameterError(
                "scores are combined over seeds: evaluate the same method, each time with another "
                "seed="
            )
        return Scores(self.label, self.results + other.results, self.fakes | other.fakes)

    @cached_property
    def _section(self) -> Section:
        facts = Facts(known_metrics(), self.fakes)
        return sections(self.records, facts)[0]

    def _mean(self, model: str, column: str) -> float | None:
        found = self._section.table.value(model, column)
        return None if found is None else found.mean

    def _reason(self, column: str) -> str:
        if self._mean(self.label, column) is not None:
            return ""
        not_here = "it does not apply to this model or scenario"
        found = self._section.unresolved.get((self.label, column), "")
        return found or (not_here if column in self._section.not_applicable else "not measured")

    def __repr__(self) -> str:
        seeds = sorted({result.seed for result in self.results})
        return f"Scores of {self.label!r}, seed {', '.join(map(str, seeds))}: {self._said}"

    @property
    def _said(self) -> str:
        verdict = self.verdict
        rest = f" by {', '.join(verdict.apart)}" if verdict.apart else ""
        rest += f"; it lacks {', '.join(verdict.missing)}" if verdict.missing else ""
        return f"{verdict.verdict}{rest}"

    def _repr_html_(self) -> str:
        section = self._section
        models = [row.method for row in section.table.rows]

        def cell(model: str, column: str) -> str:
            found = section.table.value(model, column)
            return "" if found is None else format_value(section.facts.of(column), found)

        rows = [
            (section.facts.heading(column), *(cell(model, column) for model in models))
            for column in main_columns(section)
        ]
        notes = [f"Verdict: {self._said}.", "All metrics: scores.to_frame()."]
        return table_html(f"{section.model}, {section.scenario}", ("", *models), rows, notes)


def evaluate(
    *,
    unlearned: Model,
    original: nn.Module,
    retrained: Model | Sequence[Model] | None = None,
    forget: Examples,
    retain: Examples,
    test: Examples,
    seed: int = 0,
    device: str | torch.device = "auto",
    build: Build | None = None,
    num_classes: int | None = None,
    forget_classes: Sequence[int] | None = None,
    mean: Constants | None = None,
    std: Constants | None = None,
    scenario: str | None = None,
    relearn_steps: int = RELEARN_STEPS,
) -> Scores:
    """Compute every metric of an unlearned model beside the original and a retrained one.

    Args:
        unlearned: The result of :func:`unlearn_bench.unlearn`, a module, or a path to weights.
        original: The model before unlearning.
        retrained: Trained without ``forget``: the reference. Without one, metrics that compare
            with it are not measured. Of several the first is the reference, and the others show
            how far two retrainings differ.
        forget: Forgotten examples, in a form that :func:`unlearn_bench.unlearn` takes.
        retain: Retained training examples.
        test: Examples that no model has seen, of forgotten and retained classes.
        seed: Determines what metrics and probes draw.
        device: As for :func:`unlearn_bench.unlearn`.
        build: For ZRF, which compares with freshly initialised models.
        num_classes: Checked against the model's output, if given.
        forget_classes: Classes that were forgotten whole; by default found from the examples.
        mean: What inputs are normalised by.
        std: As ``mean``.
        scenario: Name of what was forgotten.
        relearn_steps: After how many steps the relearning probes give up.

    Raises:
        UserError: If an argument cannot be used; names it and says what to give.
    """
    asked = Asked(seed, device, None, build, num_classes, forget_classes, mean, std, scenario)
    sets: dict[str, Examples | None] = {"forget": forget, "retain": retain, "test": test}
    task = asked.task(original, sets, "ZRF", "original")
    references = [retrained] if isinstance(retrained, Model) else list(retrained or ())
    with undisturbed(task.device):
        return _judged(task, unlearned, references, relearn_steps)


def _judged(
    task: OwnTask, unlearned: Model, retrained: Sequence[Model], relearn_steps: int
) -> Scores:
    """Measure the unlearned model, and the others as if each were that."""
    references = [_weights(f"retrained[{i}]", model, task) for i, model in enumerate(retrained)]
    original, made = artifact(task.blank().state_dict()), _weights("unlearned", unlearned, task)
    method = registry.get(unlearned.method) if isinstance(unlearned, Unlearned) else None
    missing = "" if references else "no retrained model is given"
    trio = Trio(original, made, references[0] if references else None, missing)
    lab = lab_of(Memory(), task, {}, relearn_steps)
    evaluation = observe(lab, task, trio, method.outputs if method else None)
    label, kind = _label(method)
    models: dict[tuple[str, str], Evaluation] = {(label, kind): evaluation}
    for number, reference in enumerate(references):
        seen = lab.observe(reference, original)
        models[_retrained(number)] = replace(evaluation, unlearned=seen)
    models[ORIGINAL, "control"] = replace(evaluation, unlearned=evaluation.original)
    results = [_result(task, name, measure(of)[0]) for name, of in models.items()]
    if isinstance(unlearned, Unlearned):
        spent = cost_records(unlearned.cost.noted)
        results[0] = replace(results[0], records=(*results[0].records, *spent))
    _warn_of_chance(results[-1], task)
    fakes = frozenset({label} if method is not None and method.fake else ())
    return Scores(label, tuple(results), fakes)


def _label(method: Method | None) -> tuple[str, str]:
    """Return the name and kind under which the unlearned model is listed."""
    if method is None or method.name in (RETRAIN, ORIGINAL):
        return GIVEN, "method"
    return method.name, "control" if method.kind == "control" else "method"


def _retrained(number: int) -> tuple[str, str]:
    """Return the name and kind of a retrained model: the first is the reference."""
    if number == 0:
        return RETRAIN, "reference"
    return OTHER_RETRAIN + (f"-{number}" if number > 1 else ""), "control"


def _weights(name: str, given: object, task: OwnTask) -> Artifact:
    """Return the weights of a model, if it is of the original's architecture.

    Raises:
        ModelError: If it is not, or its weights are not finite.
    """
    model = task.blank()
    if isinstance(given, str | Path):
        for note in load_weights(model, Path(given)):
            warnings.warn(note, stacklevel=4)
        return artifact(model.state_dict())
    module = copied(name, given.model if isinstance(given, Unlearned) else given)
    if found := difference(module, model):
        raise ModelError(f"{name} is of another architecture than original: {found}")
    model.load_state_dict(module.state_dict())
    for tensor_name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{name}: tensor {tensor_name} holds NaN or infinity")
    return artifact(model.state_dict())


def _result(task: OwnTask, name: tuple[str, str], records: Sequence[Record]) -> RunResult:
    label, kind = name
    return RunResult(
        key=content_key([label, task.data.fingerprint, task.scenario, task.seed]),
        method=label,
        kind=kind,
        dataset=DATA,
        model=task.architecture.name,
        scenario=task.scenario,
        seed=task.seed,
        params={},
        status="ok",
        records=tuple(records),
    )


def _warn_of_chance(original: RunResult, task: OwnTask) -> None:
    """Warn where the original knows nothing: then its inputs are not those that it was made for."""
    values: Mapping[str, float | None] = {r.metric: r.value for r in original.records}
    right, chance = values["retain_accuracy"] or 0.0, 1 / task.data.num_classes
    if right < min(2 * chance, chance + (1 - chance) / 10):
        warnings.warn(
            f"original classifies {right:.1%} of retain, little more than chance: are these the "
            "images, labels and normalisation that it was trained with?",
            stacklevel=4,
        )
