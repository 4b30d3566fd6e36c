"""What a method may read, how splits yield it, and how it is counted."""

from collections import Counter

import pytest
import torch

from unlearn_bench.core.errors import AccessError, ParameterError
from unlearn_bench.data.images import Dataset, Part, TensorImages
from unlearn_bench.measure.clock import Clock
from unlearn_bench.plugins.access import Access
from unlearn_bench.suite.recipe import Recipe
from unlearn_bench.toolkit.attacks import Pixels
from unlearn_bench.toolkit.context import Context, Split, TrainingLog

CPU = torch.device("cpu")
PIXELS = torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1).expand(20, 1, 2, 2).contiguous()
LABELS = torch.arange(20) % 5
PART = Part(TensorImages(PIXELS), LABELS)
NUMBERED = Dataset("numbered", PART, PART, tuple("abcde"), (0.0,), (1 / 255,), "")


def split(name="forget", indices=range(10), ledger=None, batch_size=4):
    return Split(
        name,
        NUMBERED,
        torch.tensor(list(indices)).long(),
        Recipe(batch_size=batch_size, augment="none"),
        device=CPU,
        seed=7,
        ledger=Counter() if ledger is None else ledger,
    )


def examples(batches):
    """The image numbers, in the order in which they came."""
    return [round(float(v)) for x, _ in batches for v in x[:, 0, 0, 0]]


def fresh(seed, pretrained):
    return torch.nn.Linear(1, 1)


def test_a_loop_over_a_split_says_which_passes_there_are():
    with pytest.raises(TypeError, match=r"the retain split .* use \.epochs\(1\) .* \.batches\(\)"):
        next(iter(split("retain")))


def context(access, build=fresh, **splits):
    return Context(
        "mine",
        access,
        splits,
        device=CPU,
        seed=0,
        num_classes=5,
        forget_classes=(1,),
        input_shape=(1, 2, 2),
        build=build,
        trainer=lambda model, split: None,
        clock=Clock(CPU),
        pixels=Pixels(torch.zeros(1, 1, 1), torch.ones(1, 1, 1)),
        training_log=TrainingLog({}, 1, 2),
    )


@pytest.mark.parametrize("name", ["forget", "retain", "validation"])
def test_undeclared_read_is_refused_with_the_remedy(name):
    everything = {n: split(n) for n in ("forget", "retain", "validation")}
    with pytest.raises(AccessError) as error:
        getattr(context(Access.NONE, **everything), name)
    for part in ("'mine'", f"the {name} split", f"Access.{name.upper()}", f"ctx.{name}"):
        assert part in str(error.value)


def test_declared_splits_are_handed_over():
    ctx = context(Access.FORGET | Access.VALIDATION, forget=split(), validation=split("validation"))
    assert ctx.forget.name == "forget" and ctx.validation.name == "validation"
    with pytest.raises(AccessError):
        _ = ctx.retain


def test_union_of_accesses_keeps_the_smaller_retain_fraction():
    third = Access(retain=True, retain_fraction=0.3)
    assert (Access.FORGET | third) == Access(forget=True, retain=True, retain_fraction=0.3)
    assert str(Access.FORGET | third) == "forget + 30% of retain"


def test_batches_keep_the_stored_order():
    assert examples(split(indices=[3, 1, 19, 7, 0]).batches(2)) == [3, 1, 19, 7, 0]


def test_labels_follow_their_images_through_the_shuffle():
    for x, y in split().epochs(3):
        numbers = x[:, 0, 0, 0].round().long()
        assert torch.equal(numbers % 5, y)


def test_epochs_are_shuffled_anew_and_complete():
    s = split()
    first, second = examples(s.epochs(1)), examples(s.epochs(1))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second and first != list(range(10))


def test_passes_repeat_for_the_same_seed():
    assert examples(split().epochs(3)) == examples(split().epochs(3))


def test_forever_goes_on_past_one_pass():
    stream = split().forever(5)
    seen = [round(float(v)) for _ in range(6) for v in next(stream)[0][:, 0, 0, 0]]
    assert Counter(seen) == Counter({number: 3 for number in range(10)})


def test_an_empty_split_cannot_be_repeated():
    with pytest.raises(ParameterError, match="empty"):
        split(indices=[]).forever()


def test_relabelled_examples_keep_their_images():
    other = torch.arange(100, 110)
    for x, y in split().relabelled(other).epochs(1):
        assert torch.equal(x[:, 0, 0, 0].round().long() + 100, y)
    with pytest.raises(ParameterError, match="10 labels"):
        split().relabelled(torch.zeros(3, dtype=torch.long))


def test_unions_mix_and_count_examples_where_they_belong():
    ledger = Counter()
    both = split("forget", range(4), ledger) + split("retain", range(4, 20), ledger)
    mixed = list(both.epochs(2, 5))
    assert ledger == {"forget": 8, "retain": 32}
    origins = [{"f" if float(v) < 3.5 else "r" for v in x[:, 0, 0, 0]} for x, _ in mixed]
    assert {"f", "r"} in origins


def test_a_relabelled_union_keeps_true_labels_of_the_rest():
    wrong = split("forget", range(4)).relabelled(torch.full((4,), 9))
    for x, y in (wrong + split("retain", range(4, 20))).epochs(1):
        numbers = x[:, 0, 0, 0].round().long()
        assert torch.equal(y, torch.where(numbers < 4, 9, numbers % 5))


def test_overlapping_splits_have_no_union():
    with pytest.raises(ParameterError, match="share examples"):
        split("forget", range(4)) + split("retain", range(3, 20))


def test_subsets_are_drawn_by_the_generator():
    def draw(seed):
        return split().subset(4, torch.Generator().manual_seed(seed)).indices.tolist()

    assert draw(0) == draw(0) and len(set(draw(0))) == 4
    assert any(draw(0) != draw(seed) for seed in range(1, 5))
    assert len(split().subset(99, torch.Generator())) == 10


def test_examples_are_chosen_by_position():
    some = split("retain", range(5, 15)).relabelled(torch.arange(10)).at(torch.tensor([1, 9]))
    assert some.name == "retain" and some.indices.tolist() == [6, 14]
    assert some.labels.tolist() == [1, 9]
    assert examples(some.batches()) == [6, 14]


def test_what_is_derived_anew_for_every_pass_is_shuffled_anew():
    read, rest = split("forget"), split("retain", range(10, 20))
    orders = [examples(read.relabelled(read.labels).epochs(1)) for _ in range(3)]
    orders += [examples((read + rest).epochs(1))[:10] for _ in range(3)]
    assert len({tuple(order) for order in orders}) == 6
    # The splits themselves go on too, and all of it repeats by seed.
    again = split("forget")
    assert [examples(again.relabelled(again.labels).epochs(1)) for _ in range(3)] == orders[:3]


def test_a_single_left_over_example_is_not_trained_on():
    # 9 examples in batches of 4: BatchNorm could not normalise the ninth alone.
    sizes = [len(x) for x, _ in split(indices=range(9)).epochs(1)]
    assert sizes == [4, 4]
    assert [len(x) for x, _ in split(indices=range(9)).batches()] == [4, 4, 1]
    assert [len(x) for x, _ in split(indices=range(3), batch_size=1).epochs(1)] == [1, 1, 1]
    assert [len(x) for x, _ in split(indices=range(1)).epochs(1)] == [1]


def test_every_example_read_is_counted():
    ledger = Counter()
    s = split(ledger=ledger)
    list(s.epochs(2))
    next(s.batches(3))
    assert ledger == {"forget": 23}


def test_new_models_differ_from_each_other_but_repeat_by_seed():
    seeds = []

    def build(seed, pretrained):
        seeds.append(seed)
        return fresh(seed, pretrained)

    ctx, again = (context(Access.NONE, build) for _ in range(2))
    ctx.new_model(), ctx.new_model(), again.new_model()
    assert seeds[0] != seeds[1] and seeds[2] == seeds[0]


def test_the_training_log_is_handed_over_to_those_that_declare_it_only():
    assert context(Access.LOG).training_log.steps == 2
    with pytest.raises(AccessError, match=r"Access\.LOG"):
        context(Access.BOTH).training_log  # noqa: B018


def test_traced_batches_say_which_examples_they_hold():
    read = split()
    seen = torch.cat([positions for *_, positions in read.traced(1, 2)])
    assert sorted(seen.tolist()) == list(range(len(read)))
    x, y, positions = next(read.traced(1, len(read)))
    assert torch.equal(y.cpu(), read.labels[positions.cpu()])
    assert examples([(x, y)]) == read.indices[positions.cpu()].tolist()
