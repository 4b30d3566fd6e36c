"""How originals and retrained models are trained, and what devices make of what is left out."""

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from unlearn_bench.suite.forget import Spec

# How a recipe is computed; added later, as the fields of suites in _ADDED were.
_HOW = ("precision", "memory_format", "compile")
# How a device trains unless a recipe says otherwise. On a CPU two timm families crash in the
# backward pass of channels-last images.
_PLAIN = {"precision": "fp32", "memory_format": "contiguous"}
_BY_DEVICE = {"cuda": {"precision": "tf32", "memory_format": "channels_last"}}


class Recipe(Spec):
    """How the original and every retrained model are trained.

    Attributes:
        epochs: Passes over the training set.
        batch_size: Examples per step; the last, shorter batch of a pass is kept.
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        lr: Peak learning rate.
        momentum: Momentum of SGD; unused by the others.
        weight_decay: L2 penalty (``adam``, ``sgd``) or decoupled decay (``adamw``).
        schedule: ``cosine`` to zero over all steps, or ``constant``.
        warmup: Share of all steps over which the learning rate rises linearly.
        augment: ``none``, ``crop``, ``crop-flip``, or ``auto``: what the dataset is usually
            trained with.
        precision: ``fp32``; ``bf16``, with products in bfloat16 and weights in float32; or
            ``tf32``, on CUDA devices only. Evaluation stays in fp32. None means the device's
            default: tf32 on CUDA, fp32 elsewhere.
        memory_format: ``contiguous`` or ``channels_last``, how images lie in memory in training.
            None means the device's default: channels_last on CUDA, contiguous elsewhere.
        compile: Whether training runs through torch.compile; on a CPU that needs a C++ compiler.
    """

    epochs: PositiveInt = 10
    batch_size: PositiveInt = 128
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: PositiveFloat = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    augment: Literal["auto", "none", "crop", "crop-flip"] = "auto"
    precision: Literal["fp32", "tf32", "bf16"] | None = None
    memory_format: Literal["contiguous", "channels_last"] | None = None
    compile: bool = False

    def on(self, device: str) -> "Recipe":
        """Return the recipe as a device computes it, as keys and records have it.

        Values that are left out become the device's defaults. Where these are what results have
        always been computed by, they stay left out, and explicit ones of the same meaning too.

        Args:
            device: Its type, such as ``cpu`` or ``cuda``.
        """
        if device in _BY_DEVICE:
            default: dict[str, str | None] = dict(_BY_DEVICE[device])
            values = {name: getattr(self, name) or default[name] for name in _PLAIN}
        else:
            given = {name: getattr(self, name) for name in _PLAIN}
            values = {k: None if v == _PLAIN[k] else v for k, v in given.items()}
        return self.model_copy(update=values)

    @model_serializer(mode="wrap")
    def _to_dict(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what older results know nothing of, where it is as it was for them."""
        return self.without_defaults(whole(self), _HOW)
