"""The fused kernel is right: interpreted on any machine, compiled where there is a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).with_name("triton_check.py")


def errors(device: str, **environment: str) -> dict[str, float]:
    # A process of its own: Triton decides at import whether to interpret.
    result = subprocess.run(
        [sys.executable, str(SCRIPT), device],
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[2]), **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_interpreted_kernel_equals_a_plain_product() -> None:
    pytest.importorskip("triton")
    found = errors("cpu", TRITON_INTERPRET="1")
    assert found["torch.float32"] < 1e-6
    # Halves are summed in float32: only their products' inputs are rounded.
    assert found["torch.float16"] < 1e-6
    assert found["usable"] is True and found["routed"] < 1e-4


@pytest.mark.gpu
def test_compiled_kernel_equals_a_plain_product() -> None:
    assert torch.cuda.is_available()
    found = errors("cuda")
    assert found["torch.float32"] < 1e-6 and found["torch.float16"] < 1e-6
    assert found["usable"] is True and found["routed"] < 1e-4
