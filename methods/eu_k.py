"""EU-k, exact unlearning of the last k layers: train those from scratch on R, freeze the rest.

Gives the last k convolutions and linear layers and the norms after them a fresh initialisation,
BatchNorm's statistics included, and trains them on R with the recipe of the original. This is exact
in these layers only: the frozen layers keep what they know of F. Over all layers it is retraining,
so if the recipe begins with pre-trained weights, the renewed layers begin with those too.

Two departures from the official code, which renews convolutions and linear layers alone and has
the whole model in train mode: statistics of the renewed norms hold F and are renewed, and frozen
norms keep theirs.

Source: Goel et al. 2022, arXiv:2201.06640; particulars as the official code has them.
"""

from torch import nn

from unlearn_bench.api import (
    Access,
    Check,
    Context,
    PositiveInt,
    TailUnit,
    last_layers,
    method,
    renew,
    tail,
)


@method(
    "eu_k",
    access=Access.RETAIN,
    source="arXiv:2201.06640",
    family="partial retraining",
    year=2022,
    check=Check(probes={"unit": "blocks"}),
)
def eu_k(
    model: nn.Module, ctx: Context, *, k: PositiveInt = 3, unit: TailUnit = "layers"
) -> nn.Module:
    """Renew the last layers and train them on R.

    Args:
        k: Layers or blocks that are renewed with all that comes after them; at least as many as
            there are means the whole model. Official code: 1 to 3 unless said, 10 and 50 of a
            ResNet-110.
        unit: Count convolutions and linear ``layers`` from the end, or ``blocks``, a ResNet's
            being layer1 to layer4. Official code: layers.
    """
    parts = last_layers(model, k) if unit == "layers" else tail(model, k)
    renew(model, ctx.new_model(), parts)
    return ctx.train(model, ctx.retain, only=parts)
