"""What is measured of one request of a stream beside what is measured of any scenario.

Earlier requests' examples are out of every method's reach, and the harness still has them: the
model that a later request left is asked what it knows of them.
"""

from dataclasses import replace

from unlearn_bench.data.before import Gone
from unlearn_bench.measure.lab import Lab
from unlearn_bench.measure.metrics.shares import wilson
from unlearn_bench.measure.outputs import Outputs
from unlearn_bench.plugins.method import OutputFilter
from unlearn_bench.results.records import Record
from unlearn_bench.results.stream import ALL_FORGET, EARLIER_FORGET, RELEARN_FIRST, request_split
from unlearn_bench.store.store import Artifact


def stream_records(
    lab: Lab,
    now: Outputs,
    unlearned: Artifact,
    original: Artifact,
    outputs: OutputFilter | None,
    *,
    last: bool,
) -> list[Record]:
    """Return what a model knows of all that was to be forgotten so far.

    Args:
        lab: Of the request.
        now: What the model says of this request's F.
        unlearned: The model that the request left.
        original: The model that the stream began with.
        outputs: What the model's logits pass through before anyone sees them.
        last: Whether no request follows: relearning of the first is then tried.
    """
    earlier = lab.what_went(unlearned, outputs)
    records = [
        _accuracy(EARLIER_FORGET, request_split(number), [seen])
        for number, seen in enumerate(earlier, 1)
    ]
    records.append(_accuracy(ALL_FORGET, "forget", [*earlier, now]))
    if last and earlier:
        # As the first request's probe was, with what is retained now in place of what was then.
        here = lab.indices
        first, *others = here.gone
        others.append(Gone(here.forget, here.test_forget, here.forget_classes))
        asked = replace(here, **vars(first), gone=tuple(others))
        found = replace(lab, indices=asked).relearned(unlearned, original)
        reason = f"not within {found.steps} steps" if found.censored else ""
        records.append(Record(RELEARN_FIRST, "test_forget", float(found.steps), reason=reason))
    return records


def _accuracy(metric: str, split: str, parts: list[Outputs]) -> Record:
    right = sum(int(part.correct().sum()) for part in parts)
    total = sum(map(len, parts))
    return Record(metric, split, right / total, *wilson(right, total))
