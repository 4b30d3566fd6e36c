"""Methods and metrics as data frames."""

from collections.abc import Mapping

import pandas as pd

from unlearn_bench.plugins import registry
from unlearn_bench.population.metrics import MANY
from unlearn_bench.results.facts import known_metrics


def methods() -> pd.DataFrame:
    """Return the registered methods, references and controls, a row each, by name."""
    rows = {
        name: {
            "kind": entry.kind,
            "reads": str(entry.access),
            "family": entry.family,
            "year": entry.year,
            "source": entry.source,
            "what it does": entry.summary,
        }
        for name, entry in registry.methods().items()
        if entry.kind != "given"
    }
    return _frame(rows).astype({"year": "Int64"})


def metrics() -> pd.DataFrame:
    """Return the metrics, those that take many models included, a row each, by name."""
    rows = {
        name: {
            "ideal": info.ideal,
            "role": info.role or "none",
            "unit": info.unit,
            "cost": info.cost,
            "source": info.source or "this project",
            "definition": info.definition,
        }
        for name, info in {**known_metrics(), **MANY}.items()
    }
    return _frame(rows)


def _frame(rows: Mapping[str, Mapping[str, object]]) -> pd.DataFrame:
    return pd.DataFrame(list(rows.values()), index=pd.Index(rows, name="name"))
