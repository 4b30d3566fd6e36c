"""Metrics as plug-ins declare them."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from unlearn_bench.core.errors import PluginError
from unlearn_bench.plugins import registry
from unlearn_bench.plugins.metric import MetricInfo, metrics_key, read_metric, stored_metrics

pytestmark = pytest.mark.usefixtures("own_registry")

TOY = """\
from unlearn_bench.api import MetricInfo, Record, measures


@measures(MetricInfo("{name}", "A toy.", role="primary", splits=("forget",), floor=0.1))
def {function}(evaluation):
    return [Record("{name}", "forget", 1.0)]
"""
Write = Callable[[str, str], Path]


def toy(name: str = "toy", function: str = "toy") -> str:
    return TOY.format(name=name, function=function)


def test_a_file_may_register_metrics_only(write: Write) -> None:
    assert registry.load_plugin(write("toy.py", toy())) == []
    assert list(stored_metrics()) == ["toy"]


def test_what_is_stored_is_read_back_whole(write: Write) -> None:
    registry.load_plugin(write("toy.py", toy()))
    (stored,) = stored_metrics().values()
    info = MetricInfo("toy", "A toy.", role="primary", splits=("forget",), floor=0.1)
    assert read_metric("toy", stored) == info
    assert read_metric("toy", {**stored, "from_a_later_version": 1}) == info


def test_a_metric_of_some_scenarios_is_read_back_from_json() -> None:
    info = MetricInfo("toy", "A toy.", splits=("forget", "retain"), forgets=("poisoned",))
    assert read_metric("toy", json.loads(json.dumps(asdict(info)))) == info


@pytest.mark.parametrize(
    "stored", [{"unit": "furlongs"}, {"floor": "a"}, {"splits": 3}, {"forgets": ["all"]}]
)
def test_a_stored_declaration_that_makes_no_sense_is_none(stored: dict[str, Any]) -> None:
    assert read_metric("toy", stored) is None


def test_results_depend_on_the_file_of_a_metric(write: Write) -> None:
    assert metrics_key() == {}
    registry.load_plugin(write("toy.py", toy()))
    before = metrics_key()
    registry.load_plugin(write("toy.py", toy() + "# Another thought.\n"))
    assert before and metrics_key() != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (toy("forget_accuracy"), r"toy.py:4: unlearn-bench has a metric named 'forget_accuracy'"),
        (toy(function="accuracies"), r"toy.py:4: two functions of metrics are named 'accuracies'"),
        (toy("a metric"), r"toy.py:4: a metric cannot be named 'a metric'"),
        (toy().replace("0.1", "-1"), r"toy.py:4: metric 'toy': floor=-1 must be 0 or more"),
        (
            toy().replace("floor=0.1", 'forgets=("poison",)'),
            r"toy.py:4: metric 'toy': forgets=\('poison',\) names 'poison', which is none of class",
        ),
        (
            toy().replace("floor=0.1", 'direction="less"'),
            r"toy.py:4: metric 'toy': role='primary' compares it with retraining",
        ),
        (
            toy().replace("floor=0.1", 'unit="miles"'),
            r"toy.py:4: metric 'toy': unit='miles' is not one of 'percent', ",
        ),
    ],
)
def test_a_declaration_that_cannot_be_used_is_refused_with_its_line(
    text: str, message: str, write: Write
) -> None:
    with pytest.raises(PluginError, match=message):
        registry.load_plugin(write("toy.py", text))


def test_two_files_cannot_share_a_name(write: Write) -> None:
    registry.load_plugin(write("one.py", toy()))
    with pytest.raises(PluginError, match="two metrics are named 'toy'"):
        registry.load_plugin(write("two.py", toy(function="other")))
