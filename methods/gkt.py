"""GKT, gated knowledge transfer: a fresh student learns all but F from the original, without data.

Neither F nor R is read: only which classes are forgotten. A generator turns z from N(0, I) into
images x that teacher (the original) and student disagree on, and a gate lets through only those
to which the teacher gives the forgotten classes a probability of at most 0.01 together. A round
draws z and takes

1. one step of the generator on  ``-KL(teacher || student)``,
2. ten steps of the student on   ``KL(teacher || student) + 250 sum_l |A_l^S - A_l^T|^2``

on what passes the gate of its images, with A_l the attention of block l: the mean over channels of
its squared output, at length 1. Both terms are means over their entries as well, as published: the
divergence is divided by the number of classes, the squares by that of places.

What the student knows of the classes kept comes from made-up images alone: it takes thousands of
rounds. The student runs in eval mode, in which the official code's first evaluation leaves it: of
BatchNorm only scale and shift are learned. The official code adapts its step sizes to the loss on
test images; here they stay. Where the gate stops everything 100 times in a row, the generator goes
back to what it was up to 50 rounds before.

Source: Chundawat et al., IEEE TIFS 2023, arXiv:2201.05629; particulars as the official code has
them.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.optim import Adam

from unlearn_bench.api import (
    Access,
    BatchNormMode,
    Check,
    Context,
    Fraction,
    MethodError,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Tunable,
    blocks,
    check_finite,
    frozen_copy,
    kl_divergence,
    method,
    renew,
    training,
)

LATENT = 128
CLIP = 5.0
# Batches in a row that the gate may stop, and rounds between the generator's saved states.
PATIENCE, SAVED_EVERY = 100, 50


@method(
    "gkt",
    access=Access.NONE,
    source="arXiv:2201.05629",
    family="data-free",
    year=2023,
    forgets=("class", "classes"),
    check=Check(
        quick={"rounds": 2, "student_steps": 2, "batch_size": 16, "threshold": 0.5},
        probes={"threshold": 0.05, "batch_size": 12},
    ),
)
def gkt(
    model: nn.Module,
    ctx: Context,
    *,
    rounds: Annotated[PositiveInt, Tunable(tune=False)] = 4000,
    student_steps: Annotated[PositiveInt, Tunable(tune=False)] = 10,
    threshold: Annotated[Fraction, Tunable(0.001, 0.5, log=True)] = 0.01,
    attention_weight: NonNegativeFloat = 250.0,
    lr: PositiveFloat = 1e-3,
    batch_size: PositiveInt = 256,
    batch_norm: BatchNormMode = "eval",
) -> nn.Module:
    """Teach a fresh student with images that a generator makes up and the gate lets through.

    Args:
        rounds: Each with one step of the generator. Official code.
        student_steps: Steps of the student per round. Official code.
        threshold: Largest probability of the forgotten classes that passes the gate. Official
            code.
        attention_weight: Of the attention term. Official code.
        lr: Adam step size of the generator and of the student. Official code.
        batch_size: Images per step before the gate. Official code.
        batch_norm: What the student's BatchNorm does with the batches' statistics; ``eval``
            normalises by those of an untrained network, 0 and 1. Official code.
    """
    if not ctx.forget_classes:
        raise MethodError("gkt forgets whole classes; it knows no single examples")
    teacher, student = frozen_copy(model), model
    renew(student, ctx.new_model(pretrained=False), [student])
    source = Generator(ctx.input_shape).to(next(student.parameters()))
    made = Adam(source.parameters(), lr=lr)
    learned = Adam(student.parameters(), lr=lr)
    gate = Gate(teacher, source, ctx, threshold, batch_size)
    with training(student, batch_norm), attentions(student) as mine, attentions(teacher) as theirs:
        for number in range(rounds):
            if number % SAVED_EVERY == 0:
                gate.save()
            x, believed = gate.images()
            loss = -kl_divergence(believed, student(x)) / ctx.num_classes
            step(made, loss)
            ctx.log(generator_loss=loss, passed=len(x) / batch_size)
            with torch.no_grad():
                x, believed = gate.images(again=True)
            wanted = list(theirs)
            for _ in range(student_steps):
                divergence = kl_divergence(believed, student(x)) / ctx.num_classes
                apart = torch.zeros((), device=ctx.device)
                for a, b in zip(mine, wanted, strict=True):
                    apart = apart + (a - b).square().mean()
                loss = divergence + attention_weight * apart
                step(learned, loss)
                ctx.log(student_loss=loss, divergence=divergence)
            if number % SAVED_EVERY == 0:
                check_finite(loss, "lower gkt.lr")
    check_finite(loss, "lower gkt.lr")
    return student


class Generator(nn.Module):
    """Images from noise: a linear layer, then twice as large and twice as large again.

    Args:
        shape: Of the images, (C, H, W); what is made beyond it is cut off.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, self.height, self.width = shape
        self.start = (128, -(-self.height // 4), -(-self.width // 4))
        self.linear = nn.Linear(LATENT, self.start[0] * self.start[1] * self.start[2])
        self.layers = nn.Sequential(
            nn.BatchNorm2d(128),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(128, 128, 3, padding=1),
            nn.BatchNorm2d(128),
            nn.LeakyReLU(0.2),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(128, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Map noise [N, 128] to normalised images [N, C, H, W]."""
        images: Tensor = self.layers(self.linear(z).view(-1, *self.start))
        return images[..., : self.height, : self.width]


class Gate:
    """Draws images and lets through those that the teacher takes for none of the forgotten.

    Args:
        teacher: Frozen, in eval mode.
        source: The generator.
        ctx: For the forgotten classes and random numbers.
        threshold: Largest probability of the forgotten classes together.
        batch_size: Images drawn at once.
    """

    def __init__(
        self, teacher: nn.Module, source: nn.Module, ctx: Context, threshold: float, batch_size: int
    ) -> None:
        self._teacher, self._source, self._ctx = teacher, source, ctx
        self._threshold, self._size = threshold, batch_size
        self._forgotten = torch.tensor(ctx.forget_classes, device=ctx.device)
        self._z = torch.zeros(())
        self.save()

    def save(self) -> None:
        """Remember the generator as it is, to go back to."""
        self._saved = copy.deepcopy(self._source.state_dict())

    def images(self, again: bool = False) -> tuple[Tensor, Tensor]:
        """Return images [N, C, H, W] that pass, at least two, and the teacher's logits.

        Args:
            again: Whether to begin with the noise of the last call.

        Raises:
            MethodError: If none pass even from the generator's saved state.
        """
        for attempt in range(2 * PATIENCE):
            if attempt == PATIENCE:
                self._source.load_state_dict(self._saved)
            if attempt or not again:
                z = torch.randn(self._size, LATENT, generator=self._ctx.rng)
                self._z = z.to(next(self._source.parameters()))
            x = self._source(self._z)
            logits = self._teacher(x)
            passed = logits.softmax(1)[:, self._forgotten].sum(1) <= self._threshold
            if passed.sum() > 1:
                return x[passed], self._teacher(x[passed])
        raise MethodError(
            f"of {self._size} images that gkt makes, fewer than two are to the original none of "
            f"the forgotten classes, at most {self._threshold:g} of the probability: raise "
            "gkt.threshold or gkt.batch_size"
        )


@contextmanager
def attentions(model: nn.Module) -> Iterator[list[Tensor]]:
    """Within the block, keep the attention of each block of the model's last pass, [N, places]."""
    parts = blocks(model)
    found: list[Tensor] = []

    def note(part: nn.Module, _: object, output: Tensor | tuple[Tensor, ...]) -> None:
        out = output if isinstance(output, Tensor) else output[0]
        if part is parts[0]:
            found.clear()
        # Tokens have their channels last; a vector has no places but its entries.
        squared = out.square() if out.dim() == 2 else out.square().mean(-1 if out.dim() == 3 else 1)
        found.append(normalize(squared.flatten(1)))

    handles = [part.register_forward_hook(note) for part in parts]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Take one step down the loss, the gradient clipped to norm 5."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    moving = [p for group in optimizer.param_groups for p in group["params"]]
    nn.utils.clip_grad_norm_(moving, CLIP)
    optimizer.step()
