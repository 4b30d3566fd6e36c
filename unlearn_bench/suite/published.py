"""Figures that a paper published, to be shown beside those of a run and never mixed with them.

A suite names them as ``published: FILE#ENTRY``. An entry says for which dataset, model and scenario
they are, what each metric means in the paper's terms, and which metric of ours it is::

    repro-salun-random:
      source: Fan et al. 2024, arXiv:2310.12508
      dataset: cifar10
      model: resnet18
      scenario: random:0.1
      metrics:
        UA:
          definition: unlearning accuracy, 100 % minus the accuracy on the forget set
          ours: forget_accuracy
          complement: true
      values:
        retrain: {UA: 5.24}

An entry for several scenarios has ``scenarios`` in place of ``scenario`` and ``values``: it maps
the name of each to its values.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from unlearn_bench.core.errors import ConfigError, RefusedError, suggestion
from unlearn_bench.core.files import write_atomically
from unlearn_bench.core.reading import MIB, expand_user, read_text
from unlearn_bench.suite.forget import Spec
from unlearn_bench.suite.spec import Name
from unlearn_bench.suite.yaml_source import parse

FILE = "published.yaml"
PUBLISHED_BYTES = MIB
_ADVICE = "write FILE#ENTRY, with an entry of that file"

Text = Annotated[str, Field(max_length=1000)]
# By our label of the method, then by the paper's name of the metric.
Values = Annotated[dict[Name, dict[Name, FiniteFloat]], Field(min_length=1, max_length=1000)]
_BY_SCENARIO = ("scenario", "values", "scenarios")


class PublishedMetric(Spec):
    """One metric of a paper.

    Attributes:
        definition: What the paper measures, in its terms.
        ours: Column of ours that it is held against, such as ``forget_accuracy``.
        complement: Whether the paper's is 100 minus ours.
        difference: What differs in the definition; empty where nothing does.
    """

    definition: Text
    ours: Name
    complement: bool = False
    difference: Text = ""


class Published(Spec):
    """The figures of one dataset and model, in percent.

    Attributes:
        source: Where they stand.
        model: As reports name it.
        scenario: Whom ``values`` are for; with them, or neither is given.
        setup: What differs in the setting, beside the metrics.
        metrics: By the paper's name.
        values: By our label of the method, then by the metric's name.
        scenarios: The values of each scenario, where there are several.
    """

    source: Text
    dataset: Name
    model: Name
    scenario: Name | None = None
    setup: Text = ""
    metrics: Annotated[dict[Name, PublishedMetric], Field(min_length=1, max_length=50)]
    values: Values | None = None
    scenarios: Annotated[dict[Name, Values], Field(max_length=100)] = {}

    @model_validator(mode="after")
    def _values_are_of_metrics(self) -> "Published":
        one = {self.scenario is not None, self.values is not None}
        if one != {not self.scenarios}:
            raise ValueError("give scenario and values, or scenarios alone")
        for values in self._by_scenario().values():
            for method, by_metric in values.items():
                for name in by_metric.keys() - self.metrics.keys():
                    known = ", ".join(self.metrics)
                    raise ValueError(f"{method} has a value of {name!r}; the metrics are {known}")
        return self

    @model_serializer(mode="wrap")
    def _to_dict(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return self.without_defaults(whole(self), _BY_SCENARIO)

    def of(self, dataset: str, model: str, scenario: str) -> Mapping[str, Mapping[str, float]]:
        """Return the values of a dataset, model and scenario as reports name them; none is {}."""
        if (self.dataset, self.model) != (dataset, model):
            return {}
        return self._by_scenario().get(scenario, {})

    def _by_scenario(self) -> Mapping[str, Mapping[str, Mapping[str, float]]]:
        if self.scenario is not None and self.values is not None:
            return {self.scenario: self.values}
        return self.scenarios


def place_of(given: str) -> tuple[str, str]:
    """Split ``FILE#ENTRY``.

    Raises:
        ConfigError: If it is not of that form.
    """
    file, mark, entry = given.rpartition("#")
    if not mark or not file or not entry:
        raise ConfigError(f"published: {given!r} names no entry; {_ADVICE}")
    return file, entry


def read_published(given: str) -> Published:
    """Read an entry, given as ``FILE#ENTRY``.

    Raises:
        ConfigError: If the file cannot be read, lacks the entry, or it is not as it has to be; one
            line.
    """
    file, entry = place_of(given)
    path = expand_user(Path(file), "published")
    try:
        value = parse(read_text(path, PUBLISHED_BYTES))[1]
    except RefusedError as error:
        raise ConfigError(f"published: {error}; {_ADVICE}") from error
    except OSError as error:
        raise ConfigError(f"published: cannot read {path}: {error.strerror}; {_ADVICE}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise ConfigError(f"published: {path}{line}: {getattr(error, 'problem', error)}") from error
    entries = value if isinstance(value, Mapping) else {}
    if entry not in entries:
        known = [str(name) for name in entries]
        raise ConfigError(
            f"published: {path} has no entry {entry!r}{suggestion(entry, known)}; {_ADVICE}"
        )
    try:
        return Published.model_validate(entries[entry])
    except ValidationError as error:
        fault = error.errors()[0]
        names = ".".join(map(str, (entry, *fault["loc"])))
        message = fault["msg"].removeprefix("Value error, ")
        raise ConfigError(f"published: {path}: {names}: {message}; correct the entry") from None


def write_published(path: Path, entry: str, published: Published) -> None:
    """Write one entry into a file of its own.

    Raises:
        OutputError: If the file system refuses.
    """
    stored: dict[str, Any] = {entry: published.model_dump(mode="json", exclude_defaults=True)}
    head = "# Figures of a paper, shown beside those of this run; suite.yaml names them.\n"
    text = yaml.safe_dump(stored, sort_keys=False, allow_unicode=True, width=100)
    write_atomically(path, head + text)
