"""A suite and its flags expand to exactly the runs one would write down by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unlearn_bench.core.errors import ConfigError, ParameterError, UnknownNameError, UserError
from unlearn_bench.core.keys import canonical_json
from unlearn_bench.plugins import registry
from unlearn_bench.suite.config import (
    Overrides,
    expand,
    load_suite,
    parse_settings,
    resolve_suite,
    suite_files,
)
from unlearn_bench.suite.spec import ModelSpec, Suite

Write = Callable[[str, str], Path]

BROAD = """\
datasets: [digits, mnist]
models: [test_resnet, {name: lenet, stem: standard}]
scenarios:
  - class:8
  - forget: random:0.1
    params: {finetune: {lr: 0.5}, slow: {lr: 0.25}}
methods:
  - {name: finetune, params: {epochs: 2}}
  - {name: finetune, label: slow, params: {epochs: 9}}
  - retrain
params:
  finetune: {epochs: 7, momentum: 0.5}
seeds: 2
"""


def suite(**changes: Any) -> Suite:
    values = {
        "name": "s",
        "datasets": "digits",
        "models": "test_resnet",
        "scenarios": "class:8",
        "methods": "finetune",
    }
    return Suite.model_validate(values | changes)


def labels(given: Suite) -> list[str]:
    return [spec.label for spec in expand(given, device="cpu").runs]


def always(scenario: str = "class:8") -> list[str]:
    """What is added to every suite: retraining first, then the controls."""
    controls = [m for m in registry.methods().values() if m.kind == "control"]
    by_class = scenario.startswith("class")
    return ["retrain", *(m.name for m in controls if by_class or m.outputs is None)]


def test_fakes_that_hide_a_class_are_left_out_where_none_is_forgotten() -> None:
    fakes = {"logit_mask", "uniform_on_forget"}
    assert fakes <= set(labels(suite(scenarios="class:8")))
    assert not fakes & set(labels(suite(scenarios="random:0.1")))
    assert {"original", "retrain_other_seed", "random_init"} <= set(
        labels(suite(scenarios="random:0.1"))
    )


def test_a_broad_suite_is_every_combination_in_order(write: Write) -> None:
    runs = expand(load_suite(str(write("broad.yaml", BROAD))), device="cpu").runs
    cells = [
        (spec.dataset, spec.model.label, spec.seed, spec.forget.name, spec.label) for spec in runs
    ]
    assert cells == [
        (dataset, model, seed, scenario, label)
        for dataset in ("digits", "mnist")
        for model in ("test_resnet", "lenet (standard stem)")
        for seed in (0, 1)
        for scenario in ("class:8", "random:0.1")
        for label in (*always(scenario), "finetune", "slow")
    ]


def test_the_more_specific_parameters_win(write: Write) -> None:
    runs = expand(load_suite(str(write("broad.yaml", BROAD))), device="cpu").runs
    defaults = registry.get("finetune").resolve({})
    params = {(spec.forget.name, spec.label): spec.params for spec in runs if spec.seed == 0}
    common = defaults | {"momentum": 0.5}
    assert params["class:8", "finetune"] == common | {"epochs": 2}
    assert params["class:8", "slow"] == common | {"epochs": 9}
    assert params["random:0.1", "finetune"] == common | {"epochs": 2, "lr": 0.5}
    assert params["random:0.1", "slow"] == common | {"epochs": 9, "lr": 0.25}


def test_two_runs_differ_in_identity(write: Write) -> None:
    runs = expand(load_suite(str(write("broad.yaml", BROAD))), device="cpu").runs
    identities = [str(spec.identity()) for spec in runs]
    assert len(set(identities)) == len(runs)


def test_keys_and_what_is_kept_of_a_suite_say_how_its_device_trains() -> None:
    on_cpu, on_gpu = (expand(suite(), device=device) for device in ("cpu", "cuda"))
    default = {"precision": "tf32", "memory_format": "channels_last"}
    for plan, known in ((on_cpu, {}), (on_gpu, default)):
        kept = [plan.suite.model_dump()["recipe"], *(s.identity()["recipe"] for s in plan.runs)]
        for recipe in kept:
            assert {name: recipe[name] for name in default if name in recipe} == known
    explicit = {"precision": "fp32", "memory_format": "contiguous"}
    exact = [expand(suite(recipe=explicit), device=device) for device in ("cpu", "cuda")]
    assert exact[0].runs == on_cpu.runs
    assert exact[1].runs[0].recipe.precision == "fp32"
    keys = {canonical_json(plan.runs[0].identity()) for plan in (on_cpu, on_gpu, exact[1])}
    assert len(keys) == 3


def test_tf32_is_refused_on_a_cpu() -> None:
    with pytest.raises(ConfigError, match="tf32, which needs --device cuda"):
        expand(suite(recipe={"precision": "tf32"}), device="cpu")


def test_reference_and_controls_are_added_and_come_first() -> None:
    assert labels(suite()) == [*always(), "finetune"]
    assert labels(suite(methods=["finetune", "retrain", "original"])) == [
        "retrain",
        *sorted(always()[1:], key=lambda name: name == "original"),
        "finetune",
    ]


def test_all_stands_once_for_every_method_made_for_the_scenario() -> None:
    known = [name for name, entry in registry.methods().items() if "class" in entry.forgets]
    assert "finetune" in known and "rum" not in known
    # An ensemble trained in shards brings what it is compared with.
    known += ["retrain of sisa", "original of sisa"]
    everything = labels(suite(methods="all"))
    assert sorted(everything) == sorted(known)
    tuned = suite(methods=["all", {"name": "finetune", "params": {"epochs": 1}}])
    assert sorted(labels(tuned)) == sorted(known)
    runs = {spec.label: spec for spec in expand(tuned, device="cpu").runs}
    assert runs["finetune"].params["epochs"] == 1
    labelled = suite(
        methods=["all", {"name": "finetune", "label": "short", "params": {"epochs": 1}}]
    )
    assert sorted(labels(labelled)) == sorted([*known, "short"])


@pytest.mark.parametrize(
    ("dataset", "augment"),
    [("digits", "none"), ("cifar10", "crop-flip"), ("svhn", "crop"), ("parquet:x", "crop-flip")],
)
def test_augmentation_is_what_the_dataset_is_usually_trained_with(
    dataset: str, augment: str
) -> None:
    plan = expand(suite(datasets=dataset), device="cpu")
    assert {spec.recipe.augment for spec in plan.runs} == {augment}
    fixed = expand(suite(datasets=dataset, recipe={"augment": "crop"}), device="cpu")
    assert {spec.recipe.augment for spec in fixed.runs} == {"crop"}


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"methods": "finetun"}, UnknownNameError, "did you mean 'finetune'"),
        ({"methods": ["finetune", "finetune"]}, ConfigError, "'finetune' is named twice"),
        ({"methods": [{"name": "finetune", "label": "pbu"}, "pbu"]}, ConfigError, "'pbu' is named"),
        ({"params": {"pbu": {"lr": 1}}}, ConfigError, "'pbu' is not among the methods"),
        ({"params": {"finetun": {}}}, ConfigError, "did you mean 'finetune'"),
        ({"params": {"finetune": {"epoch": 1}}}, ParameterError, "did you mean 'epochs'"),
        ({"params": {"finetune": {"lr": "fast"}}}, ParameterError, "finetune.lr='fast'"),
        ({"params": {"finetune": {"lr": -1, "epochs": 0}}}, ParameterError, "epochs=0.*lr=-1"),
        (
            {"scenarios": {"forget": "class:1", "params": {"nobody": {}}}},
            ConfigError,
            "'nobody' is not among the methods of this suite",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(
    changes: dict[str, Any], kind: type[UserError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        expand(suite(**changes), device="cpu")


def test_flags_change_the_suite_they_are_given_with(write: Write) -> None:
    path = write("broad.yaml", BROAD)
    changed = resolve_suite(
        str(path),
        Overrides(
            methods="pbu, finetune",
            model="allcnn",
            stem="small",
            dataset="cifar10",
            image_size=16,
            forget=("class:1", "classes:2,3"),
            seeds=4,
            epochs=3,
            settings=("finetune.lr=1e-3",),
        ),
    )
    assert changed.name == "broad"
    assert [spec.name for spec in changed.methods] == ["pbu", "finetune"]
    assert [model.label for model in changed.models] == ["allcnn (small stem)"]
    assert changed.datasets == ("cifar10",)
    assert changed.image_size == 16
    assert [scenario.forget.name for scenario in changed.scenarios] == ["class:1", "classes:2,3"]
    assert (changed.seeds.originals, changed.recipe.epochs) == (4, 3)
    assert changed.recipe.lr == load_suite(str(path)).recipe.lr
    runs = expand(changed, device="cpu").runs
    finetune = next(spec for spec in runs if spec.label == "finetune")
    assert (finetune.params["lr"], finetune.params["epochs"]) == (0.001, 7)


def test_no_flags_change_nothing(write: Write) -> None:
    path = str(write("broad.yaml", BROAD))
    assert resolve_suite(path, Overrides()) == load_suite(path)


def test_other_data_without_a_suite_make_a_suite_of_their_own() -> None:
    own = resolve_suite(None, Overrides(dataset="parquet:/some/where", model="resnet18"))
    assert own.name == "parquet-resnet18"
    assert own.recipe.batch_size == 128
    assert resolve_suite(None, Overrides()).name == "digits"


def test_another_model_without_a_suite_makes_a_suite_of_its_own() -> None:
    default = resolve_suite(None, Overrides())
    own = resolve_suite(None, Overrides(model="lenet"))
    assert own.name == "digits-lenet"
    assert own.recipe == default.recipe
    assert resolve_suite(None, Overrides(model=default.models[0].name)) == default


def test_flags_change_of_a_suites_model_only_what_they_name(write: Write) -> None:
    path = write(
        "s.yaml",
        """\
        datasets: digits
        models: {name: test_resnet, stem: standard, args: {drop_rate: 0.1}}
        scenarios: class:8
        methods: finetune
    """,
    )
    [pretrained] = resolve_suite(str(path), Overrides(pretrained=True)).models
    assert (pretrained.stem, pretrained.args) == ("standard", {"drop_rate": 0.1})
    [small] = resolve_suite(str(path), Overrides(model="test_resnet", stem="small")).models
    assert small == pretrained.model_copy(update={"stem": "small", "pretrained": False})
    [other] = resolve_suite(str(path), Overrides(model="lenet")).models
    assert other == ModelSpec(name="lenet")


def test_one_architecture_with_two_stems_stays_two_models(write: Write) -> None:
    path = write(
        "s.yaml",
        """\
        datasets: digits
        models: [test_resnet, {name: test_resnet, stem: standard}]
        scenarios: class:8
        methods: finetune
    """,
    )
    suite = resolve_suite(str(path), Overrides(model="test_resnet", pretrained=True))
    assert [(m.stem, m.pretrained) for m in suite.models] == [("auto", True), ("standard", True)]


def test_a_name_that_no_folder_could_bear_still_gives_a_suite() -> None:
    assert (
        resolve_suite(None, Overrides(dataset="cifar 10", model="a/b:c")).name == "cifar-10-a-b-c"
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("m.p=1", 1),
        ("m.p=1e-3", "1e-3"),
        ("m.p=[1, 2]", [1, 2]),
        ("m.p=a=b", "a=b"),
        ("m.p=null", None),
        (" m . p =true", True),
    ],
)
def test_a_setting_is_a_yaml_value(text: str, value: Any) -> None:
    assert parse_settings([text]) == {"m": {"p": value}}


def test_settings_collect_and_the_last_wins() -> None:
    given = parse_settings(["m.p=1", "n.p=2", "m.q=3", "m.p=4"])
    assert given == {"m": {"p": 4, "q": 3}, "n": {"p": 2}}


@pytest.mark.parametrize("text", ["m", "m.p", "m=1", ".p=1", "m.=1", ""])
def test_a_malformed_setting_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="write --set METHOD.PARAMETER=VALUE"):
        parse_settings([text])


def test_given_weights_are_known_by_content_and_noted(tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"one")
    plan = expand(suite(seeds=2), device="cpu", original=weights)
    assert all(spec.original and spec.original.path == weights for spec in plan.runs)
    assert any("same given weights" in note for note in plan.notes)
    assert any("follows this suite's recipe" in note for note in plan.notes)
    assert not any("recipe" in note for note in expand(suite(), device="cpu").notes)
    weights.write_bytes(b"other")
    again = expand(suite(seeds=2), device="cpu", original=weights)
    assert again.runs[0].identity() != plan.runs[0].identity()
    with pytest.raises(UserError, match="--original: no file .*none"):
        expand(suite(), device="cpu", original=tmp_path / "none")


def test_given_unlearned_models_run_beside_the_controls(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("o.safetensors", "after.safetensors", "b.safetensors")]
    for file in files:
        file.write_text(file.name)
    original, after, other = files
    asked = resolve_suite(None, Overrides(unlearned=True))
    plan = expand(asked, device="cpu", original=original, unlearned=[after, other])
    assert {s.label for s in plan.runs if not s.draw} == {*always(), "after", "b"}
    given = {spec.label: spec for spec in plan.runs if spec.unlearned is not None}
    assert {s.method for s in given.values()} == {"unlearned"} and set(given) == {"after", "b"}
    assert given["after"].identity() != given["b"].identity()
    assert str(tmp_path) not in str(given["after"].identity())
    assert any("after, b came already unlearned: the cost is unknown" in n for n in plan.notes)
    kept = resolve_suite(None, Overrides(unlearned=True, methods="pbu"))
    assert [method.name for method in kept.methods] == ["pbu"]


@pytest.mark.parametrize(
    ("names", "original", "changes", "message"),
    [
        (["a/x"], None, {}, "--unlearned: give --original too"),
        (["none"], "o", {}, "--unlearned: no file .*none.safetensors"),
        (["a/x", "b/a/x"], "o", {}, "would be called 'a-x' in the report, which is another file's"),
        (["pbu"], "o", {}, "would be called 'pbu' in the report, which is a method's"),
        (["a/x", "twin"], "o", {}, "twin.safetensors has the same content as x.safetensors"),
        (["a/x"], "o", {"scenarios": ["class:1", "class:2"]}, "name one --dataset, one --model"),
        ([], "o", {"methods": "unlearned"}, "is a placeholder for a file; give --unlearned FILE"),
    ],
)
def test_unlearned_models_that_cannot_be_judged_are_refused(
    names: list[str], original: str | None, changes: dict[str, Any], message: str, write: Write
) -> None:
    texts = {"o": "o", "a/x": "same", "b/a/x": "other", "pbu": "3", "twin": "same"}
    files = {name: write(f"{name}.safetensors", text) for name, text in texts.items()}
    paths = [files.get(name, Path("none.safetensors")) for name in names]
    with pytest.raises(UserError, match=message):
        expand(
            suite(**changes), device="cpu", original=original and files[original], unlearned=paths
        )


def test_files_of_one_name_are_labelled_by_their_folders(tmp_path: Path, write: Write) -> None:
    first, second, third = (
        write(f"{name}.safetensors", name) for name in ("a/x", "b\x1b/x", "c/y")
    )
    plan = expand(
        suite(),
        device="cpu",
        original=write("o.safetensors", "o"),
        unlearned=[first, second, third],
    )
    labels = {spec.label for spec in plan.runs if spec.unlearned is not None}
    assert labels == {"a-x", "b\\x1b-x", "y"}


def test_every_named_suite_expands() -> None:
    files = suite_files()
    assert "digits" in files
    for name in files:
        loaded = load_suite(name)
        assert loaded.name == name and loaded.description
        # As commands take a named suite: of several scenarios some may not have been tuned.
        plan = expand(loaded, device="cpu", tuned_elsewhere=True)
        assert plan.runs
        if loaded.params_from:
            rows = [row for rows in plan.rows.values() for row in rows.values()]
            assert any(row.tuned for row in rows)


def test_an_unknown_suite_is_refused_with_the_closest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'digits'"):
        load_suite("digit")
    with pytest.raises(ConfigError, match="cannot read the suite .*digit.yaml"):
        load_suite("digit.yaml")


@pytest.mark.parametrize("text", ["", "- digits\n", "digits\n"])
def test_a_file_that_is_no_mapping_is_refused(text: str, write: Write) -> None:
    with pytest.raises(ConfigError, match="a suite is a mapping of keys"):
        load_suite(str(write("s.yaml", text)))


def test_picking_methods_leaves_out_what_the_suite_sets_for_others(write: Write) -> None:
    path = str(write("broad.yaml", BROAD))
    picked = resolve_suite(path, Overrides(methods="pbu"))
    assert {spec.label for spec in expand(picked, device="cpu").runs} == {
        *always(),
        "pbu",
    }
    everything = expand(resolve_suite(path, Overrides(methods="all")), device="cpu").runs
    momentum = {spec.label: spec.params.get("momentum") for spec in everything}
    assert momentum["finetune"] == 0.5 and "slow" not in momentum
    learning_rates = {
        spec.forget.name: spec.params["lr"] for spec in everything if spec.label == "finetune"
    }
    assert learning_rates["random:0.1"] == 0.5 != learning_rates["class:8"]


def test_a_setting_for_a_method_that_was_not_picked_is_refused(write: Write) -> None:
    flags = Overrides(methods="pbu", settings=("finetune.lr=1",))
    with pytest.raises(ConfigError, match="'finetune' is not among the methods"):
        expand(resolve_suite(str(write("broad.yaml", BROAD)), flags), device="cpu")


def test_a_scenario_chosen_by_flag_keeps_what_the_suite_sets_for_it() -> None:
    suite = resolve_suite("mnist-pbu-official", Overrides(forget=("class:2",)))
    found = [spec for spec in expand(suite, device="cpu").runs if spec.method == "pbu"]
    assert {(s.params["alpha"], s.params["beta"], s.params["gamma"]) for s in found} == {
        (631, 100, 4001)
    }
    assert {spec.params["epochs"] for spec in found} == {1, 2, 5}
