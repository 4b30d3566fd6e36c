"""`surrogate_data:` from the suite to the record: who reads it, what it changes, what it leaves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from unlearn_bench.core.errors import AccessError, ConfigError, DataError, PluginError
from unlearn_bench.execution.observer import Observer
from unlearn_bench.execution.run import Runner
from unlearn_bench.execution.scheduler import check_plan, execute
from unlearn_bench.execution.task import Unlearning
from unlearn_bench.library.runs import _Observer
from unlearn_bench.library.unlearning import unlearn
from unlearn_bench.plugins import registry
from unlearn_bench.report.content import read_content
from unlearn_bench.report.markdown import render
from unlearn_bench.results.records import read_run, read_suite
from unlearn_bench.store.store import Store
from unlearn_bench.suite.config import Overrides, Plan, expand, resolve_suite
from unlearn_bench.suite.spec import RunSpec, Suite
from unlearn_bench.suite.tuned import Tuned, TunedMethod, TunedSetting, write_tuned

QUICK = {"epochs": 1, "batch_size": 16, "surrogates": 20}
SUITE: dict[str, Any] = {
    "name": "s",
    "datasets": "digits",
    "models": "resnet4",
    "scenarios": "class:8",
    "methods": ["scar", "finetune"],
    "threads": 1,
    "recipe": {"epochs": 1, "lr": 4e-3},
    "relearn_steps": 4,
    "params": {"scar": QUICK, "finetune": {"epochs": 1}},
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of 30 colour pictures."""
    root, draw = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name in ("one", "two"):
        for part, count in (("train", 15), ("test", 1)):
            for label in "ab":
                folder = root / name / part / label
                folder.mkdir(parents=True)
                for number in range(count):
                    image = draw.integers(0, 256, (12, 20, 3), dtype=np.uint8)
                    Image.fromarray(image).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def runner(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    store = Store(tmp_path_factory.mktemp("store"))
    return Runner(store, torch.device("cpu"), data_root=pictures)


def plan_of(name: str | None = None, **changes: Any) -> Plan:
    named = {} if name is None else {"surrogate_data": name}
    return expand(Suite.model_validate({**SUITE, **named, **changes}), device="cpu")


def specs(name: str | None = None, **changes: Any) -> dict[str, RunSpec]:
    return {spec.label: spec for spec in plan_of(name, **changes).runs}


def test_only_methods_with_access_are_handed_surrogates_and_only_their_keys_differ(
    runner: Runner,
) -> None:
    plain, one, two = specs(), specs("imagefolder:one"), specs("imagefolder:two")
    assert one["scar"].surrogate_data == "imagefolder:one"
    assert {label for label, spec in one.items() if spec.surrogate_data} == {"scar"}
    for label in plain:
        keys = {runner.key(found[label]) for found in (plain, one, two)}
        assert len(keys) == (3 if label == "scar" else 1), label
    assert len({runner.original_key(found["scar"]) for found in (plain, one, two)}) == 1
    assert "surrogate_data" not in plain["scar"].identity()
    assert "surrogate_data" not in Suite.model_validate(SUITE).model_dump()


def test_the_name_of_the_folder_is_no_part_of_the_key(runner: Runner, pictures: Path) -> None:
    here = specs("imagefolder:one")["scar"]
    absolute = specs(f"imagefolder:{pictures / 'one'}")["scar"]
    assert runner.key(here) == runner.key(absolute)


def weights_of(runner: Runner, spec: RunSpec) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    torch.set_num_threads(1)
    task = runner.task(spec)
    original = runner.original(spec, lambda _: None)
    found, notes = runner.models.unlearn(spec, task, original, lambda _: None)
    return dict(found), notes


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)


def test_other_surrogates_give_other_weights_and_isolation_the_same(runner: Runner) -> None:
    one = specs("imagefolder:one")["scar"]
    found, notes = weights_of(runner, one)
    assert notes["surrogates"]["name"] == "imagefolder:one"
    assert notes["surrogates"]["images"] == 20
    assert len(notes["surrogates"]["digest"]) == 64
    assert not same(found, weights_of(runner, specs("imagefolder:two")["scar"])[0])
    plain, without = weights_of(runner, specs()["scar"])
    assert not same(found, plain) and "surrogates" not in without
    apart, told = weights_of(runner, one.model_copy(update={"isolate": True}))
    assert same(found, apart) and told["surrogates"] == notes["surrogates"]


def test_record_and_report_say_which_surrogates_were_read(runner: Runner, tmp_path: Path) -> None:
    said: list[str] = []
    observer: Observer = _Observer(said.append)
    plan = plan_of("imagefolder:one", methods=["scar"], params={"scar": QUICK})
    results = execute(plan, runner, tmp_path, observer, command="test")
    handed = {r.method: read_run(tmp_path, r.key).surrogates for r in results}  # type: ignore[union-attr]
    scar = handed.pop("scar")
    assert scar["name"] == "imagefolder:one" and scar["images"] == 20
    assert set(map(len, handed.values())) == {0}
    stored = read_suite(tmp_path)
    reads = "forget + retain + surrogate images of imagefolder:one"
    assert stored["methods"]["scar"]["access"] == reads
    assert stored["origin"]["surrogate_data"] == scar | {"images": 30, "methods": ["scar"]}
    text = render(read_content(tmp_path), {})
    assert "Surrogate images are those of imagefolder:one, read without labels by scar." in text
    assert f"30 images, SHA-256 {scar['digest'][:12]}" in text


def test_a_suite_whose_methods_read_none_says_so(runner: Runner) -> None:
    said: list[str] = []
    quiet = Runner(runner._store, torch.device("cpu"), data_root=runner.data_root)
    quiet.notify = said.append
    plan = plan_of("imagefolder:one", methods=["finetune"], params={})
    check_plan(plan, quiet)
    line = "No method of this suite reads surrogate images: imagefolder:one has no effect."
    assert line in said and line in plan.notes


@pytest.mark.parametrize("name", ["digits"])
def test_the_suites_own_dataset_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match="surrogate_data: digits is the suite's own dataset"):
        plan_of(name)


@pytest.mark.parametrize(
    ("name", "count", "said"),
    [
        ("digits-parity", 20, "20 of 20 images of digits-parity are images of digits"),
        ("imagefolder:one", 31, "has 30 training images, and 31 are asked for"),
        ("imagefolder:three", 20, "surrogate_data: .*three"),
    ],
)
def test_what_cannot_be_used_shows_before_anything_is_trained(
    name: str, count: int, said: str, runner: Runner
) -> None:
    plan = plan_of(name, params={"scar": QUICK | {"surrogates": count}})
    with pytest.raises(DataError, match=said):
        check_plan(plan, runner)


def test_the_flag_takes_the_keys_place() -> None:
    suite = resolve_suite(None, Overrides(methods="scar", surrogate_data="imagefolder:one"))
    assert suite.surrogate_data == "imagefolder:one"


def test_undeclared_surrogates_are_refused(runner: Runner) -> None:
    task = runner.task(specs()["finetune"])
    images = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
    handed = Unlearning(task, registry.get("finetune"), surrogates=images)
    with pytest.raises(AccessError, match="add Access.SURROGATE to access="):
        _ = handed.context.surrogates
    assert Unlearning(task, registry.get("scar")).context.surrogates is None


@pytest.mark.usefixtures("own_registry")
def test_a_method_without_the_parameter_cannot_declare_them(tmp_path: Path) -> None:
    file = tmp_path / "reads.py"
    file.write_text(
        "from unlearn_bench.api import Access, method\n\n\n"
        '@method("reads", access=Access.FORGET | Access.SURROGATE)\n'
        "def reads(model, ctx):\n    return model\n"
    )
    with pytest.raises(PluginError, match="Access.SURROGATE needs the parameter surrogates"):
        registry.load_plugin(file)


def test_settings_tuned_with_other_surrogates_are_stale(tmp_path: Path) -> None:
    base, scar = specs()["scar"], registry.get("scar")
    tuned = TunedMethod(params=scar.resolve(QUICK), code=scar.code_key, surrogate_data="kmnist")
    setting = TunedSetting(
        dataset="digits", data="d", model=base.model, scenario=base.forget, methods={"scar": tuned}
    )
    write_tuned(tmp_path / "tuned.yaml", Tuned(settings=(setting,)))
    given = {"params_from": str(tmp_path / "tuned.yaml"), "methods": ["scar"], "params": {}}
    assert specs("kmnist", **given)["scar"].params["surrogates"] == 20
    with pytest.raises(ConfigError, match="tuned with surrogate images of kmnist, and not with im"):
        specs(**given)


@pytest.fixture
def shown() -> Callable[..., Any]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)
    )
    images, labels = torch.rand(60, 1, 8, 8), torch.arange(60) % 3
    forget, retain = ((images[where], labels[where]) for where in (labels == 0, labels != 0))

    def call(surrogate_data: Any, method: str = "scar", **params: Any) -> Any:
        given = {"params": QUICK | params} if method == "scar" else {}
        return unlearn(
            model, method, forget=forget, retain=retain, surrogate_data=surrogate_data, **given
        )

    call.images = images  # type: ignore[attr-defined]
    return call


def test_unlearn_takes_images_or_the_name_of_a_dataset(
    shown: Callable[..., Any], pictures: Path
) -> None:
    others = torch.rand(40, 1, 8, 8)
    plain, alone = shown(None), shown(others)
    assert plain.surrogates == {} and alone.surrogates["images"] == 20
    labelled = shown((others, torch.zeros(40, dtype=torch.int64)))
    assert same(alone.model.state_dict(), labelled.model.state_dict())
    assert not same(alone.model.state_dict(), plain.model.state_dict())
    named = shown(f"imagefolder:{pictures / 'one'}")
    assert named.surrogates["images"] == 20
    assert not same(named.model.state_dict(), alone.model.state_dict())


def test_unlearn_refuses_its_own_images_and_others_of_another_form(
    shown: Callable[..., Any],
) -> None:
    with pytest.raises(DataError, match="are images of own data"):
        shown(shown.images)  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="surrogate_data: images .*; prepare all in the same way"):
        shown(torch.rand(40, 3, 8, 8))
    with pytest.raises(DataError, match="40 training images, and 41 are asked for"):
        shown(torch.rand(40, 1, 8, 8), surrogates=41)
