"""Drawing on several cores: what is drawn is the same, byte for byte."""

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from unlearn_bench.core.errors import OutputError

# Lines of tables from which it pays: each takes a tenth of a second, and each process two or three
# of imports, so that on two cores more is saved from here on than spent.
FEWEST_LINES = 150
# A session that goes on, as a notebook does, is rid of them after so many seconds.
_IDLE = 10

Of = TypeVar("Of")
Made = TypeVar("Made")


def cores() -> int:
    """Return on how many cores this process may run: affinity and containers limit them.

    ``LOKY_MAX_CPU_COUNT`` lowers the number.
    """
    import joblib

    return int(joblib.cpu_count())


def side_by_side(make: Callable[[Of], Made], given: Sequence[Of], lines: int) -> list[Made]:
    """Return what ``make`` returns of each, in order; on several cores if there is much to draw.

    Args:
        make: A function of a module, called within the style of matplotlib that is in force.
        given: What it is called with; can be pickled.
        lines: How many lines of tables are drawn in all.

    Raises:
        OutputError: If a process that draws is killed.
    """
    count = min(len(given), cores()) if lines >= FEWEST_LINES else 1
    if count < 2:
        return [make(one) for one in given]
    import matplotlib
    from joblib import Parallel, delayed

    # All but what opens windows.
    style: dict[Any, Any] = {
        k: v for k, v in matplotlib.rcParams.items() if not k.startswith("backend")
    }
    # Joblib starts fresh processes that leave the caller's script alone. A fork would copy the
    # locks that threads hold, pyarrow's or a notebook's, but not the threads that free them, and
    # multiprocessing's other ways run a script without a __main__ guard once more. Large
    # arrays would come mapped from files, read-only: max_nbytes forbids it.
    team = Parallel(n_jobs=count, backend="loky", max_nbytes=None, idle_worker_timeout=_IDLE)
    try:
        return list(team(delayed(_styled)(make, one, style) for one in given))
    except BrokenProcessPool:
        raise OutputError(
            "a process that drew figures was killed, most likely for lack of memory; free some, or "
            "set LOKY_MAX_CPU_COUNT=1 to draw in one process, then run the same command again"
        ) from None


def _styled(make: Callable[[Of], Made], one: Of, style: dict[Any, Any]) -> Made:
    import matplotlib

    with matplotlib.rc_context(style), warnings.catch_warnings():
        silence()
        return make(one)


def silence() -> None:
    """Let a label in a script that the measuring font lacks be: the reader's own font draws it."""
    warnings.filterwarnings("ignore", message="Glyph .* missing from font")
