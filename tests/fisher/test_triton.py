"""The fused kernel is right: interpreted on any machine, compiled where there is a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.version import Version

SCRIPT = Path(__file__).with_name("triton_check.py")


def errors(device: str, **environment: str) -> dict[str, float]:
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


def check(found: dict[str, float]) -> None:
    for name in ("float32", "float16", "bfloat16"):
        # Halves are summed in float32: only the products' factors are rounded.
        assert found[name] < 1e-6
        assert found[f"{name} usable"] is True
    # A whole net: its halves are rounded at every layer.
    assert found["float32 routed"] < 1e-4
    assert found["float16 routed"] < 5e-3 and found["bfloat16 routed"] < 5e-2


def test_interpreted_kernel_equals_a_plain_product() -> None:
    triton = pytest.importorskip("triton")
    if Version(triton.__version__) < Version("3.7") and Version(np.__version__) >= Version("2.5"):
        pytest.skip("Triton 3.6's interpreter asks of NumPy what 2.5 no longer does")
    check(errors("cpu", TRITON_INTERPRET="1"))


@pytest.mark.gpu
def test_compiled_kernel_equals_a_plain_product() -> None:
    assert torch.cuda.is_available()
    check(errors("cuda"))


SETTINGS = """
import torch
from unlearn_bench.fisher.triton_kernels import tf32_allowed
assert not tf32_allowed()
torch.set_float32_matmul_precision("high")
assert tf32_allowed()
torch.set_float32_matmul_precision("highest")
assert not tf32_allowed()
torch.backends.cuda.matmul.allow_tf32 = True
assert tf32_allowed()
torch.backends.cuda.matmul.allow_tf32 = False
if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    assert tf32_allowed()
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    assert not tf32_allowed()
"""


def test_tf32_is_used_where_torch_is_set_to() -> None:
    pytest.importorskip("triton")
    # A process of its own: not all of these settings can be taken back.
    result = subprocess.run(
        [sys.executable, "-c", SETTINGS],
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
