"""What comes of one check of a plug-in."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Finding:
    """What came of one check.

    Attributes:
        check: Its name.
        status: ``skipped`` where it says nothing about this plug-in.
        seen: What was seen, in one line.
        why: Why it matters, in one line.
        seconds: CPU time it took; runs that several checks share count for the first.
    """

    check: str
    status: Status
    seen: str
    why: str
    seconds: float
