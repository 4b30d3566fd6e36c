"""Requests one after the other: disjoint sets, and nothing of what has gone in any of them."""

import pytest
import torch

from unlearn_bench.core.errors import DataError
from unlearn_bench.data import splits
from unlearn_bench.data.attributes import Attributes
from unlearn_bench.data.requests import InTurn, at_once, in_turn
from unlearn_bench.suite.forget import Forget

CLASSES = tuple("abcd")
TRAIN, TEST = torch.arange(400) % 4, torch.arange(80) % 4
SETS = ("forget", "retain", "validation")


def persons(count):
    return [f"p{i % 10}" for i in range(count)]


def fine(count):
    """Name eight fine classes, "0" and "4" of them in class a."""
    return [str(i % 8) for i in range(count)]


OF_TRAIN = {"fine": lambda: fine(400), "person": lambda: persons(400)}
OF_TEST = {"fine": lambda: fine(80), "person": lambda: persons(80)}
KNOWN = Attributes(OF_TRAIN, OF_TEST, finer="fine")


def divided(text, seed=0, attributes=KNOWN):
    forget = Forget.model_validate(text)
    return in_turn(forget, TRAIN, TEST, CLASSES, validation=0.1, seed=seed, attributes=attributes)


def held(indices):
    return {i for name in SETS for i in getattr(indices, name).tolist()}


def test_a_stream_is_divided_once_however_many_of_its_requests_are_asked_for(monkeypatch):
    asked, made = InTurn(), []
    real = splits.make
    monkeypatch.setattr(splits, "make", lambda *a, **k: made.append(a) or real(*a, **k))
    forget = Forget.model_validate("stream:class:1;random:0.1;class:2")

    def sets(seed, labels=TRAIN, divide=asked):
        turns = divide(forget, labels, TEST, CLASSES, validation=0.1, seed=seed)
        return [turn.forget.tolist() for turn in turns]

    assert sets(0) == sets(0) and len(made) == 3
    assert sets(0) == sets(0, divide=in_turn) and sets(1) == sets(1, divide=in_turn)
    other = (TRAIN + 1) % 4
    assert sets(1, other) == sets(1, other, divide=in_turn) != sets(1)


def test_what_a_request_takes_is_in_no_set_of_a_later_one():
    turns = divided("stream:class:1;random:0.1;class:2;random:0.1")
    for k, later in enumerate(turns):
        for earlier in turns[:k]:
            assert not held(later) & set(earlier.forget.tolist())
        assert [g.forget.tolist() for g in later.gone] == [t.forget.tolist() for t in turns[:k]]
        # Nothing else is lost: what is left is R of the request before.
        if k:
            left = set(later.forget.tolist()) | set(later.retain.tolist())
            assert left == set(turns[k - 1].retain.tolist())


def test_examples_of_a_class_that_went_are_neither_held_out_nor_tested_on():
    first, second, third = divided("stream:class:1;random:0.1;class:2")
    assert (TRAIN[first.validation] == 1).any()
    for later in (second, third):
        assert not (TRAIN[later.validation] == 1).any()
        assert not (TEST[later.test_retain] == 1).any()
    assert set(TEST[third.test_forget].tolist()) == {2}
    assert set(TEST[third.test_retain].tolist()) == {0, 3}
    assert (second.forget_classes, third.hidden_by_filters) == ((), (1, 2))


@pytest.mark.parametrize(
    ("asked", "values", "value"), [("subclass:4", fine, "4"), ("group:person=p4", persons, "p4")]
)
def test_what_is_like_a_fine_class_or_group_that_went_is_neither_held_out_nor_tested_on(
    asked, values, value
):
    first, *later = divided(f"stream:{asked};random:0.3;class:a;subclass:1")
    of_train, of_test = values(400), values(80)
    assert value in {of_train[i] for i in first.validation.tolist()}
    for turn in later:
        assert value not in {of_train[i] for i in held(turn)}
        for tested in (turn.test_forget, turn.test_retain):
            assert len(tested) and value not in {of_test[i] for i in tested.tolist()}
    # All other test examples are still there.
    assert len(later[0].test_retain) == 80 - of_test.count(value)


def test_where_the_test_part_lacks_a_column_nothing_of_it_is_left_out():
    known = Attributes(OF_TRAIN, {"fine": OF_TEST["fine"]}, finer="fine")
    first, second = divided("stream:group:person=p4;subclass:1", attributes=known)
    assert (len(first.test_retain), len(second.test_retain)) == (80, 70)
    assert not {i % 10 for i in second.validation.tolist()} & {4}


def test_validation_examples_that_are_all_like_what_went_are_refused():
    ours = {0, 4, *divided("stream:class:a;class:b")[0].validation.tolist()}
    sides = {"side": lambda: ["one" if i in ours else "other" for i in range(400)]}
    with pytest.raises(DataError, match="request 2 of .*every validation example is like what"):
        divided("stream:group:side=one;class:b", attributes=Attributes(sides, {}))


def test_the_first_request_is_the_scenario_of_its_name():
    for text in ("class:1", "random:0.1"):
        first = divided(f"stream:{text};class:3")[0]
        alone = splits.make(
            Forget.model_validate(text), TRAIN, TEST, CLASSES, validation=0.1, seed=0
        )
        for name in (*SETS, "test_forget", "test_retain"):
            assert torch.equal(getattr(first, name), getattr(alone, name)), name


def test_a_later_request_depends_on_no_request_after_it():
    one = divided("stream:random:0.1;class:1;class:2")
    two = divided("stream:random:0.1;class:1;random:0.3")
    for name in SETS:
        assert torch.equal(getattr(one[1], name), getattr(two[1], name))


def test_equal_shares_take_other_examples_and_are_of_what_is_left():
    turns = divided("stream:random:0.1x3")
    assert [len(turn.forget) for turn in turns] == [36, 32, 29]
    assert len(torch.cat([turn.forget for turn in turns]).unique()) == 97
    assert not torch.equal(turns[1].forget, divided("stream:random:0.1x3", seed=1)[1].forget)


def test_all_at_once_takes_what_the_requests_take_together():
    turns = divided("stream:class:1;random:0.1;class:2")
    together = at_once(turns, TRAIN)
    taken = {i for turn in turns for i in turn.forget.tolist()}
    assert set(together.forget.tolist()) == taken and not together.gone
    assert torch.equal(together.retain, turns[-1].retain)
    assert torch.equal(together.validation, turns[0].validation)
    assert together.forget_classes == ()  # a share of all classes is among it
    assert at_once(divided("stream:class:1;class:2"), TRAIN).forget_classes == (1, 2)
    # A part of a class whose rest goes later goes whole.
    assert at_once(divided("stream:class:1@0.5;class:1;class:2"), TRAIN).forget_classes == (1, 2)
    assert at_once(divided("stream:class:1@0.5;class:2"), TRAIN).forget_classes == ()
    for turn in turns:  # and the original is the same
        assert torch.equal(together.train, turn.train)


def test_named_examples_stay_in_training_until_their_request():
    held_out = divided("stream:class:1;class:2")[0].validation[:2].tolist()
    turns = divided(f"stream:class:1;indices:{held_out[0]},{held_out[1]}")
    assert set(held_out) <= set(turns[0].train.tolist())
    assert turns[1].forget.tolist() == held_out or set(held_out) >= set(turns[1].forget.tolist())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "stream:class:1;class:1",
            "request 2 of stream:class:1;class:1: class:1: the forget set is empty: "
            "an earlier request took all of it; ask for it once",
        ),
        ("stream:class:1;class:1@0.5", "request 2 .*an earlier request took all of it"),
        ("stream:subclass:4;subclass:4", "request 2 .*an earlier request took all of it"),
        ("stream:class:a;class:b;class:c;class:d", "request 4 .*nothing is left to retain"),
        ("stream:class:1;class:9", "request 2 of .*no class 9 to forget"),
    ],
)
def test_a_request_for_what_is_not_there_is_named(text, reason):
    with pytest.raises(DataError, match=reason):
        divided(text)
