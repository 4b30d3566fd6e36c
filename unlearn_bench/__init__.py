"""unlearn-bench: compare machine-unlearning methods honestly.

Plug-in authors import from :mod:`unlearn_bench.api`; the command line lives in
:mod:`unlearn_bench.cli`. Importing this package is cheap: it loads no torch.
"""

__version__ = "0.1.0"
