"""EU-k, exact unlearning of the last k layers: train those anew on R and freeze the rest.

Gives the last k blocks, the final norm and the head a fresh initialisation, their BatchNorm
statistics included, and trains them on R by the very recipe of the original. Exact in these
layers only: what the frozen ones know of F they keep. Over all layers it is retraining, so that
where the recipe begins with pre-trained weights the renewed layers begin with those too.

The official code keeps the BatchNorm statistics, which hold F, and the head; neither is
offered.

Source: Goel et al. 2022, arXiv:2201.06640.
"""

from torch import nn

from unlearn_bench.api import Access, Context, PositiveInt, method, renew, tail


@method(
    "eu_k",
    access=Access.RETAIN,
    source="arXiv:2201.06640",
    family="partial retraining",
    year=2022,
)
def eu_k(model: nn.Module, ctx: Context, *, k: PositiveInt = 1) -> nn.Module:
    """Renew the last k blocks and train them on R.

    Args:
        k: Blocks that are renewed with all that comes after them; at least as many as there are
            means the whole model. A ResNet's are layer1 to layer4. Common practice: 1.
    """
    parts = tail(model, k)
    renew(model, ctx.new_model(), parts)
    return ctx.train(model, ctx.retain, only=parts)
