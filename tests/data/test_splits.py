"""The sets of a scenario: disjoint, complete, stratified, and the same for the same seed."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unlearn_bench.core.errors import DataError
from unlearn_bench.data.attributes import Attributes
from unlearn_bench.data.draws import hold_out
from unlearn_bench.data.splits import LEAST_TARGETS, Indices, make, targets
from unlearn_bench.suite.forget import Forget

CLASSES = tuple("cat dog emu fox gnu".split())
# 20 examples of each of 5 classes, in no order; 8 of each in the test part.
TRAIN = (torch.arange(100) * 7) % 5
TEST = (torch.arange(40) * 3) % 5


def divide(
    text: str, seed: int = 0, train: Any = TRAIN, test: Any = TEST, validation: float = 0.1
) -> Indices:
    forget = Forget.model_validate(text)
    return make(forget, train, test, CLASSES, validation=validation, seed=seed)


def counts(labels: torch.Tensor) -> list[int]:
    return labels.bincount(minlength=5).tolist()


@settings(max_examples=60, deadline=None)
@given(
    text=st.sampled_from(
        ["class:1", "classes:0,3", "class:1@0.4", "random:0.1", "random:0.9", "indices:1,2,99"]
    ),
    seed=st.integers(0, 1000),
    validation=st.sampled_from([0.05, 0.1, 0.5]),
)
def test_every_training_example_is_in_exactly_one_set(
    text: str, seed: int, validation: float
) -> None:
    sets = divide(text, seed, validation=validation)
    everyone = torch.cat([sets.forget, sets.retain, sets.validation])
    assert everyone.sort().values.tolist() == list(range(100))
    for chosen in (sets.forget, sets.retain, sets.validation, sets.test_forget, sets.test_retain):
        assert len(chosen) and chosen.tolist() == sorted(set(chosen.tolist()))
    assert sets.train.tolist() == sorted(sets.forget.tolist() + sets.retain.tolist())


def test_a_class_is_forgotten_whole() -> None:
    sets = divide("classes:3,dog")
    assert set(TRAIN[sets.forget].tolist()) == {1, 3}
    assert set(TRAIN[sets.retain].tolist()) == {0, 2, 4}
    assert sets.forget_classes == (1, 3)
    assert counts(TEST[sets.test_forget]) == [0, 8, 0, 8, 0]
    assert counts(TEST[sets.test_retain]) == [8, 0, 8, 0, 8]
    assert len(sets.forget) == 2 * 18  # two of twenty are validation


def test_a_class_named_twice_is_forgotten_once() -> None:
    assert divide("classes:dog,1").forget.tolist() == divide("class:1").forget.tolist()


def test_a_random_share_is_of_the_training_set_and_tested_class_by_class() -> None:
    sets = divide("random:0.1")
    assert len(sets.forget) == 9  # of 90, 10 of 100 being validation
    assert sets.forget_classes == ()
    assert sets.test_retain.tolist() == list(range(40))
    assert counts(TEST[sets.test_forget]) == counts(TRAIN[sets.forget])


def test_a_large_forget_set_is_tested_on_as_much_as_there_is_in_its_proportions() -> None:
    forget = [
        *(TRAIN == 0).nonzero().flatten().tolist(),
        *(TRAIN == 1).nonzero().flatten().tolist()[:10],
    ]
    sets = divide("indices:" + ",".join(map(str, forget)))
    assert counts(TRAIN[sets.forget]) == [20, 10, 0, 0, 0]
    assert counts(TEST[sets.test_forget]) == [8, 4, 0, 0, 0]


def test_named_examples_are_forgotten_even_if_they_were_to_be_held_out() -> None:
    held_out = hold_out(TRAIN, 0.1, 0)
    sets = divide(f"indices:{int(held_out[0])},{int(held_out[1])}")
    assert sets.forget.tolist() == held_out[:2].tolist()
    assert sets.validation.tolist() == held_out[2:].tolist()


def test_the_held_out_share_is_taken_of_every_class() -> None:
    assert counts(TRAIN[hold_out(TRAIN, 0.25, 0)]) == [5, 5, 5, 5, 5]
    assert counts(TRAIN[hold_out(TRAIN, 0.001, 0)]) == [1, 1, 1, 1, 1]


def test_the_seed_and_nothing_else_decides() -> None:
    for text in ("class:1", "random:0.3"):
        one, same, other = divide(text, 3), divide(text, 3), divide(text, 4)
        assert one.validation.tolist() == same.validation.tolist() != other.validation.tolist()
        assert one.forget.tolist() == same.forget.tolist() != other.forget.tolist()
    # All scenarios of a seed share the original, and so its validation set.
    assert divide("class:1", 3).validation.tolist() == divide("random:0.3", 3).validation.tolist()
    torch.manual_seed(1)
    one = divide("random:0.3", 3)
    torch.manual_seed(2)
    assert divide("random:0.3", 3).forget.tolist() == one.forget.tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subclass:a", "subclass:a: the dataset has no fine classes"),
        ("group:a=b", "the dataset has no column 'a'"),
        ("class:1@0.01", "class:1@0.01: the forget set is empty"),
        ("class:5", r"no class 5 to forget \(classes are 0 to 4: cat, dog, emu, fox, gnu\)"),
        ("class:-1", "no class -1 to forget"),
        ("class:dgo", "no class 'dgo' to forget; did you mean 'dog'"),
        ("classes:1,9", "no class 9 to forget"),
        ("classes:0,1,2,3,4", "nothing is left to retain; forget fewer classes"),
        ("random:0.001", "the forget set is empty"),
        ("random:0.999", "nothing is left to retain"),
        ("indices:100", "forget index 100 does not exist: .* 100 examples, 0 to 99"),
        ("indices:" + ",".join(map(str, range(100))), "nothing is left to retain"),
    ],
)
def test_a_scenario_that_the_data_cannot_have_is_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        divide(text)


def test_a_class_without_examples_cannot_be_forgotten_nor_measured() -> None:
    with pytest.raises(DataError, match="class:4: the forget set is empty"):
        divide("class:4", train=TRAIN % 4)
    with pytest.raises(DataError, match="class:4: the test part has no examples"):
        divide("class:4", test=TEST % 4)
    with pytest.raises(DataError, match="the test part has no examples"):
        divide("class:4", test=torch.full((8,), 4))


def test_a_number_is_a_class_name_before_it_is_an_index() -> None:
    names = ("3", "2", "1", "0")
    labels = torch.arange(40) % 4
    sets = make(Forget.model_validate("class:3"), labels, labels, names, validation=0.1, seed=0)
    assert sets.forget_classes == (0,)


def test_of_a_part_of_a_class_the_rest_stays_and_the_class_stands_in_the_test_part() -> None:
    sets, whole = divide("class:dog@0.5"), divide("class:dog")
    assert len(sets.forget) == 9  # of the 18 that are trained on
    assert set(sets.forget.tolist()) < set(whole.forget.tolist())
    assert set(whole.forget.tolist()) - set(sets.forget.tolist()) <= set(sets.retain.tolist())
    assert sets.forget_classes == ()
    assert counts(TEST[sets.test_forget]) == [0, 8, 0, 0, 0]
    assert sets.test_retain.tolist() == list(range(40))
    assert sets.forget.tolist() == divide("class:1@0.5").forget.tolist()
    assert sets.forget.tolist() != divide("class:1@0.5", seed=1).forget.tolist()


ATTRIBUTES = Attributes(
    {"fine": lambda: [f"{label}{i % 2}" for i, label in enumerate(TRAIN.tolist())],
     "person": lambda: ["Ada" if i < 30 else "Bob" for i in range(100)]},
    {"fine": lambda: [f"{label}{i % 2}" for i, label in enumerate(TEST.tolist())]},
    finer="fine",
)  # fmt: skip


def divide_known(text: str) -> Indices:
    return make(
        Forget.model_validate(text),
        TRAIN,
        TEST,
        CLASSES,
        validation=0.1,
        seed=0,
        attributes=ATTRIBUTES,
    )


def test_a_fine_class_is_forgotten_whole_inside_its_coarse_one() -> None:
    sets = divide_known("subclass:31")
    fine, tested = ATTRIBUTES.train["fine"](), ATTRIBUTES.test["fine"]()
    assert {fine[i] for i in sets.forget.tolist()} == {"31"}
    assert "31" not in {fine[i] for i in sets.retain.tolist()}
    assert 3 in TRAIN[sets.retain] and sets.forget_classes == ()
    assert {tested[i] for i in sets.test_forget.tolist()} == {"31"}
    assert "31" not in {tested[i] for i in sets.test_retain.tolist()}


def test_a_group_without_test_examples_is_tested_on_others_of_its_classes() -> None:
    sets = divide_known("group:person=Ada")
    assert sets.forget.max() < 30 and sets.retain.min() >= 30
    assert sets.test_retain.tolist() == list(range(40))
    # In the proportions in which Ada's pictures are of the classes.
    assert set(TEST[sets.test_forget].tolist()) == set(TRAIN[sets.forget].tolist())


def test_the_most_the_least_and_the_middling_memorised_are_told_by_their_scores() -> None:
    scores = torch.rand(100, generator=torch.Generator().manual_seed(1)).double()
    scores[hold_out(TRAIN, 0.1, 0)] = torch.nan  # nobody knows of what is not trained on
    chosen, ranks = {}, {}
    for level in ("high", "mid", "low"):
        forget = Forget.model_validate(f"memorised:{level}:0.2")
        sets = make(forget, TRAIN, TEST, CLASSES, validation=0.1, seed=0, memorisation=scores)
        order = scores[sets.train].sort(descending=True).values
        chosen[level] = sets.forget
        ranks[level] = torch.isin(order, scores[sets.forget]).nonzero().flatten().tolist()
    assert ranks["high"] == list(range(18))
    assert ranks["mid"] == list(range(36, 54))
    assert ranks["low"] == list(range(72, 90))
    assert len(torch.cat([*chosen.values()]).unique()) == 54


def test_before_anything_is_trained_as_many_examples_stand_in_for_the_memorised() -> None:
    assert len(divide("memorised:high:0.2").forget) == 18
    with pytest.raises(DataError, match="memorised:high:0.001: the forget set is empty"):
        divide("memorised:high:0.001")


def thirds(seed, share=0.2, count=1500):
    labels = torch.arange(count) % 10
    return make(
        Forget.model_validate(f"thirds:{share}"),
        labels,
        torch.arange(100) % 10,
        tuple("0123456789"),
        validation=0.1,
        seed=seed,
    )


def test_thirds_give_every_target_each_role_once_in_three_seeds():
    for first in (0, 3):
        made = [thirds(first + turn) for turn in range(3)]
        chosen = targets(torch.arange(1500) % 10, 0.2)
        for role in ("kept", "unseen", "forget"):
            members = torch.cat([getattr(one, role) for one in made]).sort().values
            assert torch.equal(members, chosen)
    assert not torch.equal(thirds(0).forget, thirds(3).forget)


def test_who_is_never_seen_is_in_no_part_and_no_target_is_held_out():
    made = thirds(4)
    chosen = targets(torch.arange(1500) % 10, 0.2)
    assert not torch.isin(made.unseen, torch.cat([made.train, made.validation])).any()
    assert torch.isin(made.kept, made.retain).all()
    assert not torch.isin(made.validation, chosen).any()
    assert len(made.train) + len(made.validation) + len(made.unseen) == 1500
    assert made.forget_classes == ()


def test_targets_are_as_many_of_each_class_and_enough():
    labels = torch.arange(1500) % 10
    assert targets(labels, 0.2).shape == (300,)
    assert labels[targets(labels, 0.2)].bincount().tolist() == [30] * 10
    assert len(targets(labels, 0.01)) == LEAST_TARGETS
    with pytest.raises(DataError, match="200 targets are more than half of 300"):
        targets(labels[:300], 0.1)
