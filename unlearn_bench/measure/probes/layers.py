"""Which layers changed at all, and how far: a plain fact about the weights.

A method that calibrates the head alone leaves every hidden layer as it was, and with it whatever
the features know.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from unlearn_bench.core import classifiers


def layer_of(parameter: str) -> str:
    """Return the layer that a parameter belongs to; one of the model itself is its own layer."""
    return parameter.rpartition(".")[0] or parameter


def heads(model: nn.Module) -> tuple[str, ...]:
    """Name the layers of the classifier; without timm's interface the last layer."""
    layers = list(dict.fromkeys(layer_of(name) for name, _ in model.named_parameters()))
    inside = {id(m) for part in classifiers.parts_of(model) for m in part.modules()}
    names = {name for name, module in model.named_modules() if id(module) in inside}
    return tuple(layer for layer in layers if layer in names) or tuple(layers[-1:])


def distances(
    model: nn.Module, weights: Mapping[str, Tensor], original: Mapping[str, Tensor]
) -> dict[str, float]:
    """Return ``|w - w_O| / |w_O|`` of every layer, over its weights and biases together.

    Args:
        model: Names the parameters; statistics and other buffers do not count.
        weights: State of the model that is looked at.
        original: State of the original.
    """
    squares: dict[str, list[float]] = {}
    for name, _ in model.named_parameters():
        o, u = original[name].double(), weights[name].double()
        sums = squares.setdefault(layer_of(name), [0.0, 0.0])
        sums[0] += float((u - o).square().sum())
        sums[1] += float(o.square().sum())
    # A layer that was zero has changed entirely, or not at all.
    return {
        layer: (moved / size) ** 0.5 if size else float(moved > 0)
        for layer, (moved, size) in squares.items()
    }
