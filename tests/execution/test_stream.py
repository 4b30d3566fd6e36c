"""Streams end to end: each request starts where the last one ended, and what has gone is gone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.execution.test_order import Watcher
from unlearn_bench.execution.models import Trio
from unlearn_bench.execution.plugin_files import load_plugin
from unlearn_bench.execution.run import Runner
from unlearn_bench.execution.scheduler import execute
from unlearn_bench.plugins import registry
from unlearn_bench.results.records import RunResult
from unlearn_bench.store.store import Store
from unlearn_bench.suite.config import Plan, expand
from unlearn_bench.suite.spec import Suite

STREAM = "stream:class:8;class:1;random:0.05"
KEPT = ("retrain", "original", "finetune")


def plan(scenario: str = STREAM, methods: Any = None, kept: tuple[str, ...] = KEPT) -> Plan:
    suite = {
        "name": "s",
        "datasets": "digits",
        "models": "resnet4",
        "scenarios": scenario,
        "methods": methods or [{"name": "finetune", "params": {"epochs": 1}}],
        "threads": 1,
        "recipe": {"epochs": 1, "batch_size": 32, "lr": 2e-2},
        "relearn_steps": 4,
    }
    planned = expand(Suite.model_validate(suite), device="cpu")
    forward = (r for r in planned.runs if r.scenario == scenario and r.method in kept)
    return replace(planned, runs=tuple(forward))


def runner_in(home: Path) -> Runner:
    return Runner(Store(home), torch.device("cpu"))


def finish(given: Plan, home: Path, out: Path) -> dict[tuple[str, int], RunResult]:
    results = execute(given, runner_in(home), out, Watcher(), command="c")
    return {(result.method, result.request): result for result in results}


def made(given: Plan, home: Path) -> dict[tuple[str, int], Trio]:
    """Make the models of a plan, and judge none of them, which takes most of a run."""
    runner = runner_in(home)
    found = {}
    for run in given.runs:
        found[run.method, run.request] = runner.models.of(run, runner.task(run), str)
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], RunResult]:
    place = tmp_path_factory.mktemp("stream")
    return finish(plan(), place / "home", place / "out")


def value(result: RunResult, metric: str, split: str) -> float | None:
    return next(r.value for r in result.records if (r.metric, r.split) == (metric, split))


def test_every_request_is_measured_and_what_went_earlier_with_it(finished: Any) -> None:
    assert {result.status for result in finished.values()} == {"ok"}
    assert set(finished) == {(method, k) for method in KEPT for k in (1, 2, 3)}
    for (_, request), result in finished.items():
        splits = [r.split for r in result.records if r.metric == "earlier_forget_accuracy"]
        assert splits == [f"request {j}" for j in range(1, request)]
        relearned = [r for r in result.records if r.metric == "relearn_time_first"]
        assert len(relearned) == (request == 3)
    # The original knows what went first as it knew it then.
    knew = value(finished["original", 1], "forget_accuracy", "forget")
    assert knew == value(finished["original", 3], "earlier_forget_accuracy", "request 1")
    assert value(finished["retrain", 3], "earlier_forget_accuracy", "request 1") == 0
    sizes = [dict_of(finished["finetune", k])["retain"] for k in (1, 2, 3)]
    assert sizes[0] > sizes[1] > sizes[2]


def dict_of(result: RunResult) -> dict[str, float]:
    """Return how many examples of each split a run read."""
    return {r.split: r.value or 0 for r in result.records if r.metric == "examples_touched"}


def test_a_request_starts_from_the_model_that_the_last_one_left(
    finished: Any, home: Path, own_registry: None, write: Any
) -> None:
    load_plugin(
        write(
            "step.py",
            """
            import torch
            from unlearn_bench.api import Access, method

            @method("add_one", access=Access.FORGET)
            def add_one(model, ctx):
                parameter = next(model.parameters())
                ctx.log(before=parameter.detach().flatten()[0].item())
                with torch.no_grad():
                    parameter += 1
                return model
            """,
        )
    )
    models = made(plan(methods="add_one", kept=("add_one",)), home)
    seen = [models["add_one", k].unlearned.notes["log"][0]["before"] for k in (1, 2, 3)]
    assert seen[1] - seen[0] == pytest.approx(1, abs=1e-5)
    assert seen[2] - seen[1] == pytest.approx(1, abs=1e-5)
    # Retraining begins with nothing, and is the same for every method.
    for k in (1, 2, 3):
        weights = finished["retrain", k].hashes["unlearned"]
        assert weights == models["add_one", k].hashes["retrained"]
        assert weights == finished["finetune", k].hashes["retrained"]
    assert len({finished["retrain", k].hashes["unlearned"] for k in (1, 2, 3)}) == 3


def test_a_request_alone_makes_what_comes_before_it(finished: Any, home: Path) -> None:
    """As on another machine of a cluster, or after the store was cleared."""
    last = tuple(r for r in plan().runs if (r.method, r.request) == ("finetune", 3))
    alone = made(replace(plan(), runs=last), home)["finetune", 3]
    assert alone.hashes["unlearned"] == finished["finetune", 3].hashes["unlearned"]


# Without gc: searching the memory of the process is refused for every method.
THIEF = """
    import torch
    from unlearn_bench.api import Access, method


    def inside(thing):
        if isinstance(thing, dict):
            return [*thing.values()]
        if isinstance(thing, (list, tuple, set)):
            return [*thing]
        cells = getattr(thing, "__closure__", None) or ()
        owner = getattr(thing, "__self__", None)
        return [*getattr(thing, "__dict__", {}).values(), *(c.cell_contents for c in cells), owner]


    @method("thief", access=Access.BOTH | Access.VALIDATION)
    def thief(model, ctx):
        splits = [ctx.forget, ctx.retain, ctx.validation]
        within = torch.cat([split.indices for split in splits])
        waiting, seen, images, inner = [ctx], set(), 0, 0
        while waiting:
            thing = waiting.pop()
            plain = (str, bytes, int, float, type, torch.nn.Module, type(torch))
            if id(thing) in seen or isinstance(thing, plain):
                continue
            seen.add(id(thing))
            if isinstance(thing, torch.Tensor):
                images = max(images, len(thing) if thing.dim() == 4 else 0)
            else:
                waiting += inside(thing)
        others = torch.ones(len(ctx.forget._part.labels), dtype=torch.bool)
        others[within] = False
        refused = 0
        for index in others.nonzero().flatten()[:5]:
            try:
                ctx.forget._part.images.fetch(index[None])
            except Exception:
                refused += 1
        log = {"images": images, "refused": refused, "corners": len(seen)}
        ctx.log(splits=len(within), unique=len(within.unique()), **log)
        return model
"""


def test_a_method_that_looks_for_earlier_data_finds_none(
    home: Path, own_registry: None, write: Any
) -> None:
    load_plugin(write("thief.py", THIEF))
    given = plan(methods="thief", kept=("thief",))
    models = made(given, home)
    held = []
    for k in (1, 2, 3):
        (found,) = models["thief", k].unlearned.notes["log"]
        assert found["splits"] == found["unique"] and found["corners"] > 20
        # Whatever it digs up holds no more examples than the three splits do.
        assert 0 < found["images"] <= found["splits"]
        # Before anything has gone, everything is in one of the splits.
        assert found["refused"] == (0 if k == 1 else 5)
        held.append(found["splits"])
    assert held[0] > held[1] > held[2]
    task = runner_in(home).task(given.runs[2])
    handed = task.handed_to(registry.get("thief"))
    assert not handed.indices.gone
    assert len(task.indices.gone) == 2


def test_when_a_request_fails_those_after_it_say_which(
    home: Path, tmp_path: Path, own_registry: None, write: Any
) -> None:
    text = """
        from unlearn_bench.api import Access, MethodError, method

        @method("fragile", access=Access.FORGET)
        def fragile(model, ctx):
            if 1 in ctx.forget_classes:
                raise MethodError("it cannot count")
            return model
    """
    load_plugin(write("fragile.py", text))
    results = finish(plan(methods="fragile", kept=("fragile",)), home, tmp_path / "out")
    assert [results["fragile", k].status for k in (1, 2, 3)] == ["ok", "failed", "failed"]
    assert results["fragile", 2].error == "it cannot count"
    assert results["fragile", 3].error == "request 2 failed: it cannot count"
