"""Long records as tables of numbers: a row per method, seed and unlearning, a column per metric."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from unlearn_bench.analysis.estimate import Z

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What the distance is made of, and the first columns of every table, in this order.
ACCURACIES = ("forget_accuracy", "retain_accuracy", "test_forget_accuracy", "test_retain_accuracy")


def seeds_of(values: pd.DataFrame, method: str) -> pd.DataFrame:
    """Return the rows of one method, indexed by seed alone."""
    return values[values.index.get_level_values("method") == method].droplevel("method")


def rows_of(values: pd.DataFrame) -> dict[str, "NDArray[np.intp]"]:
    """Return the places of every method's rows, in order of appearance."""
    if values.empty:
        return {}
    groups = values.groupby(level="method", sort=False).indices
    return {
        str(m): np.asarray(groups[m])
        for m in dict.fromkeys(values.index.get_level_values("method"))
    }


def last_requests(records: pd.DataFrame) -> pd.DataFrame:
    """Return the records of each stream's last request, and all of other scenarios."""
    if not (records["request"] != 0).any():
        return records
    places = ["dataset", "model", "scenario"]
    last = records.groupby(places, sort=False)["request"].transform("max")
    return records[records["request"] == last]


def pivoted(measured: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return values per method, seed and unlearning, and standard errors over examples.

    The errors are per method and seed, those of the first unlearning that has any: first of the
    values themselves, then of their gaps to retraining.
    """
    columns = list(dict.fromkeys(measured["column"]))
    index = ["method", "seed", "draw"]
    values = measured.pivot_table(index=index, columns="column", values="value")
    values = values.reindex(columns=columns).astype(float)
    places = values.droplevel("draw").index.unique()

    def errors(found: "pd.Series[float]") -> pd.DataFrame:
        first = measured.assign(found=found).pivot_table(
            index=index[:2], columns="column", values="found", aggfunc="first"
        )
        return first.reindex(index=places, columns=columns).astype(float)

    halves = (measured["high"].astype(float) - measured["low"].astype(float)) / 2
    return values, errors(halves / Z), errors(measured["gap_error"].astype(float))


def over_unlearnings(each: pd.DataFrame) -> pd.DataFrame:
    """Return the means over unlearnings from the same original, per method and seed."""
    if not each.index.get_level_values("draw").any():
        return each.droplevel("draw")
    return each.groupby(level=["method", "seed"]).mean()


def unlearnings(each: pd.DataFrame) -> dict[str, int]:
    """Return how often each method unlearned from an original at most."""
    counts = each.groupby(level=["method", "seed"]).size()
    return {str(m): int(n) for m, n in counts.groupby(level="method").max().items()}


def gaps_to(values: pd.DataFrame, reference: str | None) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the gaps to retraining, and the accuracies that the distance is made of."""
    if reference is None:
        return pd.DataFrame(np.nan, index=values.index, columns=values.columns), ()
    retrained = seeds_of(values, reference).droplevel("draw")
    has_value = retrained.notna().any()
    compared = tuple(name for name in ACCURACIES if has_value.get(name, False))
    seed_of_row = values.index.get_level_values("seed")
    return values - retrained.reindex(seed_of_row).set_axis(values.index), compared


def columns_of(records: pd.DataFrame) -> "pd.Series[str]":
    """Name each record's column: the metric, with its split where it has several."""
    splits = records.groupby("metric")["split"].transform("nunique")
    return records["metric"].where(splits < 2, records["metric"] + " (" + records["split"] + ")")
