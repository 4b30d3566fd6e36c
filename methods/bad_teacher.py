"""Bad teaching: imitate an untrained model on the forget set and the original on the rest.

Minimises the mean of ``KL(softmax(teacher(x) / T) || softmax(f(x) / T))`` over F and a share of
R, shuffled together, where the teacher is a randomly initialised model for F and the original
for R. No labels are used. Both teachers stay in eval mode.

The bad teacher is untrained even if the recipe starts from pre-trained weights, as in the official
code for ResNets: features of a pre-trained teacher could separate the forgotten class from the
others. An architecture whose head starts at zero has an exactly uniform bad teacher; the log's
``bad_teacher_spread`` is then 0.

The default, one pass at 1e-4, expects a hundred steps or more. Where F and the share of R fill only
four batches, as in the suite mnist-small, nothing is forgotten. With ``lr=0.01, epochs=5`` 0.3 % of
F is left there, and accuracy on R is 92 % (one seed).

Source: Chundawat et al., AAAI 2023, arXiv:2205.08096.
"""

import torch
from torch import nn
from torch.optim import Adam

from unlearn_bench.api import (
    Access,
    BatchNormMode,
    Check,
    Context,
    PositiveFloat,
    PositiveInt,
    check_finite,
    frozen_copy,
    kl_divergence,
    method,
    training,
)

# Paper: 30 % of R, drawn once.
SOME_RETAIN = Access(retain=True, retain_fraction=0.3)


@method(
    "bad_teacher",
    access=Access.FORGET | SOME_RETAIN,
    source="arXiv:2205.08096",
    family="distillation",
    year=2023,
    check=Check(quick={"batch_size": 32}),
)
def bad_teacher(
    model: nn.Module,
    ctx: Context,
    *,
    epochs: PositiveInt = 1,
    lr: PositiveFloat = 1e-4,
    batch_size: PositiveInt = 256,
    temperature: PositiveFloat = 1.0,
    batch_norm: BatchNormMode = "train",
) -> nn.Module:
    """Distil both teachers into the model.

    Args:
        epochs: Passes over F and the share of R. Paper.
        lr: Adam step size. Official code.
        batch_size: Examples per step; 128 for transformers. Official code.
        temperature: Softens teachers and student; above 1 gradients shrink with it. Official
            code.
        batch_norm: What BatchNorm does with the batches' statistics. Official code: train, the
            mode that its models are in when unlearning begins; it sets the teachers' alone.
    """
    with ctx.precompute():
        original = frozen_copy(model)
        untrained = frozen_copy(ctx.new_model(pretrained=False))
    optimizer = Adam(model.parameters(), lr=lr)
    everyone = ctx.forget + ctx.retain
    with training(model, batch_norm):
        for _ in range(epochs):
            for x, _, positions in everyone.traced(1, batch_size):
                # The union holds F first.
                forgotten = (positions < len(ctx.forget)).unsqueeze(1)
                with torch.no_grad():
                    nothing = untrained(x)
                    target = torch.where(forgotten, nothing, original(x))
                loss = kl_divergence(target, model(x), temperature)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                ctx.log(divergence=loss, bad_teacher_spread=nothing.std(dim=1).mean())
            check_finite(loss, "lower bad_teacher.lr")
    return model
