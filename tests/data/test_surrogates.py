"""Surrogate forget sets: of the same kind and size, and never of the true forget set."""

from typing import Any

import pytest
import torch
from torch import Tensor

from unlearn_bench.core.errors import DataError
from unlearn_bench.data import splits, surrogates
from unlearn_bench.data.attributes import Attributes
from unlearn_bench.suite.forget import Forget

# Classes of 40, 40, 44, 80, 40 and 120 examples.
SIZES = (40, 40, 44, 80, 40, 120)
LABELS = torch.arange(6).repeat_interleave(torch.tensor(SIZES))
CLASSES = tuple("abcdef")
SEED = 1_000_000


def made(text: str, number: int = 0, of: int = 2, labels: Tensor = LABELS) -> Any:
    forget = Forget.model_validate(text)
    options: dict[str, Any] = {"validation": 0.25, "seed": SEED}
    return surrogates.make(forget, number, of, labels, CLASSES, **options)


def true(text: str) -> Any:
    return splits.divide(Forget.model_validate(text), LABELS, CLASSES, validation=0.25, seed=SEED)


def every(text: str, of: int = 2) -> list[Any]:
    return [made(text, number, of) for number in range(of)]


@pytest.mark.parametrize(
    "text", ["class:0", "classes:0,2", "random:0.2", "indices:0,1,2,50,51,300"]
)
def test_a_surrogate_divides_the_same_data_and_leaves_the_true_forget_set_alone(
    text: str,
) -> None:
    truth = true(text)
    everyone = torch.cat([truth.forget, truth.retain]).sort().values
    found = every(text)
    for indices in found:
        assert torch.equal(indices.train, everyone)
        assert torch.equal(indices.validation, truth.validation)
        assert torch.equal(indices.hidden, truth.forget)
        assert not torch.isin(indices.forget, truth.forget).any()
        assert not torch.isin(indices.forget, indices.retain).any()
        assert len(indices.test_forget) == len(indices.test_retain) == 0
    assert not torch.isin(found[0].forget, found[1].forget).any()


def test_whole_classes_are_replaced_by_those_nearest_in_size() -> None:
    assert {indices.forget_classes for indices in every("class:0")} == {(1,), (4,)}
    assert [made("class:3", number, 1).forget_classes for number in range(1)] == [(2,)]
    one, other = every("classes:0,3")
    assert len(one.forget_classes) == len(other.forget_classes) == 2
    assert not {0, 3} & {*one.forget_classes, *other.forget_classes}
    for indices in (one, other):
        of_class = torch.isin(LABELS[indices.train], torch.tensor(indices.forget_classes))
        assert torch.equal(indices.forget, indices.train[of_class])


def test_more_groups_of_classes_than_fit_side_by_side_overlap_but_differ() -> None:
    found = [indices.forget_classes for indices in every("classes:0,1", of=4)]
    assert len(set(found)) == 4 and not any({0, 1} & {*group} for group in found)


def test_as_many_examples_are_drawn_as_are_forgotten() -> None:
    assert len(made("random:0.2").forget) == len(true("random:0.2").forget)
    named = made("indices:0,1,2,50,51,300")
    assert LABELS[named.forget].tolist() == [0, 0, 0, 1, 1, 5]


def test_a_class_that_is_named_whole_is_made_up_with_other_examples() -> None:
    text = "indices:" + ",".join(map(str, range(40)))
    assert len(made(text).forget) == 40 and 0 not in LABELS[made(text).forget]


def test_surrogates_that_do_not_fit_side_by_side_still_differ() -> None:
    one, other = every("random:0.4")
    assert len(one.forget) == len(other.forget) and not torch.equal(one.forget, other.forget)


@pytest.mark.parametrize(
    ("text", "of", "said"),
    [
        ("classes:0,1,2", 1, "no retained class is left to serve as surrogate: it forgets 3 of 6"),
        ("class:0", 6, "6 surrogates cannot be made of 5 retained classes; take --surrogates 5"),
        ("random:0.6", 1, "no retained examples are left to serve as surrogate"),
        ("class:9", 1, "no class 9 to forget"),
    ],
)
def test_a_scenario_without_room_for_surrogates_says_so(text: str, of: int, said: str) -> None:
    with pytest.raises(DataError, match=said):
        made(text, 0, of)


def test_the_draw_depends_on_the_seed_alone() -> None:
    assert torch.equal(made("random:0.2").forget, made("random:0.2").forget)
    options: dict[str, Any] = {"validation": 0.25, "seed": SEED + 1}
    forget = Forget.model_validate("random:0.2")
    other = surrogates.make(forget, 0, 2, LABELS, CLASSES, **options)
    assert not torch.equal(made("random:0.2").forget, other.forget)


def test_a_fine_class_is_replaced_by_another_fine_class() -> None:
    fine = [f"{label}{i % 2}" for i, label in enumerate(LABELS.tolist())]
    found = [
        surrogates.make(
            Forget.model_validate("subclass:00"),
            number,
            2,
            LABELS,
            CLASSES,
            validation=0.25,
            seed=SEED,
            attributes=Attributes({"fine": lambda: fine}, finer="fine"),
        )
        for number in range(2)
    ]
    chosen = [{fine[i] for i in indices.forget.tolist()} for indices in found]
    assert [len(names) for names in chosen] == [1, 1] and chosen[0] != chosen[1]
    for names, indices in zip(chosen, found, strict=True):
        assert {fine[i] for i in indices.hidden.tolist()} == {"00"} != names
        assert not names & {fine[i] for i in indices.retain.tolist()}
        assert indices.forget_classes == ()


def test_the_part_of_a_class_is_replaced_by_another_part_of_it() -> None:
    for indices in every("class:3@0.3"):
        assert set(LABELS[indices.forget].tolist()) == {3}
        assert len(indices.forget) == len(true("class:3@0.3").forget)
