"""What metrics record is kept as far as it is a number that means can be taken of."""

import math

import pytest

from unlearn_bench.measure.metrics import sound
from unlearn_bench.results.records import Record


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 1e61])
@pytest.mark.parametrize("place", ["value", "low", "high"])
def test_a_number_that_no_mean_holds_is_unresolved(place: str, value: float) -> None:
    found = sound(Record("m", "forget", **{"value": 0.5} | {place: value}))
    assert (found.value, found.low, found.high, found.status) == (None, None, None, "unresolved")
    assert str(value) in found.reason


def test_other_records_stay_as_they_are() -> None:
    for record in (Record("m", "f", 0.5, 0.4, 0.6), Record("m", "f", None, status="unresolved")):
        assert sound(record) is record
