"""Canonical units: how large a step is, whatever the parametrisation of the network.

A ReLU network computes the same function when a channel is scaled by c > 0 and the weights that
read it by 1/c, or when channels change places; a convolution before BatchNorm may even be scaled
alone. A probe with a fixed step size measures that choice. Weights are therefore expressed in
units of the activity on both sides of them::

    w_ij = (r_i / q_j) v_ij        bias_i = r_i v_i

with r_i the standard deviation of output channel i and q_j the root mean square of input channel
j over some examples and all positions. Scaling multiplies a weight and its unit alike: v, its
gradient and every step of Adam on v stay what they were.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.optim import Adam

# Standardised features beyond this many standard deviations are cut: one example with huge
# features would otherwise decide what all others look like.
MOST_DEVIATIONS = 10.0
# Of a dimension's root mean square, below which its deviation is rounding.
ROUNDING = 1e-6

_PER_CHANNEL = (_BatchNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)


@dataclass(frozen=True)
class Standardiser:
    """An affine map per dimension of features, fixed once it is fitted.

    Attributes:
        mean: [D].
        scale: [D], positive.
    """

    mean: Tensor
    scale: Tensor

    @classmethod
    def of(cls, retained: Tensor, everything: Tensor) -> "Standardiser":
        """Fit to features of retained examples.

        A dimension that is constant on them is scaled by its deviation over all examples, and one
        that is constant there too by 1.

        Args:
            retained: [N, D].
            everything: Features of retained and forgotten examples, [M, D].
        """
        scale = _deviation(retained)
        for spare in (_deviation(everything), torch.ones_like(scale)):
            scale = torch.where(scale > 0, scale, spare)
        return cls(retained.mean(0), scale)

    def __call__(self, features: Tensor) -> Tensor:
        """Standardise features [N, D]; what lies far out is cut."""
        return ((features - self.mean) / self.scale).clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS)


def _deviation(rows: Tensor) -> Tensor:
    """Return the standard deviation of each dimension of [N, D], 0 where it is rounding alone."""
    scale = rows.std(0, correction=0)
    return torch.where(scale > ROUNDING * rows.square().mean(0).sqrt(), scale, 0.0)


class StandardisedHead(nn.Module):
    """A linear classifier of standardised features that begins at zero.

    Zero, not random: then neither the order nor the scale of the features matters.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, standardise: Standardiser, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", standardise.mean)
        self.register_buffer("scale", standardise.scale)
        like = standardise.mean
        self.linear = nn.Linear(len(like), num_classes, device=like.device)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map features [..., D] to logits."""
        logits: Tensor = self.linear(Standardiser(self.mean, self.scale)(x))
        return logits


@dataclass
class _Activity:
    """How large a layer's input channels are, q [in], and its output channels, r [out]."""

    q: Tensor
    r: Tensor


@torch.no_grad()
def units(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Return the unit of every weight, in the order and the shapes of ``model.parameters()``.

    Logits cannot be scaled freely, so the last layer has one unit for all of its outputs: the
    median of theirs. Weights of other kinds than linear layers, convolutions and norms are
    measured in their own root mean square.

    Args:
        model: In eval mode.
        x: Images, [N, C, H, W].
    """
    if isinstance(members := getattr(model, "members", None), nn.ModuleList):
        # An ensemble: the logits of each member are a last layer's outputs, the joint ones none.
        return [unit for member in members for unit in units(member, x)]
    seen: dict[nn.Module, _Activity] = {}
    last: list[tuple[nn.Module, Tensor]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        last[:] = [(module, output)]  # the outputs of all layers would take much memory
        if module not in seen:
            seen[module] = _activity(module, inputs[0], output)

    handles = [
        module.register_forward_hook(note) for module in model.modules() if _is_measured(module)
    ]
    try:
        logits = model(x)
    finally:
        for handle in handles:
            handle.remove()
    heads = [module for module, output in last if output is logits]
    found = {
        parameter: torch.full_like(parameter, _root_mean_square(parameter.flatten()[None]).item())
        for parameter in model.parameters()
    }
    found = {p: torch.where(unit > 0, unit, 1.0) for p, unit in found.items()}
    for module, activity in seen.items():
        r = _positive(activity.r)
        if module in heads:
            r = r.median().expand_as(r)
        q = _positive(activity.q, _by_what_reads(module, activity.q, r))
        for name, parameter in module.named_parameters(recurse=False):
            if name not in ("weight", "bias"):  # such as the gain of a standardised convolution
                continue
            unit = r if name == "bias" else _of_weight(module, parameter, q, r)
            found[parameter] = unit.expand_as(parameter).to(parameter.dtype).contiguous()
    return [found[parameter] for parameter in model.parameters()]


def _is_measured(module: nn.Module) -> bool:
    layers = (nn.Linear, _ConvNd, nn.LayerNorm, *_PER_CHANNEL)
    return isinstance(module, layers) and not getattr(module, "transposed", False)


def _activity(module: nn.Module, given: Tensor, output: Tensor) -> _Activity:
    if isinstance(module, nn.LayerNorm):
        # Its channels lie on another axis in some models: one unit for all of them.
        return _Activity(given.new_ones(1), output.std(correction=0)[None])
    axis = -1 if isinstance(module, nn.Linear) else 1
    read = _normalised(module, given).movedim(axis, 0).flatten(1)
    return _Activity(
        _root_mean_square(read), output.movedim(axis, 0).flatten(1).std(1, correction=0)
    )


def _normalised(module: nn.Module, given: Tensor) -> Tensor:
    """Return what a norm multiplies by its weight, or the input of another layer."""
    if not isinstance(module, _PER_CHANNEL):
        return given
    mean, variance = (getattr(module, f"running_{what}", None) for what in ("mean", "var"))
    if mean is None or variance is None:
        return torch.ones_like(given)
    shape = (1, -1, *(1,) * (given.dim() - 2))
    normalised: Tensor = (given - mean.view(shape)) / (variance + module.eps).sqrt().view(shape)
    return normalised


def _of_weight(module: nn.Module, weight: Tensor, q: Tensor, r: Tensor) -> Tensor:
    if weight.dim() == 1 or isinstance(module, nn.LayerNorm):
        return r / q
    groups = getattr(module, "groups", 1)
    # Output channel i of group g reads the input channels of that group.
    read = q.view(groups, -1).repeat_interleave(len(r) // groups, dim=0)
    ratio = r[:, None] / read
    return ratio.view(*ratio.shape, *(1,) * (weight.dim() - 2))


def _root_mean_square(rows: Tensor) -> Tensor:
    """Return it for each row of [C, M]; divided first, for squares may overflow."""
    most = rows.abs().amax(1).clamp(min=torch.finfo(rows.dtype).tiny)
    return (rows / most[:, None]).square().mean(1).sqrt() * most


def _positive(scales: Tensor, spare: Tensor | None = None) -> Tensor:
    """Give channels that are silent on these examples the spare scale, or else the median one."""
    alive = _alive(scales)
    median = scales[alive].median() if alive.any() else scales.new_ones(())
    if spare is not None:
        median = torch.where(_alive(spare), spare, median)
    return torch.where(alive, scales, median)


def _alive(scales: Tensor) -> Tensor:
    return scales.isfinite() & (scales > torch.finfo(scales.dtype).tiny)


def _by_what_reads(module: nn.Module, q: Tensor, r: Tensor) -> Tensor | None:
    """Return the scales of input channels at which the weights that read them are all alike.

    For channels that are silent on the examples and speak on others: their scale shows in the
    weights alone.
    """
    if isinstance(module, (nn.LayerNorm, *_PER_CHANNEL)):
        return None
    weight = module.weight
    assert isinstance(weight, Tensor)
    inputs = weight.shape[1]
    groups = len(q) // inputs
    shaped = weight.reshape(groups, len(r) // groups, inputs, -1)
    relative = shaped / r.view(groups, -1, 1, 1)
    read = relative.square().mean((1, 3)).sqrt().flatten()
    alive = _alive(q) & _alive(read)
    return (q * read)[alive].median() / read if alive.any() else None


class AdamInUnits:
    """Adam on the weights of a model, each measured in its unit.

    All weights are one long vector: a step costs a few operations, not a few for every tensor.

    Args:
        model: Changed by :meth:`step`.
        of: The unit of every weight, from :func:`units`.
        rate: Step size, in units.
    """

    def __init__(self, model: nn.Module, of: list[Tensor], rate: float) -> None:
        self._weights: list[Tensor] = list(model.parameters())
        self._units = _in_line(of)
        self._in_units = (_in_line(self._weights) / self._units).requires_grad_()
        self._adam = Adam([self._in_units], lr=rate, fused=True)

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""
        for weight in self._weights:
            weight.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Take one step along the gradients that the model's weights have; none counts as zero."""
        gradients = [
            torch.zeros_like(weight) if weight.grad is None else weight.grad
            for weight in self._weights
        ]
        self._in_units.grad = _in_line(gradients).mul_(self._units)
        self._adam.step()
        moved = (self._in_units * self._units).split([weight.numel() for weight in self._weights])
        torch._foreach_copy_(
            self._weights,
            [part.view_as(weight) for part, weight in zip(moved, self._weights, strict=True)],
        )


def _in_line(tensors: list[Tensor]) -> Tensor:
    """Return tensors as one vector."""
    return torch.cat([tensor.detach().flatten() for tensor in tensors])
