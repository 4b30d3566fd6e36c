"""Threads of NumPy, SciPy and scikit-learn: no more than torch is given.

``torch.set_num_threads`` does not reach the BLAS that these libraries bring along. It takes all
cores, and on matrices as small as an attack's its threads spend ten times the work on waiting for
each other.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from threadpoolctl import ThreadpoolController


@contextmanager
def as_many_as_torch() -> Iterator[None]:
    """Let every BLAS use as many threads as torch does inside the block."""
    with _libraries().limit(limits=torch.get_num_threads(), user_api="blas"):
        yield


@lru_cache(maxsize=1)
def _libraries() -> ThreadpoolController:
    """Find the libraries that this process has loaded; takes ten milliseconds."""
    # Loaded first, for what comes later would not be found.
    import scipy.linalg
    import scipy.stats
    import sklearn.linear_model
    import sklearn.svm

    assert scipy.linalg and scipy.stats and sklearn.linear_model and sklearn.svm
    return ThreadpoolController()
