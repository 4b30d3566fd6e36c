"""Results folders of anybody: what they hold is rendered as what it is, or refused in a line."""

import csv
import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unlearn_bench.analysis.table import sections
from unlearn_bench.core.errors import OutputError, UserError
from unlearn_bench.report import write_report
from unlearn_bench.report.compare import compare, write_comparison
from unlearn_bench.report.content import read_content
from unlearn_bench.report.figures.drawable import nearest_only
from unlearn_bench.results.checks import LARGEST
from unlearn_bench.results.records import Curve, Record, read_records, table

few = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NAMES = (
    "=HYPERLINK(0)",
    "[x]",
    "*",
    "a\0b\x1b[31m",
    "\udcff",
    "猫\u202e猫",
    "n" * 1000,
    "www.example.org",
    "user@example.org",
    "{$%&#_^~\\",
    "- x",
    "1. x",
    "<b>|</b>",
)


def test_numbers_at_the_edge_of_what_is_read_are_reported(folder, run):
    edge = (0.0, 5e-324, LARGEST, -LARGEST)
    runs = [
        run(
            name,
            seed,
            kind=kind,
            forget_accuracy=edge[(seed + shift) % 4],
            retain_accuracy=edge[(2 * seed + shift) % 4],
            mia_loss_auc=edge[(seed + shift + 1) % 4],
            wall_seconds=abs(edge[(seed + shift) % 4]),
            mia_loss_resolvable_fpr=edge[seed % 4],
            worst_class_drop=edge[(seed + shift) % 4],
            records=(Record("class_drop", "cat", edge[shift % 4]),),
        )
        for shift, (name, kind) in enumerate(
            (("retrain", "reference"), ("original", "control"), ("a", "method"), ("b", "method"))
        )
        for seed in range(9)
    ]
    place = folder(runs)
    assert write_report(place).is_file()
    assert compare(place, place).worse == ()


def test_names_of_any_kind_stand_for_themselves_in_every_file(folder, run):
    accurate = {"forget_accuracy": 0.0, "retain_accuracy": 1.0, "wall_seconds": 1.0}
    runs = [run("retrain", s, kind="reference", **accurate) for s in range(2)]
    by_class = tuple(Record("class_drop", name, 0.1) for name in NAMES)
    runs += [run(name, s, records=by_class, **accurate) for name in NAMES for s in range(2)]
    start = time.process_time()
    place = write_report(folder(runs)).parent
    assert time.process_time() - start < 60  # names of 1,000 characters took minutes
    for name in ("verdicts.csv", "records.csv", "weights.csv"):
        text = (place / name).read_text() if (place / name).exists() else ""
        cells = [cell for row in csv.reader(text.splitlines()) for cell in row]
        assert not [cell for cell in cells if cell[:1] in ("=", "@")]
    assert "=HYPERLINK(0)" in set(read_records(place)["method"])
    tex = (place / "report.tex").read_text()
    assert not [line for line in tex.splitlines() if line.startswith(("[", "*"))]
    page, readme = (place / "report.html").read_text(), (place / "report.md").read_text()
    assert "a\ufffdb\ufffd[31m" in page and "<b>|" not in page
    assert "www.example" not in readme and "user@" not in readme
    found = compare(place, place)
    assert write_comparison(found, place / "compared").is_file()


@pytest.mark.parametrize(
    "entries",
    [
        {"suite": {"recipe": {"epochs": None, "optimizer": 1, "lr": None, "batch_size": []}}},
        {"origin": {"suite_file": {"x": 1}, "original": {"name": []}, "not_asked": 5}},
        {"origin": {"planned": {"k": 5}, "inputs": {"d": {"classes": 5}}, "packages": []}},
        {"methods": {"pbu": {"name": [], "fake": {}, "access": {}, "family": 5}}},
        {"metrics": {"m": {"label": 5, "floor": "x", "splits": 3}, "n": 5}},
        {"environment": {"threads": [], "cpu": {}, "torch": None}},
        {"suite": {"name": "\ud800", "description": "a\0\x1b"}},
        {"notes": [5, None, {"a": []}]},
    ],
)
def test_a_suite_of_any_shape_is_told_as_far_as_it_goes(entries, folder, realistic):
    content = read_content(folder(realistic(seeds=1), **entries))
    assert content.finding


value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


@few
@given(data=st.data())
def test_a_suite_with_anything_in_any_place_is_told_or_refused(
    data: st.DataObject, folder: Any, run: Any
) -> None:
    place = folder(
        [run("pbu", error="x")],
        origin={"data": {"d": "h"}, "commit": {"id": "1"}, "inputs": {"d": {"classes": ["a"]}}},
        metrics={"m": {"label": "x", "unit": "percent", "splits": ["forget"]}},
    )
    stored = json.loads((place / "suite.json").read_text())
    at = stored
    while True:
        key = data.draw(st.sampled_from(sorted(at)))
        if not isinstance(at[key], dict) or not at[key] or data.draw(st.booleans()):
            break
        at = at[key]
    at[key] = data.draw(value)
    (place / "suite.json").write_text(json.dumps(stored))
    try:
        read_content(place)
    except UserError as error:
        assert "suite.json" in str(error) and "\n" not in str(error)


def test_parameters_nested_without_end_are_no_news(folder, run, tmp_path: Path):
    place = folder([run("pbu", error="x")])
    text = (place / "records.csv").read_text()
    (place / "records.csv").write_text(text.replace("{}", "[" * 50_000))
    assert compare(place, place).changes == ()


def test_curves_of_no_examples_are_left_out(folder, realistic):
    runs = [run for run in realistic(seeds=1) if run.method in ("retrain", "original", "pbu")]
    flat = Curve("roc", "mia_loss", (0.0, 1.0), (0.0, 1.0), 0)
    place = folder([type(run)(**(vars(run) | {"curves": (flat,), "log": ()})) for run in runs])
    write_report(place)
    assert not (place / "figures" / "roc.svg").exists()
    (place / "curves.parquet").write_bytes(b"PAR1")
    with pytest.raises(OutputError, match="is not a table of curves"):
        write_report(place)


def test_a_large_suite_is_drawn_in_part_and_told_in_full(folder, run, monkeypatch):
    monkeypatch.setattr("unlearn_bench.report.figures.drawable.MOST_METHODS", 3)
    monkeypatch.setattr("unlearn_bench.report.figures.ranking.MOST_METHODS", 3)
    monkeypatch.setattr("unlearn_bench.report.limits.MOST_LINES", 14)
    monkeypatch.setattr("unlearn_bench.report.limits.FEW_SETTINGS", 2)
    names = [f"m{number}" for number in range(6)]
    runs = [
        run(
            name,
            seed,
            kind="method" if name in names else "reference",
            scenario=f"class:{scenario}",
            forget_accuracy=0.1 * place + 0.01 * seed,
            retain_accuracy=1.0,
        )
        for scenario in range(3)
        for place, name in enumerate(("retrain", *names))
        for seed in range(2)
    ]
    place = write_report(folder(runs)).parent
    drawn = {path.name.partition("-")[0] for path in (place / "figures").glob("*-accuracy.svg")}
    assert drawn == {"01", "02"}
    text = (place / "report.md").read_text()
    assert text.count("figures are drawn of the first 2 of 3 settings") == 1
    assert "The figure shows the 3 nearest of 6 methods; the tables list all." in text
    figure = (place / "figures" / "01-digits-resnet18-class-0-accuracy.svg").read_text()
    assert ">m2<" in figure and ">m3<" not in figure
    assert "| m5 |" in text
    ranking = (place / "figures" / "ranking.svg").read_text()
    assert len(re.findall(r">m\d<", ranking)) == 3


def test_what_is_drawn_of_a_large_suite_has_the_numbers_of_the_whole(run, monkeypatch):
    monkeypatch.setattr("unlearn_bench.report.figures.drawable.MOST_METHODS", 2)
    runs = [
        run(name, seed, kind=kind, forget_accuracy=share + 0.01 * seed, retain_accuracy=1.0)
        for name, kind, share in (
            ("retrain", "reference", 0.0),
            ("a-far", "method", 0.9),
            ("b-near", "method", 0.1),
            ("c-far", "method", 0.8),
            ("d-near", "method", 0.2),
        )
        for seed in range(3)
    ]
    (whole,) = sections(table(runs))
    drawn = nearest_only(whole)
    assert [row.method for row in drawn.table.rows] == ["retrain", "b-near", "d-near"]
    for row in drawn.table.rows:
        np.testing.assert_array_equal(
            drawn.runs(row.method).values, whole.runs(row.method).values, row.method
        )
