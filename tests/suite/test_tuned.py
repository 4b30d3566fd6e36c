"""Which setting a run takes where some were tuned, and what is refused as stale."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unlearn_bench.core.errors import ConfigError
from unlearn_bench.plugins import registry
from unlearn_bench.suite.choices import Row, stale_data
from unlearn_bench.suite.config import (
    Overrides,
    Plan,
    expand,
    load_suite,
    resolve_suite,
    suite_files,
)
from unlearn_bench.suite.tuned import (
    FILE,
    Tuned,
    TunedMethod,
    TunedSetting,
    read_tuned,
    write_tuned,
)

SUITE = """\
datasets: digits
models: lenet
scenarios: [class:8]
methods: [finetune, pbu, {name: pbu, label: own, params: {epochs: 2}}]
"""
TUNED = {"lr": 0.25, "epochs": 7}


def tuned_method(name: str, **changes: Any) -> TunedMethod:
    entry = registry.get(name)
    params = entry.resolve(TUNED if name == "finetune" else {"epochs": 3})
    values = {"params": params, "chosen": 1, "gap": 1.0, "trials": 20, "code": entry.code_key}
    return TunedMethod.model_validate(values | changes)


def tuned(**methods: TunedMethod) -> Tuned:
    values: Any = {"dataset": "digits", "model": "lenet", "scenario": "class:8", "data": "d"}
    setting = TunedSetting.model_validate(values | {"methods": methods})
    return Tuned(settings=(setting,))


@pytest.fixture
def suite(write: Callable[[str, str], Path]) -> Callable[..., str]:
    """Write a suite beside a file of tuned settings; return the suite's path."""

    def written(more: str = "", content: Tuned | None = None, text: str = SUITE) -> str:
        path = write("suites/own.yaml", text + more)
        made = content or tuned(finetune=tuned_method("finetune"), pbu=tuned_method("pbu"))
        write_tuned(path.parent / "settings" / FILE, made)
        return str(path)

    return written


FROM = f"params_from: settings/{FILE}\n"


def params(plan: Plan) -> dict[str, dict[str, Any]]:
    return {spec.label: spec.params for spec in plan.runs}


def planned(path: str, *, allow_stale: bool = False, elsewhere: bool = False, **flags: Any) -> Plan:
    return expand(
        resolve_suite(path, Overrides(**flags)),
        device="cpu",
        allow_stale=allow_stale,
        tuned_elsewhere=elsewhere,
    )


def test_a_suite_takes_the_tuned_settings_that_it_names(suite: Any) -> None:
    found = planned(suite(FROM))
    assert params(found)["finetune"] == registry.get("finetune").resolve(TUNED)
    assert params(found)["pbu"]["epochs"] == 3
    # An entry of another label stands for a setting of its own.
    assert params(found)["own"] == registry.get("pbu").resolve({"epochs": 2})
    assert found.suite.params_from == FILE and found.tuned is not None


def test_what_a_suite_sets_goes_before_what_was_tuned(suite: Any) -> None:
    found = planned(suite(FROM + "params: {finetune: {epochs: 2}}\n"))
    assert params(found)["finetune"] == registry.get("finetune").resolve(TUNED | {"epochs": 2})


def test_a_file_from_the_command_line_goes_before_the_suite_and_after_set(suite: Any) -> None:
    path = suite("params: {finetune: {epochs: 2}}\n")
    file = str(Path(path).parent / "settings" / FILE)
    found = planned(path, params_from=file)
    assert params(found)["finetune"] == registry.get("finetune").resolve(TUNED)
    found = planned(path, params_from=file, settings=("finetune.lr=0.5",))
    assert params(found)["finetune"] == registry.get("finetune").resolve(TUNED | {"lr": 0.5})
    assert params(planned(suite(FROM), params_from=""))["finetune"]["lr"] != TUNED["lr"]


def test_every_method_says_how_its_setting_came_about(suite: Any) -> None:
    content = tuned(finetune=tuned_method("finetune"), pbu=tuned_method("pbu"))
    more = FROM + "params: {pbu: {epochs: 9}}\n"
    text = SUITE.replace("[finetune,", "[ct, finetune,")
    found = planned(suite(more, content, text))
    (rows,) = found.rows.values()
    assert rows == {
        "ct": Row("default", False),
        "finetune": Row("tuned (20 trials, 2 surrogates)", True),
        "pbu": Row("set by the suite", False),
        "own": Row("set by the suite", False),
    }
    assert planned(suite()).rows == {}


def test_settings_for_something_else_are_refused_or_left_out_or_taken(suite: Any) -> None:
    path = suite(FROM)
    with pytest.raises(ConfigError) as caught:
        planned(path, forget=("class:3",))
    assert str(caught.value) == (
        "params_from: settings were tuned for digits · lenet · class:8, and not for "
        "digits · lenet · class:3; tune again with `unlearn-bench tune`, or accept it with "
        "--allow-stale"
    )
    left = planned(path, forget=("class:3",), elsewhere=True)
    assert params(left)["finetune"] == registry.get("finetune").resolve({})
    assert any("methods run with their defaults there" in note for note in left.notes)
    taken = planned(path, forget=("class:3",), allow_stale=True)
    assert params(taken)["finetune"]["lr"] == TUNED["lr"]
    assert any(note.startswith("Stale, but accepted") for note in taken.notes)


def test_a_method_of_another_version_is_refused_or_runs_with_its_defaults(suite: Any) -> None:
    path = suite(FROM, tuned(finetune=tuned_method("finetune", code="0")))
    with pytest.raises(ConfigError, match="finetune was tuned in another version of its file"):
        planned(path)
    left = planned(path, elsewhere=True)
    assert params(left)["finetune"] == registry.get("finetune").resolve({})
    (rows,) = left.rows.values()
    assert rows["finetune"] == Row("default", False)


def test_data_that_changed_since_are_named(suite: Any) -> None:
    found = planned(suite(FROM))
    assert found.tuned is not None
    assert stale_data(found.runs, found.tuned, {"digits": "d"}) == []
    (said,) = stale_data(found.runs, found.tuned, {"digits": "e"})
    assert said == "settings were tuned on a different version of digits"


def test_a_suites_file_of_settings_that_is_missing_is_named(
    suite: Any, write: Callable[[str, str], Path]
) -> None:
    path = suite("params_from: absent.yaml\n")
    with pytest.raises(ConfigError, match=r"params_from: cannot read .*absent\.yaml"):
        planned(path)
    assert str(load_suite(path).params_from).endswith("suites/absent.yaml")


def test_our_own_tuned_settings_belong_to_the_suite_of_their_name() -> None:
    for name, file in suite_files().items():
        beside = file.parent / "tuned" / f"{name}.yaml"
        named = load_suite(name).params_from
        assert (named is not None) == beside.exists(), name
        if named is not None:
            content = read_tuned(Path(named), name)
            assert Path(named) == beside and content.command.startswith("unlearn-bench tune")
            assert planned(name, elsewhere=True).rows
