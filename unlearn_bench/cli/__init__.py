"""The command line: parsing and printing only, a module for each group of commands.

Everything heavy is imported inside the commands, so that ``--help`` answers at once.
"""

# In the order of `--help`.
from unlearn_bench.cli import running as running  # isort: skip
from unlearn_bench.cli import tuning as tuning  # isort: skip
from unlearn_bench.cli import reporting as reporting  # isort: skip
from unlearn_bench.cli import auditing as auditing  # isort: skip
from unlearn_bench.cli import listing as listing  # isort: skip
from unlearn_bench.cli import checking as checking  # isort: skip
from unlearn_bench.cli import caching as caching  # isort: skip
from unlearn_bench.cli.app import main

__all__ = ["main"]
