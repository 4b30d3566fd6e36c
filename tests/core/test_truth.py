"""YAML's true is refused where a number or a name is expected, and taken where it belongs."""

from typing import Any

import pytest
from pydantic import ValidationError

from unlearn_bench.core.errors import ParameterError
from unlearn_bench.plugins import registry
from unlearn_bench.suite.forget import Forget
from unlearn_bench.suite.recipe import Recipe
from unlearn_bench.suite.spec import ModelSpec, Suite

SUITE = {
    "name": "s",
    "datasets": "digits",
    "models": "lenet",
    "scenarios": "class:1",
    "methods": "all",
}


@pytest.mark.parametrize(
    ("made", "values"),
    [
        (Recipe, {"epochs": True}),
        (Recipe, {"warmup": False}),
        (Forget, {"classes": [True]}),
        (Forget, {"classes": [False, 3]}),
        (Forget, {"fraction": True}),
        (Forget, {"indices": [True, 5]}),
        (Forget, {"memorised": {"level": "high", "share": True}}),
        (Suite, SUITE | {"threads": True}),
        (Suite, SUITE | {"seeds": True}),
        (Suite, SUITE | {"image_size": True}),
        (Suite, SUITE | {"recipe": {"epochs": True}}),
    ],
)
def test_true_is_no_number(made: Any, values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"true and false are neither|seeds"):
        made.model_validate(values)


@pytest.mark.parametrize(
    ("method", "params"),
    [("finetune", {"epochs": True}), ("pbu", {"fisher_examples": True}), ("natmu", {"lr": False})],
)
def test_true_is_no_number_for_a_method(method: str, params: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match="neither numbers nor names"):
        registry.get(method).resolve(params)


def test_true_is_taken_where_it_is_meant() -> None:
    assert Recipe(compile=True).compile
    assert ModelSpec(name="resnet18", args={"zero_init_last": False}, pretrained=True).pretrained
    assert Suite.model_validate(SUITE | {"isolate": True, "skip_corrupt": True}).isolate
    assert registry.get("scissorhands").resolve({"project": False})["project"] is False
    assert registry.get("natmu").resolve({"renew_head": True})["renew_head"] is True
