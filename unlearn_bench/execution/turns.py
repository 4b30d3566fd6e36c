"""Whose turn it is: runs in order, each held back until those that it waits for are done.

Each run is looked at when it joins, when one that it waits for ends, and when it begins: the work
grows with the number of runs and of what they wait for, however many are held back.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping


class Turns:
    """Runs that have not begun, by their place in the plan.

    Args:
        after: What each waits for, in the order in which they are to begin.
    """

    def __init__(self, after: Mapping[int, Iterable[int]]) -> None:
        self._missing: dict[int, set[int]] = {}
        self._held_by: dict[int, list[int]] = defaultdict(list)
        self._ready: list[tuple[int, int]] = []
        self._done: set[int] = set()
        self._rank: dict[int, int] = {}
        self._first = self._last = 0
        for position, others in after.items():
            self.add(position, others)

    def __bool__(self) -> bool:
        """Whether any run has not begun."""
        return bool(self._rank)

    def add(self, position: int, others: Iterable[int] = ()) -> None:
        """Let a run begin after those that are there already."""
        self._last += 1
        self._rank[position] = self._last
        missing = set(others) - self._done
        for other in missing:
            self._held_by[other].append(position)
        self._missing[position] = missing
        if not missing:
            heapq.heappush(self._ready, (self._last, position))

    def put_first(self, position: int) -> None:
        """Let a run that waits for nothing begin before all others."""
        self._first -= 1
        self._rank[position] = self._first
        heapq.heappush(self._ready, (self._first, position))

    def next(self) -> int | None:
        """Return the run whose turn it is, None where all that are left are held back."""
        return self._ready[0][1] if self._ready else None

    def begin(self) -> None:
        """Take out the run whose turn it is."""
        _, position = heapq.heappop(self._ready)
        del self._rank[position]

    def end(self, position: int) -> None:
        """Note that a run is done; those that waited for nothing else may begin."""
        self._done.add(position)
        for held in self._held_by.pop(position, ()):
            self._missing[held].discard(position)
            if not self._missing[held]:
                heapq.heappush(self._ready, (self._rank[held], held))
