"""Scenarios beyond whole classes and random examples: as text, as keys, and what they determine."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from unlearn_bench.core.errors import ConfigError
from unlearn_bench.suite.config import expand, load_suite
from unlearn_bench.suite.forget import Forget

WRITTEN: list[tuple[str, dict[str, Any], str]] = [
    ("class:3@0.5", {"classes": [3], "share": 0.5}, "part"),
    ("class:tabby cat@0.25", {"classes": ["tabby cat"], "share": 0.25}, "part"),
    ("class:a@home", {"classes": ["a@home"]}, "class"),
    ("subclass:rocket", {"subclass": "rocket"}, "subclass"),
    ("subclass:8", {"subclass": "8"}, "subclass"),
    ("group:hospital=A", {"group": {"column": "hospital", "value": "A"}}, "group"),
    ("memorised:mid:0.05", {"memorised": {"level": "mid", "share": 0.05}}, "memorised"),
    ("confused:3,5:0.1", {"confused": {"classes": [3, 5], "share": 0.1}}, "confused"),
    ("confused:cat,dog:0.1", {"confused": {"classes": ["cat", "dog"], "share": 0.1}}, "confused"),
    ("poisoned:0:0.02", {"poisoned": {"target": 0, "share": 0.02}}, "poisoned"),
    (
        "poisoned:0:0.02@0.5",
        {"poisoned": {"target": 0, "share": 0.02, "known": 0.5}},
        "poisoned",
    ),
    ("group:note=a=b", {"group": {"column": "note", "value": "a=b"}}, "group"),
]


@pytest.mark.parametrize(("text", "keys", "scope"), WRITTEN)
def test_the_text_and_the_keys_of_a_scenario_mean_the_same(
    text: str, keys: dict[str, Any], scope: str
) -> None:
    forget = Forget.model_validate(text)
    assert forget == Forget.model_validate(keys)
    assert forget.model_dump(mode="json") == keys
    assert (forget.name, forget.scope) == (text, scope)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("class:3@0", "class:3@0: 0 is not a fraction between 0 and 1"),
        ("class:3@1.5", "1.5 is not a fraction between 0 and 1"),
        ("class:@0.5", "does not say what to forget"),
        ("subclass:", "does not say what to forget"),
        ("group:hospital", "does not say what to forget"),
        ("group:=A", "does not say what to forget"),
        ("memorised:most:0.1", "'high', 'mid' or 'low'"),
        ("memorised:high:2", "memorised:high:2: 2 is not a fraction between 0 and 1"),
        ("memorised:high", "does not say what to forget"),
        ("confused:3:0.1", "does not say what to forget"),
        ("confused:3,4,5:0.1", "does not say what to forget"),
        ("confused:3,5", "does not say what to forget"),
        ("confused:3,3:0.1", "labels are swapped between two classes; name another"),
        ("confused:3,5:1", "confused:3,5:1: 1 is not a fraction between 0 and 1"),
        ("poisoned:0", "does not say what to forget"),
        ("poisoned:0:2", "poisoned:0:2: 2 is not a fraction between 0 and 1"),
        ("poisoned:0:0.1@1", "poisoned:0:0.1@1: 1 is not a fraction"),
        ({"classes": [1, 2], "share": 0.5}, "share is of a single class"),
        ({"fraction": 0.1, "share": 0.5}, "share is of a single class"),
        ({"share": 0.5}, "in exactly one way what to forget: one of classes, fraction"),
        ({"subclass": "sea", "fraction": 0.1}, "in exactly one way"),
        ({"group": {"column": "hospital"}}, "group.value"),
    ],
)
def test_a_scenario_that_says_too_little_or_too_much_is_refused(given: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Forget.model_validate(given)


def test_scenarios_of_one_original_share_it() -> None:
    for text in ("class:3@0.5", "subclass:8", "group:a=b", "random:0.1", "memorised:low:0.1"):
        assert Forget.model_validate(text).training_identity() == {}


def test_an_original_of_changed_data_is_no_other_scenarios() -> None:
    identities = [
        Forget.model_validate(text).training_identity()
        for text in ("confused:3,5:0.1", "confused:3,5:0.2", "poisoned:0:0.1", "poisoned:1:0.1")
    ]
    assert all(identities) and len({str(identity) for identity in identities}) == 4


def test_given_weights_do_not_meet_data_that_are_changed_first(write: Any, tmp_path: Path) -> None:
    path = write("own.yaml", "datasets: digits\nmodels: lenet\nscenarios: poisoned:0:0.02\n")
    message = "poisoned:0:0.02 changes the training data before the original is trained"
    with pytest.raises(ConfigError, match=message):
        expand(load_suite(str(path)), device="cpu", original=tmp_path / "weights.safetensors")


def test_a_misspelt_key_of_a_group_is_named_with_its_place(write: Any) -> None:
    text = """\
        datasets: digits
        models: lenet
        scenarios:
          - forget: {group: {colum: hospital, value: A}}
        """
    path = write("own.yaml", text)
    with pytest.raises(ConfigError, match=r"own\.yaml:4:\d+: .*unknown key.*'column'"):
        load_suite(str(path))


def test_methods_made_for_whole_classes_are_left_out_of_parts_of_them(write: Any) -> None:
    path = write("own.yaml", "datasets: digits\nmodels: lenet\nscenarios: class:3@0.5\n")
    plan = expand(load_suite(str(path)), device="cpu")
    asked = {spec.method for spec in plan.runs}
    assert "finetune" in asked and not asked & {"damp", "unsir", "logit_mask"}
    said = "damp was left out of class:3@0.5: it is made for one whole class and several classes"
    assert any(note.startswith(said) for note in plan.notes)
