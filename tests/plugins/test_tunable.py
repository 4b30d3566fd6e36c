"""What is searched when a method is tuned: as declared, or as type and default suggest."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from unlearn_bench.api import (
    Access,
    Fraction,
    Momentum,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Tunable,
    method,
)
from unlearn_bench.cli import catalogue
from unlearn_bench.core.errors import PluginError
from unlearn_bench.plugins import registry
from unlearn_bench.plugins.method import Check
from unlearn_bench.plugins.tunable import Choice, Range

pytestmark = pytest.mark.usefixtures("own_registry")


def space(function: Callable[..., Any], **options: Any) -> dict[str, Any]:
    method("searched", access=Access.FORGET, **options)(function)
    return {dimension.name: dimension for dimension in registry.get("searched").space}


def test_type_and_default_suggest_what_is_searched() -> None:
    def searched(
        model,
        ctx,
        *,
        weight: PositiveFloat = 1e-3,
        lr: PositiveFloat = 1e-3,
        last_lr: PositiveFloat = 0.5,
        share: Fraction = 0.25,
        epochs: PositiveInt = 5,
        few: PositiveInt = 1,
        once: bool = True,
        kind: Literal["a", "b"] = "a",
        maybe: bool | None = None,
        size: PositiveInt | None = 64,
        inside: Annotated[float, Tunable(0.5, 0.75)] = 0.5,
    ):
        return model

    assert space(searched) == {
        "weight": Range("weight", 1e-4, 1e-2, log=True, integer=False),
        "lr": Range("lr", 1e-5, 1e-1, log=True, integer=False),
        "last_lr": Range("last_lr", 1e-5, 5.0, log=True, integer=False),
        "share": Range("share", 0.0, 1.0, log=False, integer=False),
        "epochs": Range("epochs", 1, 20, log=True, integer=True),
        "few": Range("few", 1, 4, log=False, integer=True),
        "once": Choice("once", (False, True)),
        "kind": Choice("kind", ("a", "b")),
        "maybe": Choice("maybe", (False, True, None)),
        "size": Range("size", 16, 256, log=True, integer=True),
        "inside": Range("inside", 0.5, 0.75, log=False, integer=False),
    }


def test_what_gives_no_scale_or_is_excluded_keeps_its_default() -> None:
    def fixed(
        model,
        ctx,
        *,
        off: NonNegativeFloat = 0.0,
        none: PositiveFloat | None = None,
        zero: NonNegativeInt = 0,
        steps: tuple[int, ...] = (3, 5),
        momentum: Momentum = 0.9,
        stop_examples: Annotated[PositiveInt, Tunable(tune=False)] = 256,
        batch_size: PositiveInt = 64,
    ):
        return model

    assert space(fixed, check=Check(speed_only=("batch_size",))) == {}


def test_a_declaration_is_taken_as_it_stands() -> None:
    def declared(
        model,
        ctx,
        *,
        lr: Annotated[PositiveFloat, Tunable(1e-5, 1e-1, log=True)] = 1e-3,
        batch: Annotated[PositiveInt, Tunable(choices=(64, 128, 256))] = 128,
        alpha: Annotated[PositiveFloat | None, Tunable(1.0, 100.0, log=True)] = None,
        beta: Annotated[PositiveFloat, Tunable(1, 2)] | None = None,
        unit: Annotated[str, Tunable(choices=("layer", "block"))] = "layer",
    ):
        return model

    found = space(declared)
    assert found["lr"] == Range("lr", 1e-5, 1e-1, log=True, integer=False)
    assert found["batch"] == Choice("batch", (64, 128, 256))
    assert found["alpha"] == Range("alpha", 1.0, 100.0, log=True, integer=False)
    assert found["beta"] == Range("beta", 1, 2, log=False, integer=False)
    assert found["unit"] == Choice("unit", ("layer", "block"))


@pytest.mark.parametrize(
    ("annotation", "default", "said"),
    [
        ("Annotated[PositiveFloat, Tunable(0.1, 1.0)]", "2.0", "its default 2.0 lies outside"),
        ("Annotated[int, Tunable(choices=(1, 2))]", "3", "its default 3 lies outside"),
        ("Annotated[PositiveFloat, Tunable(1.0, 0.1)]", "0.5", "needs low below high"),
        (
            "Annotated[float, Tunable(0.0, 1.0, log=True)]",
            "0.5",
            "needs low below high and above 0",
        ),
        ("Annotated[PositiveFloat, Tunable(-1.0, 1.0)]", "0.5", "its type does not allow"),
        ("Annotated[PositiveInt, Tunable(1.5, 4)]", "2", "needs integer bounds"),
        ("Annotated[str, Tunable(1, 4)]", "'a'", "only numbers have a range"),
        ("Annotated[float, Tunable(1.0)]", "1.0", "takes low and high"),
        ("Annotated[float, Tunable(1.0, 2.0, choices=(1.0,))]", "1.0", "not both"),
        ("Annotated[float, Tunable(least=1.0)]", "1.0", "unexpected keyword argument 'least'"),
    ],
)
def test_a_range_that_cannot_be_searched_is_refused_when_the_plug_in_is_loaded(
    annotation: str, default: str, said: str, write: Callable[[str, str], Path]
) -> None:
    file = write(
        "plugin.py",
        f"""\
        from typing import Annotated
        from unlearn_bench.api import Access, PositiveFloat, PositiveInt, Tunable, method

        @method("mine", access=Access.FORGET)
        def mine(model, ctx, *, value: {annotation} = {default}):
            return model
        """,
    )
    with pytest.raises(PluginError) as caught:
        registry.load_plugin(file)
    assert said in str(caught.value) and "plugin.py:" in str(caught.value)
    assert said.startswith("unexpected") or "value: " in str(caught.value)


def test_every_method_that_comes_with_us_has_something_to_search() -> None:
    for name, entry in registry.methods().items():
        # What an original is trained by is a protocol, and no setting of a method.
        if entry.kind == "method" and not entry.access.checkpoints:
            assert entry.space, name
            defaults = entry.resolve({})
            for dimension in entry.space:
                default = defaults[dimension.name]
                assert default is None or dimension.holds(default), (name, dimension)


def test_show_lists_what_is_searched() -> None:
    facts = dict(catalogue.describe("ssd"))
    table = facts["searched by `unlearn-bench tune`"]
    assert isinstance(table, catalogue.Listing)
    assert dict(table.rows)["alpha"] == "1 to 100, logarithmic"
    assert dict(table.rows)["importance"] == "fisher, batch"
    assert "searched by `unlearn-bench tune`" not in dict(catalogue.describe("retrain"))
