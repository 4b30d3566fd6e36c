"""Runs begin in order, each after those that it waits for, and looking for the next is cheap."""

import pytest

from unlearn_bench.execution.turns import Turns


def all_of(turns: Turns) -> list[int]:
    """Begin and end everything, one at a time."""
    order = []
    while (position := turns.next()) is not None:
        turns.begin()
        order.append(position)
        turns.end(position)
    return order


def test_runs_begin_in_order_after_those_that_they_wait_for() -> None:
    turns = Turns({4: {2}, 1: set(), 2: {1}, 3: set()})
    assert all_of(turns) == [1, 2, 4, 3] and not turns


def test_a_run_held_back_by_two_waits_for_both() -> None:
    turns = Turns({1: set(), 2: set(), 3: {1, 2}})
    turns.begin()
    turns.begin()
    assert turns.next() is None and turns
    turns.end(2)
    assert turns.next() is None
    turns.end(1)
    assert turns.next() == 3


def test_a_run_that_is_tried_again_goes_first_and_what_follows_goes_last() -> None:
    turns = Turns({1: set(), 2: set(), 3: {1}})
    turns.begin()
    turns.put_first(1)
    turns.add(9)
    assert all_of(turns) == [1, 2, 3, 9]


class Counted(int):
    """A place in the plan that counts how often sets and dictionaries look at it."""

    looks = 0

    def __hash__(self) -> int:
        Counted.looks += 1
        return int(self)


def looks(runs: int) -> int:
    """Return how often runs are looked at until all are done, nine in ten held back by others."""
    places = [Counted(number) for number in range(runs)]
    turns = Turns({p: set() if p % 10 == 0 else {places[p - p % 10]} for p in places})
    Counted.looks = 0
    assert len(all_of(turns)) == runs
    return Counted.looks


@pytest.mark.parametrize("times", [4, 10])
def test_ten_times_as_many_runs_are_ten_times_the_work(times: int) -> None:
    assert looks(200 * times) <= 1.1 * times * looks(200)
