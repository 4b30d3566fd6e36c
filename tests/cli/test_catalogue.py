"""What there is, by name."""

from pathlib import Path

import pytest

from unlearn_bench.cli import catalogue
from unlearn_bench.cli.catalogue import Listing
from unlearn_bench.core.errors import UnknownNameError, UserError
from unlearn_bench.data import datasets
from unlearn_bench.plugins import registry
from unlearn_bench.plugins.method import SCOPES, Parameter
from unlearn_bench.population.metrics import MANY
from unlearn_bench.results.metrics import BUILT_IN
from unlearn_bench.results.stream import STREAM
from unlearn_bench.suite import config
from unlearn_bench.suite.forget import FORMS, Forget

pytestmark = pytest.mark.usefixtures("own_registry")


@pytest.mark.parametrize("what", catalogue.LISTINGS)
def test_every_listing_is_a_full_table(what: str) -> None:
    listing = catalogue.LISTINGS[what]()
    assert listing.rows
    assert all(len(row) == len(listing.columns) for row in listing.rows)
    assert all(isinstance(text, str) for row in listing.rows for text in row)
    names = [row[0] for row in listing.rows]
    assert len(set(names)) == len(names)


def test_listings_are_what_can_be_asked_for(plugin: Path) -> None:
    registry.load_plugin(plugin)
    listed = {what: {row[0] for row in make().rows} for what, make in catalogue.LISTINGS.items()}
    assert listed["methods"] | listed["controls"] == set(registry.methods())
    assert listed["methods"] >= {"pbu", "retrain", "scale_weights"}
    assert listed["controls"] >= {"original", "logit_mask", "retrain_other_seed"}
    assert not listed["methods"] & listed["controls"]
    assert listed["datasets"] == set(datasets.SOURCES)
    assert listed["metrics"] == set(BUILT_IN) | set(STREAM) | set(MANY)
    assert listed["suites"] == set(config.suite_files())
    assert listed["models"] >= {"resnet18", "lenet", "allcnn", "vit_tiny_patch16_224"}


def test_a_method_is_listed_with_what_it_reads_and_does(plugin: Path) -> None:
    registry.load_plugin(plugin)
    rows = {row[0]: row for row in catalogue.listing("methods").rows}
    assert rows["scale_weights"][1:] == (
        "forget",
        "",
        "",
        "",
        "Scale the weights: a stand-in for a method of one's own",
    )
    assert rows["pbu"][1:5] == ("forget", "ascent", "2025", "arXiv:2403.16246")


def chosen(**narrowed: str) -> set[str]:
    return {row[0] for row in catalogue.listing("methods", **narrowed).rows}


def test_methods_are_chosen_by_what_somebody_can_give_them() -> None:
    assert {"pbu", "gradient_ascent"} <= chosen(access="forget")
    assert not {"retrain", "finetune", "random_label"} & chosen(access="forget")
    assert {"retrain", "finetune"} <= chosen(access="retain")
    assert "random_label" not in chosen(access="retain")
    everything = chosen(access="forget+retain + validation+log+checkpoints")
    assert everything == chosen() > chosen(access="forget") > chosen(access="nothing")


def test_methods_are_chosen_by_family() -> None:
    assert {"pbu", "gradient_ascent"} <= chosen(family="ascent")
    assert all(registry.get(name).family == "ascent" for name in chosen(family="ascent"))
    assert "finetune" not in chosen(family="ascent", access="forget+retain")


@pytest.mark.parametrize(
    ("what", "narrowed", "message"),
    [
        (
            "methods",
            {"access": "forge"},
            "'forge' is not among forget, retain, validation, log, checkpoints, noth",
        ),
        (
            "methods",
            {"family": "ascnt"},
            "'ascnt'; did you mean 'ascent'[?] .*masking, metric learning",
        ),
        ("models", {"family": "ascent"}, "models have neither"),
        ("method", {}, "did you mean 'methods'"),
    ],
)
def test_a_mistaken_choice_says_what_there_is(what: str, narrowed: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        catalogue.listing(what, **narrowed)


def test_a_method_shows_where_it_comes_from_and_what_it_is_made_for() -> None:
    facts = dict(catalogue.describe("pbu"))
    assert facts["family"] == "ascent" and facts["year"] == "2025"
    assert facts["made for"] == "every kind of scenario"
    assert dict(catalogue.describe("damp"))["made for"] == "one whole class, several classes"


def test_every_way_of_forgetting_that_is_listed_is_understood(tmp_path: Path) -> None:
    file = tmp_path / "some.txt"
    file.write_text("3\n14\n")
    for text, _ in catalogue.listing("scenarios").rows:
        written = text.replace("FILE", str(file))
        scenario = Forget.model_validate(written)
        assert scenario.name == written or scenario.indices == (3, 14)
    widest = max(len(form.text) for form in FORMS)
    # A row fits 80 columns.
    assert all(widest + 1 + len(form.meaning) <= 80 for form in FORMS)
    listed = {form.scope for form in FORMS}
    assert listed == set(SCOPES)


@pytest.mark.parametrize("name", registry.methods())
def test_every_method_says_what_it_is_and_what_its_parameters_mean(name: str) -> None:
    facts = dict(catalogue.describe(name))
    kind = registry.get(name).kind
    assert str(facts[kind]).startswith(f"{name}: ") and len(str(facts[kind])) > len(name) + 10
    table = facts.get("parameters", Listing((), []))
    assert isinstance(table, Listing)
    assert [row[0] for row in table.rows] == list(registry.get(name).schema.model_fields)
    assert all(meaning and kind for _, kind, _, _, meaning in table.rows)


@pytest.mark.parametrize("name", registry.methods())
def test_every_default_has_exactly_one_origin(name: str) -> None:
    for parameter in registry.get(name).parameters():
        assert len(parameter.origins) == 1, f"{parameter.name}: {parameter.meaning}"


@pytest.mark.parametrize(
    ("meaning", "origin", "explanation"),
    [
        ("Passes over F. Paper.", "Paper", "Passes over F."),
        ("Step size. Official code: 0.1, for ViT.", "Official code", None),
        ("Examples per step (see there). Ours.", "Ours", "Examples per step (see there)."),
        ("Of SGD. Re-implementation.", "Re-implementation", "Of SGD."),
        ("Common practice: 5 to 10.", "Common practice", None),
        ("Off (paper: on). Paperwork. Oursin.", "", None),
        ("What the Official code does", "", None),
    ],
)
def test_the_origin_is_a_sentence_of_the_meaning(
    meaning: str, origin: str, explanation: str | None
) -> None:
    parameter = Parameter("lr", "number", 0.1, meaning)
    assert parameter.origin == origin and parameter.explanation == (explanation or meaning)


def test_show_has_the_origin_in_a_column_of_its_own() -> None:
    table = dict(catalogue.describe("boundary_shrink"))["parameters"]
    assert isinstance(table, Listing) and table.columns[3] == "origin"
    shown = {row[0]: row[3:] for row in table.rows}
    assert shown["batch_size"] == ("Official code", "Examples per step.")
    assert {origin for origin, _ in shown.values()} == {"Official code", "Paper", "Ours"}


@pytest.mark.parametrize("name", [*BUILT_IN, *MANY])
def test_every_metric_says_what_it_is(name: str) -> None:
    facts = dict(catalogue.describe(name))
    assert facts["metric"] == name
    assert all(facts[key] for key in ("definition", "ideal", "cost", "source"))


def test_an_unknown_name_is_answered_with_the_closest() -> None:
    with pytest.raises(
        UnknownNameError, match="no method or metric named 'forget_acuracy'; did you"
    ):
        catalogue.describe("forget_acuracy")
