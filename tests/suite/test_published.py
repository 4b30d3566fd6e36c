"""Figures of papers that suites name: where they are read from, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unlearn_bench.core.errors import ConfigError
from unlearn_bench.results.metrics import BUILT_IN
from unlearn_bench.suite.config import expand, load_suite, suite_file, suite_files
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
    assert plan.published.is_of("digits", "lenet", "class:8")
    assert not plan.published.is_of("digits", "lenet", "class:3")
    assert plan.suite.published == "published.yaml#one", "the copy beside the results"


def test_what_is_written_is_read_again(suite: Any, tmp_path: Path) -> None:
    found = expand(load_suite(suite()), device="cpu").published
    assert found is not None
    write_published(tmp_path / "published.yaml", "one", found)
    assert read_published(f"{tmp_path / 'published.yaml'}#one") == found


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
    run = plan.runs[0]
    assert plan.published.is_of(run.dataset, run.model.label, run.scenario)
    assert set(plan.published.values) <= {run.label for run in plan.runs}
    for metric in plan.published.metrics.values():
        assert BUILT_IN[metric.ours.partition(" (")[0]].unit == "percent"


def test_the_file_of_figures_is_no_suite_and_every_entry_has_one() -> None:
    from unlearn_bench.suite.yaml_source import YamlSource

    files = suite_files()
    assert "published" not in files
    entries = set(YamlSource(files["digits"].parent / "published.yaml").value)
    assert entries <= set(files)
