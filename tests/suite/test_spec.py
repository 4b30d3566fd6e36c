"""What a suite may say, and what of it determines a result."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from unlearn_bench.suite.forget import Forget
from unlearn_bench.suite.recipe import Recipe
from unlearn_bench.suite.seeds import Seeds
from unlearn_bench.suite.spec import MethodSpec, ModelSpec, OriginalFile, RunSpec, Suite

SUITE: dict[str, Any] = {
    "name": "trial",
    "datasets": "digits",
    "models": "test_resnet",
    "scenarios": "class:8",
}


def run_spec(**changes: Any) -> RunSpec:
    values = {
        "dataset": "digits",
        "image_size": None,
        "model": "resnet18",
        "forget": "class:8",
        "recipe": {},
        "validation": 0.1,
        "threads": None,
        "seed": 0,
        "method": "finetune",
        "label": "finetune",
        "params": {"lr": 0.1},
        "device": "cpu",
    }
    return RunSpec.model_validate(values | changes)


@pytest.mark.parametrize(
    ("text", "fields", "name"),
    [
        ("class:8", {"classes": (8,)}, "class:8"),
        ("classes:1,2", {"classes": (1, 2)}, "classes:1,2"),
        ("classes: 1 , 2 ", {"classes": (1, 2)}, "classes:1,2"),
        ("classes:3", {"classes": (3,)}, "class:3"),
        ("class:tabby cat", {"classes": ("tabby cat",)}, "class:tabby cat"),
        ("random:0.1", {"fraction": 0.1}, "random:0.1"),
        ("random:1e-3", {"fraction": 0.001}, "random:0.001"),
    ],
)
def test_a_scenario_is_one_line_of_text(text: str, fields: dict[str, Any], name: str) -> None:
    forget = Forget.model_validate(text)
    assert forget == Forget(**fields)
    assert forget.name == name


def test_indices_come_from_the_text_or_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "indices.txt"
    file.write_text("3\n14\n\n15\n")
    given = Forget.model_validate("indices:3,14,15")
    assert given.indices == (3, 14, 15)
    assert Forget.model_validate(f"indices:{file}") == given


@pytest.mark.parametrize("name", ["5_forget.txt", "2026-11.csv", "3,14.txt"])
def test_a_file_of_indices_may_begin_with_a_digit(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("index\n3\n14\n")
    assert Forget.model_validate(f"indices:{name}").indices == (3, 14)


def test_a_file_of_file_names_names_examples_by_their_files(tmp_path: Path) -> None:
    file = tmp_path / "people.txt"
    file.write_text("train/ann/1.png\ntrain/ann/a photo.JPEG\n")
    found = Forget.model_validate(f"indices:{file}")
    assert found.files == ("train/ann/1.png", "train/ann/a photo.JPEG")
    assert found.name.startswith("files:2@") and found.scope == "random"
    assert Forget.model_validate(found.model_dump(mode="json")) == found
    assert found.training_identity()["named_files"] == sorted(found.files)


def test_a_mask_says_where_its_ones_stand_and_how_many_there_are(tmp_path: Path) -> None:
    file = tmp_path / "mask.txt"
    file.write_text("0\n1\n1\n0\n")
    found = Forget.model_validate(f"indices:{file}")
    assert found.indices == (1, 2) and found.of == 4
    assert Forget.model_validate(found.model_dump(mode="json")) == found
    assert found.training_identity() == Forget(indices=(1, 2)).training_identity()


def test_an_index_is_given_once() -> None:
    with pytest.raises(ValidationError, match="3 is named 2 times in indices; name it once"):
        Forget.model_validate("indices:1,3,3")


def test_a_class_may_have_a_comma_in_its_name() -> None:
    found = Forget.model_validate("class:tench, Tinca tinca")
    assert found.classes == ("tench, Tinca tinca",) and found.scope == "class"
    assert Forget.model_validate("class:tench, Tinca tinca@0.5").share == 0.5


def test_lists_of_indices_are_told_apart_by_name() -> None:
    one, other = (Forget.model_validate(f"indices:{text}") for text in ("1,2", "1,3"))
    assert one.name.startswith("indices:2@")
    assert one.name != other.name


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("8", "does not say what to forget"),
        ("class:", "does not say what to forget"),
        ("class:1,2", "does not say what to forget"),
        (
            "klass:1",
            "write class:8, classes:1,2, .* indices:FILE, .*: see unlearn-bench list",
        ),
        ("random:some", "does not say what to forget"),
        ("random:0", "random:0: 0 is not a fraction between 0 and 1"),
        ("random:1", "random:1: 1 is not a fraction between 0 and 1"),
        ("random:nan", "finite number"),
        ("indices:3,x", "does not say what to forget"),
        ("indices:no/such/file", "cannot read the indices in no/such/file"),
    ],
)
def test_a_text_that_names_nobody_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Forget.model_validate(text)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("1\ntwo\n3", "in line 2 where an index"),
        ("1\n-2", "in line 2 where"),
        ("", "holds nothing"),
    ],
)
def test_a_file_of_indices_with_something_else_in_it_is_refused(
    content: str, reason: str, tmp_path: Path
) -> None:
    file = tmp_path / "indices.txt"
    file.write_text(content)
    with pytest.raises(ValidationError, match=reason):
        Forget.model_validate(f"indices:{file}")


@pytest.mark.parametrize(
    "fields",
    [{}, {"classes": [1], "fraction": 0.5}, {"fraction": 0.5, "indices": [1]}, {"indices": [-1]}],
)
def test_exactly_one_way_of_forgetting_is_given(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Forget.model_validate(fields)


@pytest.mark.parametrize("text", ["class:8", "class:cat", "random:0.25", "indices:1,5"])
def test_a_scenario_survives_being_stored(text: str) -> None:
    forget = Forget.model_validate(text)
    assert Forget.model_validate(forget.model_dump(mode="json")) == forget


def test_short_forms_mean_lists_of_one() -> None:
    suite = Suite.model_validate(SUITE)
    assert suite.datasets == ("digits",)
    assert suite.models == (ModelSpec(name="test_resnet"),)
    assert [scenario.forget.name for scenario in suite.scenarios] == ["class:8"]
    assert suite.methods == (MethodSpec(name="all"),)
    assert suite.seeds == Seeds(originals=1, unlearning=1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seeds": 0}, "greater than 0"),
        ({"threads": 0}, "greater than 0"),
        ({"validation": 1}, "less than 1"),
        ({"validation": 0}, "greater than 0"),
        ({"datasets": []}, "at least 1 item"),
        ({"datasets": ["digits", "digits"]}, "digits is named twice"),
        ({"models": ["lenet", {"name": "lenet", "stem": "auto"}]}, "lenet is named twice"),
        ({"scenarios": ["class:1", "classes:1"]}, "class:1 is named twice"),
        ({"name": "../elsewhere"}, "pattern"),
        ({"name": ""}, "pattern"),
        ({"recipe": {"lr": float("inf")}}, "finite"),
        ({"recipe": {"lr": 0}}, "greater than 0"),
        ({"recipe": {"epochs": 1.5}}, "integer"),
        ({"recipe": {"optimizer": "lion"}}, "'adam', 'adamw' or 'sgd'"),
        ({"recipe": {"warmup": 1}}, "less than 1"),
        ({"surprise": 1}, "Extra inputs"),
    ],
)
def test_a_suite_that_cannot_be_run_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Suite.model_validate(SUITE | change)


def test_numbers_that_yaml_reads_as_text_are_numbers() -> None:
    assert Recipe.model_validate({"lr": "1e-3"}).lr == 0.001


@pytest.mark.parametrize(
    ("device", "how", "known"),
    [
        ("cpu", {}, {}),
        ("cpu", {"precision": "fp32", "memory_format": "contiguous"}, {}),
        ("cpu", {"precision": "bf16"}, {"precision": "bf16"}),
        ("cpu", {"memory_format": "channels_last"}, {"memory_format": "channels_last"}),
        ("cuda", {}, {"precision": "tf32", "memory_format": "channels_last"}),
        ("cuda", {"precision": "bf16"}, {"precision": "bf16", "memory_format": "channels_last"}),
        (
            "cuda",
            {"precision": "fp32", "memory_format": "contiguous"},
            {"precision": "fp32", "memory_format": "contiguous"},
        ),
    ],
)
def test_what_a_recipe_leaves_out_is_the_devices_default(
    device: str, how: dict[str, str], known: dict[str, str]
) -> None:
    found = Recipe.model_validate(how).on(device)
    assert found.model_dump() == Recipe(epochs=10).model_dump() | known
    assert found.on(device) == found == Recipe.model_validate(found.model_dump())


def test_a_specification_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Recipe().epochs = 3  # type: ignore[misc]


def test_a_models_label_names_what_is_not_default() -> None:
    assert ModelSpec(name="vit").label == "vit"
    full = ModelSpec(name="vit", stem="small", pretrained=True)
    assert full.label == "vit (small stem, pre-trained)"


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "mnist"},
        {"image_size": 32},
        {"model": "resnet34"},
        {"recipe": {"lr": 0.1}},
        {"validation": 0.2},
        {"threads": 1},
        {"seed": 1},
        {"device": "cuda"},
        {"original": {"path": "a", "sha256": "0"}},
    ],
)
def test_whatever_trains_the_original_differently_is_part_of_both_identities(
    change: dict[str, Any],
) -> None:
    spec = run_spec(**change)
    assert spec.training_identity() != run_spec().training_identity()
    assert spec.identity() != run_spec().identity()


@pytest.mark.parametrize("change", [{"forget": "class:1"}, {"method": "pbu"}, {"params": {}}])
def test_what_only_the_method_sees_leaves_the_original_shared(change: dict[str, Any]) -> None:
    spec = run_spec(**change)
    assert spec.training_identity() == run_spec().training_identity()
    assert spec.identity() != run_spec().identity()


def test_names_and_places_are_part_of_no_identity() -> None:
    assert run_spec(label="mine").identity() == run_spec().identity()
    here, there = (
        run_spec(original=OriginalFile(path=Path(place), sha256="0")) for place in ("a", "b")
    )
    assert here.identity() == there.identity()


def test_given_constants_make_another_run_and_none_leave_the_old_key() -> None:
    plain, given = run_spec(), run_spec(normalize={"mean": [0.5], "std": [0.25]})
    assert "normalize" not in plain.identity()
    assert given.identity() == plain.identity() | {"normalize": {"mean": [0.5], "std": [0.25]}}
    assert "normalize" not in Suite.model_validate(SUITE).model_dump()
    kept = Suite.model_validate(SUITE | {"normalize": {"mean": 0.5, "std": 0.25}})
    assert Suite.model_validate(kept.model_dump(mode="json")) == kept


def test_fewer_relearning_steps_change_the_judgement_and_not_the_models() -> None:
    usual, fewer = run_spec(), run_spec(relearn_steps=20)
    assert usual.evaluation_identity() == {}
    assert fewer.evaluation_identity() == {"relearn_steps": 20}
    assert fewer.identity() == usual.identity()


def test_a_suite_that_relearns_as_usual_is_written_as_before() -> None:
    assert "relearn_steps" not in Suite.model_validate(SUITE).model_dump(mode="json")
    given = Suite.model_validate(SUITE | {"relearn_steps": 20})
    assert given.model_dump(mode="json")["relearn_steps"] == 20


def test_a_suite_of_two_retrainings_is_written_as_before() -> None:
    assert "references" not in Suite.model_validate(SUITE).model_dump(mode="json")
    given = Suite.model_validate(SUITE | {"references": 4})
    assert given.model_dump(mode="json")["references"] == 4
    assert "draw" not in run_spec().identity() and run_spec(draw=2).identity()["draw"] == 2
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        Suite.model_validate(SUITE | {"references": 1})
