"""The fused kernel is right: interpreted on any machine, compiled where there is a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packaging.version import Version

SCRIPT = Path(__file__).with_name("triton_check.py")


def errors(device: str, **environment: str) -> dict[str, Any]:
    # A process of its own: Triton decides at import whether to interpret.
    result = subprocess.run(
        [sys.executable, str(SCRIPT), device],
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[2]), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def check(found: dict[str, Any]) -> None:
    for name in ("float32", "float16", "bfloat16"):
        # Halves are summed in float32: only the products' factors are rounded.
        assert found[name] < 1e-6
        assert found[f"{name} usable"] is True
    # A whole net: its halves are rounded at every layer.
    assert found["float32 routed"] < 1e-4
    assert found["float16 routed"] < 5e-3 and found["bfloat16 routed"] < 5e-2
    # TF32 is used where torch is set to: off at first, then on and off in each of its ways.
    assert found["tf32"] in ([False] + [True, False] * n for n in (2, 3))


@pytest.mark.thorough
def test_interpreted_kernel_equals_a_plain_product() -> None:
    triton = pytest.importorskip("triton")
    if Version(triton.__version__) < Version("3.7") and Version(np.__version__) >= Version("2.5"):
        pytest.skip("Triton 3.6's interpreter asks of NumPy what 2.5 no longer does")
    check(errors("cpu", TRITON_INTERPRET="1"))


@pytest.mark.gpu
def test_compiled_kernel_equals_a_plain_product() -> None:
    assert torch.cuda.is_available()
    check(errors("cuda"))
