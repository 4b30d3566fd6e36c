"""What relates a run's time to retraining's: metrics that one run alone cannot know."""

from typing import TYPE_CHECKING

from unlearn_bench.results.checks import LARGEST

if TYPE_CHECKING:
    import pandas as pd

_CELL = ("dataset", "model", "scenario", "seed")


def with_time_ratios(records: "pd.DataFrame") -> "pd.DataFrame":
    """Append what relates a run's time to retraining's: two metrics that one run cannot know.

    ``time_ratio_to_retrain`` is seconds to unlearn over seconds to retrain.
    ``break_even_requests`` is from how many requests on the method is cheaper, its
    precomputation done once: p / (r - (w - p)), left out where a request saves nothing.

    The reference is the retraining of the same dataset, model, scenario, seed and request; runs
    without a finished reference get neither.
    """
    import pandas as pd

    pair = [*_CELL, *(["request"] if "request" in records.columns else [])]
    seconds = records[records["metric"] == "wall_seconds"]
    reference = seconds[seconds["kind"] == "reference"].drop_duplicates(pair)
    both = seconds.merge(reference[[*pair, "value"]], on=pair, suffixes=("", "_reference"))
    if both.empty:
        return records
    both = both.assign(low=None, high=None, gap_error=None)
    wall, retrain = both["value"].astype(float), both["value_reference"].astype(float)
    # A clock that stood still gives no ratio.
    ratio = both.assign(metric="time_ratio_to_retrain", value=wall / retrain.where(retrain > 0))
    ratio = ratio[ratio["value"].abs() <= LARGEST]
    once = records[records["metric"] == "wall_seconds_precompute"].set_index("run_key")["value"]
    precompute = both["run_key"].map(once[~once.index.duplicated()]).astype(float)
    saved = retrain - (wall - precompute)
    pays = both.assign(metric="break_even_requests", value=precompute / saved.where(saved > 0))
    pays = pays[(pays["kind"] == "method") & (saved > 0) & ~(pays["value"].abs() > LARGEST)]
    added = [part[list(records.columns)].astype(object) for part in (ratio, pays) if len(part)]
    return pd.concat([records.astype(object), *added], ignore_index=True)
