"""A method's state goes from request to request, stored and hashed beside the weights."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.execution.test_stream import made, plan, runner_in
from unlearn_bench.core.errors import PluginError
from unlearn_bench.execution.failures import RunFailedError
from unlearn_bench.execution.plugin_files import load_plugin
from unlearn_bench.plugins import registry
from unlearn_bench.store.store import Store

COUNTS = """
    import torch
    from unlearn_bench.api import Access, State, method

    @method("counts", access=Access.FORGET, keeps_state=True)
    def counts(model, ctx):
        state: State = ctx.state
        ctx.log(before=state.get("requests", 0), kept=len(state))
        state["requests"] = state.get("requests", 0) + 1
        state["sums"] = state.get("sums", torch.zeros(2)) + torch.tensor([1.0, len(ctx.forget)])
        with torch.no_grad():
            next(model.parameters()).add_(state["sums"][0])
        return model
"""


def of_counts(isolate: bool = False) -> Any:
    given = plan(methods="counts", kept=("counts",))
    runs = tuple(run.model_copy(update={"isolate": isolate}) for run in given.runs)
    return replace(given, runs=runs)


@pytest.fixture
def counts(own_registry: None, write: Any) -> None:
    load_plugin(write("counts.py", COUNTS))


@pytest.mark.parametrize("isolate", [False, pytest.param(True, marks=pytest.mark.heavy)])
def test_a_state_is_handed_on_from_request_to_request(
    isolate: bool, counts: None, home: Path
) -> None:
    models = made(of_counts(isolate), home)
    logs = [models["counts", k].unlearned.notes["log"][0] for k in (1, 2, 3)]
    assert [log["before"] for log in logs] == [0, 1, 2]
    assert [log["kept"] for log in logs] == [0, 2, 2]
    assert len({models["counts", k].hashes["state"] for k in (1, 2, 3)}) == 3
    assert len(list((home / "artifacts" / "state").iterdir())) == 3


def test_weights_whose_state_is_lost_are_made_again(counts: None, home: Path) -> None:
    given = of_counts()
    undisturbed = made(given, home)["counts", 3]
    shutil.rmtree(home / "artifacts" / "state")
    last, store = given.runs[-1], Store(home)
    store.reject("unlearned", runner_in(home).identity(last, "unlearned"), "of a test")
    again = made(replace(given, runs=(last,)), home)["counts", 3]
    assert again.unlearned.notes["log"][0]["before"] == 2
    assert again.hashes == undisturbed.hashes


def test_a_state_that_holds_examples_fails_the_request(
    own_registry: None, write: Any, home: Path
) -> None:
    text = """
        from unlearn_bench.api import Access, method

        @method("hoards", access=Access.BOTH, keeps_state=True)
        def hoards(model, ctx):
            x, _ = next(ctx.retain.batches(8))
            ctx.state["memory"] = x
            return model
    """
    load_plugin(write("hoards.py", text))
    given = plan(methods="hoards", kept=("hoards",))
    reason = r"ctx.state\['memory'\] holds training examples"
    with pytest.raises(RunFailedError, match=f"^{reason}"):
        made(given, home)
    with pytest.raises(RunFailedError, match=f"^request 1 failed: {reason}"):
        made(replace(given, runs=given.runs[-1:]), home)


def test_a_method_that_declares_no_state_has_none(
    own_registry: None, write: Any, home: Path
) -> None:
    text = """
        from unlearn_bench.api import Access, method

        @method("silent", access=Access.FORGET)
        def silent(model, ctx):
            ctx.state["x"] = 1
            return model
    """
    load_plugin(write("silent.py", text))
    with pytest.raises(RunFailedError, match="add keeps_state=True to its @method line"):
        made(plan(methods="silent", kept=("silent",)), home)


def test_only_methods_keep_a_state(own_registry: None, write: Any) -> None:
    text = """
        from unlearn_bench.api import Access, method

        @method("held", access=Access.NONE, kind="control", keeps_state=True)
        def held(model, ctx):
            return model
    """
    with pytest.raises(PluginError, match="keeps_state=True is for methods"):
        load_plugin(write("held.py", text))
    assert "held" not in registry.REGISTERED
