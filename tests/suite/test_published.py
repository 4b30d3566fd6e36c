"""Figures of papers that suites name: where they are read from, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unlearn_bench.core.errors import ConfigError
from unlearn_bench.results.metrics import BUILT_IN
from unlearn_bench.suite.config import Plan, expand, load_suite, suite_file, suite_files
from unlearn_bench.suite.published import read_published, write_published

SUITE = """\
datasets: digits
models: lenet
scenarios: class:8
methods: finetune
published: figures.yaml#one
"""
ENTRY = """\
one:
  source: A paper
  dataset: digits
  model: lenet
  scenario: class:8
  metrics:
    UA: {definition: forgetting, ours: forget_accuracy, complement: true}
  values:
    retrain: {UA: 5.0}
"""
Write = Callable[[str, str], Path]


@pytest.fixture
def suite(write: Write) -> Callable[..., str]:
    """Write a suite beside a file of figures; return the suite's path."""

    def written(entry: str = ENTRY, published: str = "figures.yaml#one") -> str:
        write("suites/figures.yaml", entry)
        return str(write("suites/own.yaml", SUITE.replace("figures.yaml#one", published)))

    return written


def test_figures_lie_beside_the_suite_and_are_read_with_it(suite: Any) -> None:
    plan = expand(load_suite(suite()), device="cpu")
    assert plan.published is not None and plan.published.values == {"retrain": {"UA": 5.0}}
    assert plan.published.of("digits", "lenet", "class:8") == plan.published.values
    assert not plan.published.of("digits", "lenet", "class:3")
    assert not plan.published.of("digits", "resnet18", "class:8")
    assert plan.suite.published == "published.yaml#one", "the copy beside the results"


def test_what_is_written_is_read_again(suite: Any, tmp_path: Path) -> None:
    found = expand(load_suite(suite()), device="cpu").published
    assert found is not None
    write_published(tmp_path / "published.yaml", "one", found)
    assert read_published(f"{tmp_path / 'published.yaml'}#one") == found


SEVERAL = ENTRY.replace("  scenario: class:8\n", "").replace(
    "  values:\n    retrain: {UA: 5.0}\n",
    "  scenarios:\n    class:8: {retrain: {UA: 5.0}}\n    class:3: {retrain: {UA: 7.0}}\n",
)


def test_an_entry_may_hold_the_figures_of_several_scenarios(suite: Any, tmp_path: Path) -> None:
    found = expand(load_suite(suite(SEVERAL)), device="cpu").published
    assert found is not None
    assert found.of("digits", "lenet", "class:8") == {"retrain": {"UA": 5.0}}
    assert found.of("digits", "lenet", "class:3") == {"retrain": {"UA": 7.0}}
    assert not found.of("digits", "lenet", "class:2")
    write_published(tmp_path / "published.yaml", "one", found)
    assert read_published(f"{tmp_path / 'published.yaml'}#one") == found


def test_an_entry_is_stored_in_the_form_in_which_it_was_written(suite: Any) -> None:
    one = expand(load_suite(suite()), device="cpu").published
    several = expand(load_suite(suite(SEVERAL)), device="cpu").published
    assert one is not None and several is not None
    assert {"scenario", "values"} <= one.model_dump().keys()
    assert "scenarios" not in one.model_dump()
    assert not {"scenario", "values"} & several.model_dump().keys()


def test_a_suite_without_figures_is_stored_as_before(suite: Any) -> None:
    assert "published" not in load_suite("digits").model_dump()


@pytest.mark.parametrize(
    ("entry", "published", "said"),
    [
        (ENTRY, "figures.yaml", "names no entry; write FILE#ENTRY"),
        (ENTRY, "figures.yaml#on", "has no entry 'on'; did you mean 'one'?"),
        (ENTRY, "absent.yaml#one", "cannot read .*absent.yaml: No such file"),
        ("one: [", "figures.yaml#one", r"figures.yaml:\d+:\d+"),
        ("- one", "figures.yaml#one", "has no entry 'one'"),
        (ENTRY.replace("5.0", "much"), "figures.yaml#one", "one.values.retrain.UA: Input should"),
        (ENTRY.replace("5.0", ".nan"), "figures.yaml#one", "one.values.retrain.UA: Input should"),
        (
            ENTRY.replace("retrain: {UA", "retrain: {UB"),
            "figures.yaml#one",
            "one: retrain has a value of 'UB'; the metrics are UA; correct the entry",
        ),
        (
            SEVERAL.replace("class:3: {retrain: {UA", "class:3: {retrain: {UB"),
            "figures.yaml#one",
            "one: retrain has a value of 'UB'; the metrics are UA; correct the entry",
        ),
        *(
            (entry, "figures.yaml#one", "one: give scenario and values, or scenarios alone")
            for entry in (
                SEVERAL + "  scenario: class:2\n",
                SEVERAL + "  values: {retrain: {UA: 1.0}}\n",
                SEVERAL + "  scenario: class:2\n  values: {retrain: {UA: 1.0}}\n",
                ENTRY.replace("  scenario: class:8\n", ""),
                ENTRY.partition("  values:")[0],
            )
        ),
        (ENTRY + "  more: 1\n", "figures.yaml#one", "one.more: Extra inputs are not permitted"),
    ],
)
def test_what_is_no_such_entry_is_refused_in_one_line(
    entry: str, published: str, said: str, suite: Any
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        expand(load_suite(suite(entry, published)), device="cpu")
    assert "\n" not in str(caught.value)


REPRODUCTIONS = ("repro-salun-random", "repro-ssd", "repro-delete")


@pytest.mark.parametrize("name", REPRODUCTIONS)
def test_reproductions_say_that_they_need_a_gpu_and_match_their_figures(name: str) -> None:
    suite = load_suite(name)
    plan = expand(suite, device="cpu")
    assert suite.description.startswith("Needs a GPU. ") and len(suite.scenarios) == 1
    if plan.published is None:
        assert "No published figures" in suite_file(name).read_text()
        return
    _figures_are_of_runs(plan)


def test_the_pbu_papers_figures_stand_beside_each_of_its_classes() -> None:
    suite = load_suite("mnist-pbu-paper")
    plan = expand(suite, device="cpu")
    _figures_are_of_runs(plan)
    assert plan.published is not None
    assert set(plan.published.scenarios) == {scenario.forget.name for scenario in suite.scenarios}


def _figures_are_of_runs(plan: Plan) -> None:
    published = plan.published
    assert published is not None
    for scenario in {run.scenario for run in plan.runs}:
        runs = [run for run in plan.runs if run.scenario == scenario]
        values = published.of(runs[0].dataset, runs[0].model.label, scenario)
        assert values and set(values) <= {run.label for run in runs}
    for metric in published.metrics.values():
        assert BUILT_IN[metric.ours.partition(" (")[0]].unit == "percent"


def test_the_file_of_figures_is_no_suite_and_every_entry_has_one() -> None:
    from unlearn_bench.suite.yaml_source import YamlSource

    files = suite_files()
    assert "published" not in files
    entries = set(YamlSource(files["digits"].parent / "published.yaml").value)
    assert entries <= set(files)
