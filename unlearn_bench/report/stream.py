"""The section on a stream of requests: what came back, what was lost, and what it all cost."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from unlearn_bench.analysis.estimate import Estimate
from unlearn_bench.analysis.stream import FIGURES, Stream
from unlearn_bench.analysis.table import Section
from unlearn_bench.core.quantities import in_order
from unlearn_bench.report.text import NONE, TextTable, format_value, plus_minus
from unlearn_bench.results.stream import DEARER_FROM, EROSION, REVERSAL, STREAM

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

TITLE = "Request by request"
BACK, OVER_REQUESTS = "What came back", "Utility and cost over the requests"
# What of the reverse order stands beside the stream's own.
_IN_BOTH = (REVERSAL, EROSION)
_READING = (
    "Reversal is the most that came back of any request's examples after a later one, in points "
    "of accuracy and beyond what comes back in retraining; erosion is what retain accuracy loses "
    "with each request, against retraining without all that was asked for so far. Of reversal, "
    "retrain_other_seed shows what chance alone gives. The batch gap is how much farther from "
    "retraining the stream ends than the same requests made at once."
)
_BACK_READING = (
    "Accuracy on what each request took, right after it and after every later one, minus that of "
    "the model retrained without all that was asked for so far, in points. A row that rises is "
    "knowledge that came back; one that begins high was never forgotten."
)
_OVER_READING = (
    "After each request: the gaps of retain and of test retain accuracy to retraining, in points, "
    "and the time of all requests so far, in % of retraining after each of them."
)
_GAPS = {"retain gap": "retain_accuracy", "test retain gap": "test_retain_accuracy"}


def stream_tables(stream: Stream | None, section: Section) -> tuple[TextTable, ...]:
    """Return what is said of a stream; nothing where the scenario is none."""
    if stream is None or stream.reference is None:
        return ()
    rows = [row.method for row in section.table.rows if row.method in stream.methods]
    methods = [method for method in rows if method != stream.reference]
    if not methods:
        return ()
    return (_summary(stream, methods), _matrix(stream, methods), _over(stream, methods))


def reading_of(stream: Stream | None) -> str:
    """Say which request the first table of a stream is about; nothing where there is no stream."""
    if stream is None:
        return ""
    last = len(stream.requests)
    return (
        f"After request {last} of {last}, and of what that one took; "
        f"the tables under “{TITLE}” have all of them."
    )


def stream_note(stream: Stream | None, section: Section) -> tuple[str, ...]:
    """Say in one line what came back under each method, for a terminal."""
    if stream is None or stream.reference is None:
        return ()
    found = {
        row.method: value.mean
        for row in section.table.of_kind("method")
        if row.method in stream.methods and (value := stream.reversal(row.method)) is not None
    }
    if not found:
        return ()
    ordered = sorted(found, key=lambda method: (-found[method], method))
    named = [f"{method} {100 * found[method]:.1f}" for method in ordered]
    return (f"Came back over {len(stream.requests)} requests, points: {in_order(named)}",)


def _summary(stream: Stream, methods: list[str]) -> TextTable:
    heads = [STREAM[name].heading for name in FIGURES] + [STREAM[DEARER_FROM].heading]
    back = stream.reverse
    heads += [f"{STREAM[name].heading}, other order" for name in _IN_BOTH] if back else []

    def cells(method: str) -> Iterator[str]:
        yield from (_cell(name, find(stream, method)) for name, find in FIGURES.items())
        dearer = stream.dearer_from(method)
        yield NONE if dearer is None else f"request {dearer}"
        if back:
            there = method in back.methods
            yield from (
                _cell(name, FIGURES[name](back, method) if there else None) for name in _IN_BOTH
            )

    lines = tuple((method, *cells(method)) for method in methods)
    names = "; ".join(f"{k}. {name}" for k, name in enumerate(stream.requests, 1))
    return TextTable(
        TITLE, "", ("Method", *heads), lines, notes=(_READING, f"The requests: {names}.")
    )


def _cell(name: str, value: Estimate | None) -> str:
    return NONE if value is None else format_value(STREAM[name], value)


def _matrix(stream: Stream, methods: list[str]) -> TextTable:
    length = len(stream.requests)
    lines = []
    for method in methods:
        found = stream.came_back(method)
        for j, request in enumerate(stream.requests):
            cells = (_points(stream, method, found[j, k]) for k in range(length))
            lines.append((f"{method}: {j + 1}. {request}", *cells))
    heads = (f"After {k}" for k in range(1, length + 1))
    return TextTable(BACK, "", ("Taken", *heads), tuple(lines), notes=(_BACK_READING,))


def _over(stream: Stream, methods: list[str]) -> TextTable:
    lines = []
    for method in methods:
        for name, accuracy in _GAPS.items():
            gaps = stream.utility(method, accuracy)
            lines.append((f"{method}: {name}", *(_points(stream, method, gap) for gap in gaps)))
        once = stream.retraining_seconds(method).cumsum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = stream.seconds(method) / once
        lines.append((f"{method}: time", *(_share(stream, method, share) for share in shares)))
    heads = (f"After {k}" for k in range(1, len(stream.requests) + 1))
    return TextTable(OVER_REQUESTS, "", ("Method", *heads), tuple(lines), notes=(_OVER_READING,))


def _points(stream: Stream, method: str, values: "Floats") -> str:
    mean = stream.over_seeds(method, values)
    return NONE if mean is None else plus_minus(mean.scaled(100), 1, sign=True)


def _share(stream: Stream, method: str, values: "Floats") -> str:
    mean = stream.over_seeds(method, values)
    return NONE if mean is None else f"{100 * mean.mean:.0f} %"
