"""Which layers' weights differ from the original's: a fact to read the other numbers by."""

from unlearn_bench.measure.metrics import measures
from unlearn_bench.measure.metrics.probing import probed_of
from unlearn_bench.measure.outputs import Evaluation
from unlearn_bench.results.records import Record

NAMES = ("layers_changed", "hidden_layers_changed", "layer_distance")


@measures(*NAMES)
def weights_changed(evaluation: Evaluation) -> list[Record]:
    """Return the shares of layers that changed, and each layer's distance to the original."""
    probed = probed_of(evaluation.unlearned)
    hidden = [d for layer, d in probed.layers.items() if layer not in probed.heads]
    if not hidden:
        reason = "the model has no hidden layer with weights"
        return [Record(name, "", None, status="not_applicable", reason=reason) for name in NAMES]
    return [
        Record("layers_changed", "", _share_moved(list(probed.layers.values()))),
        Record("hidden_layers_changed", "", _share_moved(hidden)),
        *(Record("layer_distance", layer, d) for layer, d in probed.layers.items()),
    ]


def _share_moved(distances: list[float]) -> float:
    return sum(distance > 0 for distance in distances) / len(distances)
