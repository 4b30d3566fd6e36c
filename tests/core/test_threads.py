"""NumPy's and scikit-learn's BLAS take no more threads than torch."""

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from unlearn_bench.core.threads import as_many_as_torch


def blas_threads():
    assert np.ones(2) @ np.ones(2) == 2  # BLAS is loaded
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.mark.parametrize("count", [1, 2])
def test_blas_has_as_many_threads_as_torch_inside_the_block_and_its_own_after_it(count):
    own, before = torch.get_num_threads(), blas_threads()
    torch.set_num_threads(count)
    try:
        with as_many_as_torch():
            assert max(blas_threads(), default=count) <= count
            assert torch.get_num_threads() == count
        assert blas_threads() >= before
    finally:
        torch.set_num_threads(own)
