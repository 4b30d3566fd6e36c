"""The rules for every registered method, checked on a small real task: `unlearn-bench check`.

Every check is a small function in `running`, `effects` or `conduct`; it looks at runs that a
`Subject` makes once and keeps, on a `World` of some hundred digits. Mistakes that published code
made are planted in ``tests/methods/broken`` and must be found.

What a method may do here and could still do wrong elsewhere: nothing is claimed of its quality,
only of its conduct.
"""

import time
from collections.abc import Collection, Iterator

import torch

from unlearn_bench.conformance import conduct, effects, running
from unlearn_bench.conformance.check import REGISTERED, Check
from unlearn_bench.conformance.finding import Finding, Status
from unlearn_bench.conformance.subject import (
    DoesNotRunError,
    FailedError,
    NotApplicableError,
    Subject,
)
from unlearn_bench.plugins.method import Method

# What needs the runs of the others comes last.
CHECKS = {
    check.name: check
    for module in (running, effects, conduct)
    for check in REGISTERED
    if check.look.__module__ == module.__name__
}

NO_RUN = "the method does not run"

__all__ = ["CHECKS", "NO_RUN", "Finding", "examine"]


def examine(method: Method, only: Collection[str] | None = None) -> Iterator[Finding]:
    """Check a method and yield a finding per check.

    Args:
        method: Registered.
        only: Names of checks; all by default.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more threads than such small tensors can feed wait for each other
    try:
        subject = Subject(method)
        for check in CHECKS.values():
            if only is None or check.name in only:
                yield _finding(check, subject)
    finally:
        torch.set_num_threads(threads)


def _finding(check: Check, subject: Subject) -> Finding:
    start = time.process_time()
    status: Status
    try:
        status, seen = "passed", check.look(subject)
    except NotApplicableError as reason:
        status, seen = "skipped", str(reason)
    except DoesNotRunError as error:
        runs = subject.trial().usable
        status, seen = ("failed", str(error)) if runs else ("skipped", NO_RUN)
    except FailedError as error:
        status, seen = "failed", str(error)
    line = " ".join(seen.split())
    return Finding(check.name, status, line, check.why, time.process_time() - start)
