"""A stream of requests on page, in Markdown and in pictures."""

import re

import pytest

from tests.analysis.test_stream import BACKWARD, RETRAINED, UNLEARNED, runs_of
from unlearn_bench.cli import catalogue
from unlearn_bench.report.content import read_content
from unlearn_bench.report.figures import draw
from unlearn_bench.report.markdown import render
from unlearn_bench.results.records import read_records
from unlearn_bench.results.stream import STREAM as METRICS


@pytest.fixture
def content(run, folder):
    runs = [
        *runs_of(run, "retrain", RETRAINED, kind="reference"),
        *runs_of(run, "salun", UNLEARNED),
        *runs_of(run, "retrain", RETRAINED, kind="reference", scenario=BACKWARD),
    ]
    return read_content(folder(runs))


def test_a_stream_has_a_table_of_figures_a_matrix_and_its_way(content):
    summary, matrix, way = content.sections[0].stream
    cells = dict(zip(summary.columns, summary.rows[0], strict=True))
    assert cells["Method"] == "salun"
    assert cells["Reversal,\npoints"] == "30.0"
    assert cells["Erosion, points\na request"] == "3.5"
    assert cells["Dearer than one\nretraining from"] == "request 3"
    assert "1. class:1; 2. class:4; 3. random:0.1" in summary.notes[1]
    assert matrix.rows[0] == ("salun: 1. class:1", "+10.0", "+40.0", "+25.0")
    assert matrix.rows[1] == ("salun: 2. class:4", "–", "+20.0", "+10.0")
    assert way.rows == (
        ("salun: retain gap", "−1.0", "−4.0", "−8.0"),
        ("salun: test retain gap", "−0.5", "−2.0", "−4.0"),
        ("salun: time", "25 %", "33 %", "43 %"),
    )
    assert content.sections[1].stream == ()  # retraining alone says nothing of a method


def test_page_and_markdown_show_them_all(content, no_figures):
    from unlearn_bench.report import html

    for written in (render(content, {}), html.render(content, {})):
        for title in ("Request by request", "What came back", "Utility and cost over the"):
            assert title in written
        assert "+40.0" in written and "retrain_other_seed" in re.sub(r"<wbr>|\\", "", written)


def test_the_first_table_says_which_request_it_is_about_and_the_terminal_what_came_back(content):
    from unlearn_bench.report.content import terminal

    assert content.sections[0].reading.startswith("After request 3 of 3, and of what that one took")
    assert "Came back over 3 requests, points: salun 30.0" in terminal(content)[0].notes


def test_pictures_state_what_came_back_and_what_it_cost(content):
    report = content.report
    drawn = draw(report.sections, report.curves, content.population, content.streams)
    figures = {figure.name.rpartition("-rand-")[2]: figure for figure in drawn[0]}
    back = next(f for name, f in figures.items() if name.endswith("came-back"))
    assert back.title == "Under salun up to 30 points of accuracy came back"
    assert "salun,1,2,40" in back.data and back.svg.count("<text") > 6
    way = next(f for name, f in figures.items() if name.endswith("requests"))
    assert way.title == "Over all requests salun is the cheapest, at 43 % of retraining’s time"
    assert (
        way.data.splitlines()[0]
        == "method,request,retain_gap,test_retain_gap,percent_of_retraining"
    )
    assert "salun,3,-8,-4,42.8571" in way.data
    assert "drawn" not in back.caption


def test_of_many_methods_the_first_are_drawn_and_the_caption_says_so(run, folder):
    runs = runs_of(run, "retrain", RETRAINED, kind="reference")
    for number in range(13):
        runs += runs_of(run, f"method-{number:02d}", UNLEARNED)
    content = read_content(folder(runs))
    drawn = draw(content.report.sections, content.report.curves, None, content.streams)[0]
    back = next(figure for figure in drawn if figure.name.endswith("came-back"))
    assert "The first 12 of 13 methods are drawn; the table has all." in back.caption
    assert len({line.split(",")[0] for line in back.data.splitlines()[1:]}) == 12


def test_tables_have_a_column_for_requests_only_where_there_are_some(run, content, tmp_path):
    read = read_records(tmp_path)
    assert set(read["request"]) == {1, 2, 3}
    assert (
        (tmp_path / "records.csv")
        .read_text()
        .splitlines()[0]
        .endswith(",run_key,gap_error,request")
    )


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_of_streams_is_listed_and_described(name):
    assert name in {row[0] for row in catalogue.listing("metrics").rows}
    facts = dict(catalogue.describe(name))
    assert facts["definition"].endswith(".") and facts["ideal"]
    assert METRICS[name].label and facts["in tables"] == METRICS[name].label
