"""Tuned settings in force: which run takes which, what is stale, and what a report says of each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unlearn_bench.core.errors import ConfigError
from unlearn_bench.plugins import registry
from unlearn_bench.suite.spec import RunSpec, Suite
from unlearn_bench.suite.tuned import (
    BY_HAND,
    DEFAULT,
    Tuned,
    TunedMethod,
    TunedSetting,
    read_tuned,
    row_text,
)

ADVICE = "tune again with `unlearn-bench tune`, or accept it with --allow-stale"


@dataclass(frozen=True)
class Row:
    """How one method's setting came about.

    Attributes:
        text: In a few words, such as ``tuned (20 trials, 2 surrogates)``.
        tuned: Whether it had the budget of the others that were tuned.
    """

    text: str
    tuned: bool


def setting_name(spec: RunSpec) -> str:
    """Name a run's dataset, model and scenario as reports do."""
    return f"{spec.dataset} · {spec.model.label} · {spec.forget.name}"


@dataclass
class Choices:
    """The tuned settings of a suite.

    Attributes:
        tuned: None where the suite has none.
        lenient: Whether what does not fit is left out with a note, and not refused.
        allow_stale: Whether what does not fit is taken all the same.
        notes: What was left out, or taken all the same.
    """

    tuned: Tuned | None = None
    lenient: bool = False
    allow_stale: bool = False
    notes: dict[str, None] = field(default_factory=dict)

    @classmethod
    def of(cls, suite: Suite, *, lenient: bool, allow_stale: bool) -> "Choices":
        """Read the file that a suite names, if it names one.

        Raises:
            ConfigError: If it cannot be read.
        """
        if suite.params_from is None:
            return cls()
        return cls(read_tuned(Path(suite.params_from), "params_from"), lenient, allow_stale)

    def params_for(self, spec: RunSpec) -> Mapping[str, Any]:
        """Return the parameters that were tuned for a run's method; none where it was not.

        Raises:
            ConfigError: If they were tuned for something else.
        """
        found = self._found(spec)
        return found.params if found else {}

    def rows(self, runs: Iterable[RunSpec]) -> dict[str, dict[str, Row]]:
        """Say how the setting of every method came about, where some were tuned."""
        rows: dict[str, dict[str, Row]] = {}
        for spec in runs if self.tuned else ():
            # Ensembles have no settings to tune, and stand in a table of their own.
            if registry.get(spec.method).kind == "method" and spec.model.sharding is None:
                rows.setdefault(setting_name(spec), {})[spec.label] = self._row(spec)
        return rows

    def _row(self, spec: RunSpec) -> Row:
        assert self.tuned is not None
        found = self._found(spec)
        if found is not None:
            text = row_text(self.tuned.budget, found, spec.params)
            return Row(text, text != BY_HAND)
        default = spec.params == registry.get(spec.method).resolve({})
        return Row(DEFAULT if default else BY_HAND, False)

    def _found(self, spec: RunSpec) -> TunedMethod | None:
        """Return what was tuned for a run; an entry of another label has its own setting."""
        setting = self._setting(spec)
        if setting is None or spec.label != spec.method:
            return None
        found = setting.methods.get(spec.method)
        if found is None:
            return None
        if found.code != registry.get(spec.method).code_key:
            what = f"{spec.method} was tuned in another version of its file"
        elif found.surrogate_data != spec.surrogate_data:
            with_, without = (
                f"surrogate images of {name}" if name else "images that it makes itself"
                for name in (found.surrogate_data, spec.surrogate_data)
            )
            what = f"{spec.method} was tuned with {with_}, and not with {without}"
        else:
            return found
        return found if self._taken(what, "it runs with its defaults") else None

    def _setting(self, spec: RunSpec) -> TunedSetting | None:
        if self.tuned is None:
            return None
        # Settings are tuned for one request; of several, that may be any.
        for forget in dict.fromkeys((spec.forget, *spec.forget.requests)):
            found = self.tuned.setting(spec.model_copy(update={"forget": forget}))
            if found is not None:
                return found
        known = "; ".join(setting.name for setting in self.tuned.settings)
        what = f"settings were tuned for {known or 'nothing'}, and not for {setting_name(spec)}"
        taken = self._taken(what, "methods run with their defaults there")
        return self.tuned.settings[0] if taken and self.tuned.settings else None

    def _taken(self, what: str, otherwise: str) -> bool:
        """Say whether what does not fit is taken; a note says it, and an error where neither is.

        Raises:
            ConfigError: If it is refused.
        """
        if self.allow_stale:
            self.notes.setdefault(f"Stale, but accepted (--allow-stale): {what}.")
            return True
        if self.lenient:
            self.notes.setdefault(f"{what[:1].upper()}{what[1:]}: {otherwise}.")
            return False
        raise ConfigError(f"params_from: {what}; {ADVICE}")


def stale_data(plan_runs: Iterable[RunSpec], tuned: Tuned, data: Mapping[str, str]) -> list[str]:
    """Say which datasets are others than those that settings were tuned on.

    Args:
        plan_runs: The runs.
        tuned: The settings.
        data: Fingerprint of every dataset, by name.
    """
    said: dict[str, None] = {}
    for spec in plan_runs:
        setting = tuned.setting(spec)
        if setting is not None and data.get(spec.dataset, setting.data) != setting.data:
            said.setdefault(f"settings were tuned on a different version of {spec.dataset}")
    return list(said)
