"""The device that a user names: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""

import torch

from unlearn_bench.core.errors import ConfigError


def find_device(name: str, given: str) -> torch.device:
    """Return the device that ``name`` means here.

    Args:
        name: As the user wrote it; ``auto`` is a GPU where there is one.
        given: How it was given, for messages, such as ``--device cuda``.

    Raises:
        ConfigError: If there is none of that name here.
    """
    gpu = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if gpu else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"{given}: not a device; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and not gpu:
        raise ConfigError(f"{given}: torch sees no CUDA device here; use auto or cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ConfigError(f"{given}: this machine has {count} GPU(s), counted from 0")
    return device
