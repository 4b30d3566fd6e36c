"""NegMerge: what counts as agreement, and that nothing else than it is subtracted."""

import copy

import pytest
import torch
from unlearn_bench_methods.neg_merge import consensus, largest_scale

from unlearn_bench.core.errors import MethodError
from unlearn_bench.plugins import registry

SHORT = {"models": 2, "batch_size": 16}


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_one_fine_tuning_is_task_negation():
    change = {"w": torch.tensor([1.0, -2.0, 0.0])}
    assert torch.equal(consensus([change])["w"], change["w"])


def test_opposite_changes_cancel_and_agreed_ones_are_averaged():
    one = {"w": torch.tensor([1.0, -2.0, 3.0, 0.0])}
    other = {"w": torch.tensor([3.0, 2.0, 0.0, 1.0])}
    assert consensus([one, other])["w"].tolist() == [2.0, 0.0, 0.0, 0.0]
    assert not consensus([one, {"w": -one["w"]}])["w"].any()


def test_a_sign_that_once_differed_never_agrees_again():
    values = [1.0, -1.0, 1.0, 1.0]
    assert not consensus({"w": torch.tensor([v])} for v in values)["w"].any()


def test_the_inputs_are_left_alone():
    changes = [{"w": torch.ones(2)}, {"w": torch.ones(2)}]
    consensus(changes)
    assert all(torch.equal(change["w"], torch.ones(2)) for change in changes)


def test_subtracting_nothing_changes_nothing(class_world):
    assert torch.equal(
        flat(class_world.unlearn("neg_merge", scale=0, **SHORT)), flat(class_world.original)
    )


def test_the_scale_stretches_one_and_the_same_change(class_world):
    start = flat(class_world.original)
    one = flat(class_world.unlearn("neg_merge", scale=1, **SHORT)) - start
    ten = flat(class_world.unlearn("neg_merge", scale=10, **SHORT)) - start
    assert torch.allclose(ten, 10 * one, atol=1e-6) and one.any()


def test_statistics_stay_the_originals(class_world):
    model = class_world.unlearn("neg_merge", batch_norm="train", **SHORT)
    for mine, theirs in zip(model.buffers(), class_world.original.buffers(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(("limit", "found"), [(5.0, 4.0), (1.0, 1.0), (0.3, 0.25), (1e-3, 2**-10)])
def test_the_scale_doubles_or_halves_to_the_largest_that_holds(limit, found):
    assert largest_scale(lambda scale: scale <= limit, 1.0) == found


def test_a_scale_that_never_holds_is_an_error_and_no_original():
    with pytest.raises(MethodError, match="first_scale or neg_merge.keep"):
        largest_scale(lambda scale: False, 1.0)


def test_too_large_a_first_scale_does_not_give_the_original_back(class_world):
    model = class_world.unlearn("neg_merge", first_scale=1e6, **SHORT)
    assert not torch.equal(flat(model), flat(class_world.original))


def test_the_scale_stops_where_validation_accuracy_would_fall(class_world):
    def scale(keep):
        method = registry.get("neg_merge")
        context = class_world.context(method)
        method.function(
            copy.deepcopy(class_world.original), context, **method.resolve(SHORT | {"keep": keep})
        )
        return next(e["scale"] for e in context.log_entries if "scale" in e)

    assert 0 < scale(0.95) < scale(0.3)
