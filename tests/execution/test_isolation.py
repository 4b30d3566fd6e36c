"""A process of its own gives a method's very weights, and is believed as little as a stranger."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from unlearn_bench.core.errors import MethodError
from unlearn_bench.execution.isolation import doubt, step_of
from unlearn_bench.execution.isolation.call import Answer, read_answer, read_weights
from unlearn_bench.execution.isolation.confine import environment, readable
from unlearn_bench.execution.isolation.landlock import READ, READ_DIR, without
from unlearn_bench.execution.returned import check_state
from unlearn_bench.execution.run import Runner
from unlearn_bench.plugins import registry
from unlearn_bench.report.provenance import read_report
from unlearn_bench.results.records import read_records
from unlearn_bench.store.store import Store
from unlearn_bench.suite.config import Overrides, expand, resolve_suite
from unlearn_bench.suite.spec import RunSpec, Suite

SUITE: dict[str, Any] = {
    "name": "s",
    "datasets": "digits",
    "models": "resnet4",
    "scenarios": "class:8",
    "threads": 1,
    "recipe": {"epochs": 1, "lr": 4e-3},
}
COST = {"seconds": {}, "peak_bytes": 1, "examples": {"forget": 1}, "passes": {"forward": 1}}


def runs(**changes: Any) -> dict[str, RunSpec]:
    plan = expand(Suite.model_validate({**SUITE, "methods": "all", **changes}), device="cpu")
    return {spec.label: spec for spec in plan.runs}


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(Store(tmp_path_factory.mktemp("store")), torch.device("cpu"))


@pytest.mark.parametrize(
    ("name", "params"),
    [("retrain", {}), ("salun", {"epochs": 1}), ("amnesiac", {"epochs": 1}), ("sisa", {})],
)
def test_the_weights_and_the_log_are_those_of_a_call_in_the_harness(
    name: str, params: dict[str, Any], runner: Runner
) -> None:
    method = registry.get(name)
    known = {n: v for n, v in params.items() if n in method.schema.model_fields}
    spec = runs()[name].model_copy(update={"params": method.resolve(known)})
    torch.set_num_threads(1)
    task, steps = runner.task(spec), []
    original = runner.original(spec, lambda _: None)
    here, noted = runner.models.unlearn(spec, task, original, lambda _: None)
    apart = spec.model_copy(update={"isolate": True})
    there, told = runner.models.unlearn(apart, task, original, steps.append)
    assert here.keys() == there.keys()
    assert all(torch.equal(here[key], there[key]) for key in here)
    for what in ("examples", "passes"):
        assert told["cost"][what] == noted["cost"][what]
    assert told["cost"]["seconds"].keys() == noted["cost"]["seconds"].keys()
    assert told["log"] == noted["log"] and told["code"] == noted["code"]
    assert noted["environment"]["isolation"] == "audit hook"
    assert told["environment"]["isolation"].startswith("process, ")
    assert steps[0] == name and (name != "retrain" or steps[-1] == "retrain: epoch 1/1")


def test_what_was_made_without_isolation_is_not_taken_for_it(runner: Runner) -> None:
    plain, apart = runs()["finetune"], runs(isolate=True)["finetune"]
    assert runner.key(plain) != runner.key(apart)
    assert runner.original_key(plain) == runner.original_key(apart)
    assert not plain.isolate and "isolated" not in plain.identity()


def test_a_suite_or_a_flag_asks_for_it() -> None:
    assert not resolve_suite("digits", Overrides()).isolate
    assert "isolate" not in resolve_suite("digits", Overrides()).model_dump()
    suite = resolve_suite("digits", Overrides(isolate=True))
    assert suite.isolate and suite.model_dump()["isolate"] is True


def test_the_environment_names_no_place_of_the_users(monkeypatch: Any, tmp_path: Path) -> None:
    for name in ("UNLEARN_BENCH_HOME", "DATA_ROOT", "OMP_PLACES"):
        monkeypatch.setenv(name, "here")
    found = environment(tmp_path)
    assert "here" not in {name: v for name, v in found.items() if name != "OMP_PLACES"}.values()
    assert found["OMP_PLACES"] == "here" and found["HOME"] == str(tmp_path)


def test_a_folder_is_allowed_piece_by_piece_around_what_is_closed(tmp_path: Path) -> None:
    for name in ("a/closed/deep", "a/open", "b"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a" / "closed")
    allowed = dict(without(tmp_path, [tmp_path / "a" / "closed"]))
    assert allowed == {
        tmp_path: READ_DIR,
        tmp_path / "a": READ_DIR,
        tmp_path / "a" / "open": READ,
        tmp_path / "b": READ,
    }
    assert dict(without(tmp_path / "b", [tmp_path])) == {tmp_path / "b": READ}
    assert dict(without(tmp_path, [tmp_path])) == {}


def test_python_and_the_package_may_be_read_and_the_users_files_not(tmp_path: Path) -> None:
    allowed = [path for path, rights in readable((tmp_path,)).items() if rights & 4]
    assert any(path in Path(torch.__file__).resolve().parents for path in allowed)
    assert not [path for path in allowed if path in (tmp_path, *tmp_path.parents)]


ANSWERS = {
    "nothing": None,
    "no JSON": "{",
    "other": json.dumps({"weights": "here"}),
    "numbers that are not finite": json.dumps({"cost": COST | {"peak_bytes": 1e999}}),
    "negative seconds": json.dumps(
        {"cost": COST | {"seconds": {"unlearn": {"wall": -1, "cpu": 0, "gpu": None}}}}
    ),
    "texts for numbers": json.dumps({"cost": COST, "log": [{"loss": "low"}]}),
    "an endless log": json.dumps({"cost": COST, "log": [{}] * 3000}),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_an_answer_that_is_none_fails_the_run(what: str, tmp_path: Path) -> None:
    if (text := ANSWERS[what]) is not None:
        (tmp_path / "answer.json").write_text(text)
    with pytest.raises(MethodError, match="left no answer that can be read: "):
        read_answer(tmp_path)
    (tmp_path / "answer.json").write_text(json.dumps({"cost": COST}))
    assert read_answer(tmp_path).failed is None


def test_weights_are_read_as_a_strangers(tmp_path: Path) -> None:
    expected, file = {"w": torch.zeros(2)}, tmp_path / "answer.safetensors"
    for wrong in (b"", b"\x80\x04K\x01.", b"\xff" * 64):
        file.write_bytes(wrong)
        with pytest.raises(MethodError, match="left no weights that can be read"):
            read_weights(tmp_path, expected)
    file.unlink()
    other = tmp_path / "other"
    safetensors.torch.save_file(expected, other)
    file.symlink_to(other)
    with pytest.raises(MethodError, match="left no weights"):
        read_weights(tmp_path, expected)
    file.unlink()
    os.truncate(os.open(file, os.O_CREAT | os.O_WRONLY), 1 << 31)
    with pytest.raises(MethodError, match="larger than"):
        read_weights(tmp_path, expected)
    for tensor, said in (
        (torch.zeros(3), r"\[3\], expected"),
        (torch.zeros(2, dtype=torch.float64), "float64"),
        (torch.full((2,), torch.inf), "NaN or infinity"),
    ):
        with pytest.raises(MethodError, match=said):
            check_state({"w": tensor}, expected)


def test_costs_that_the_system_contradicts_are_not_believed() -> None:
    def answer(cpu: float) -> Answer:
        spent = {"unlearn": {"wall": cpu, "cpu": cpu, "gpu": None}}
        return Answer.model_validate({"cost": COST | {"seconds": spent}})

    doubt(answer(10.0), 12.0)
    doubt(answer(0.1), 3.0)  # what begins and ends a process
    with pytest.raises(MethodError, match=r"says it took 0.1 CPU s, the system 20.0"):
        doubt(answer(0.1), 20.0)


def test_steps_may_hold_anything() -> None:
    assert step_of(b'{"step": "epoch 1/2"}') == ("step", "epoch 1/2")
    assert step_of(b'{"step": "\\u001b[2J"}') == ("step", "\\x1b[2J")
    for line in (b"", b"[]", b"{", b'{"a": 1, "b": 2}', b"\xff", b"[" * 100_000):
        assert step_of(line) == ("", "")


@pytest.mark.heavy
def test_an_isolated_suite_has_the_records_of_a_plain_one(
    cli: Any, finished: Any, trained: Path, tmp_path: Path
) -> None:
    flags = ("--methods", "finetune,scale_weights", "--set", "finetune.epochs=1")
    command = (
        "run",
        finished.suite,
        *flags,
        "--plugin",
        finished.plugin,
        "--out",
        tmp_path / "out",
    )
    ended = cli(*command, "--isolate")
    assert ended.code == 0, ended.err
    costs = "seconds|bytes|time_ratio|break_even"
    plain, apart = (
        found[~found["metric"].str.contains(costs)].drop(columns="run_key").astype(str)
        for found in (read_records(folder) for folder in (finished.out, tmp_path / "out"))
    )
    assert apart.values.tolist() == plain.values.tolist() != []
    facts = dict(read_report(tmp_path / "out").provenance.facts)
    assert facts["Isolation"].startswith("process, ")
    assert dict(read_report(finished.out).provenance.facts)["Isolation"] == "audit hook"
    again = cli(
        "run", finished.suite, *flags, "--plugin", finished.plugin, "--out", tmp_path / "out"
    )
    assert again.code == 2 and "differs in: isolate" in again.error
