"""When a page is written again, and when it is left alone."""

import os

import pytest

from unlearn_bench.report import freshness, write_report
from unlearn_bench.report.freshness import is_fresh
from unlearn_bench.results.records import write_records


@pytest.fixture
def place(folder, run, no_figures):
    made = folder([run("pbu", forget_accuracy=0.1)])
    assert not is_fresh(made)
    write_report(made)
    return made


def test_a_page_that_was_just_written_is_fresh_whatever_the_clock_says(place):
    for path in place.iterdir():
        os.utime(path, ns=(0, 0))
    assert is_fresh(place)


def test_an_upgrade_of_the_package_makes_it_stale(place, monkeypatch):
    monkeypatch.setattr(freshness, "__version__", "99.0")
    assert not is_fresh(place)


@pytest.mark.parametrize("name", ["suite.json", "curves.parquet"])
def test_another_file_behind_it_makes_it_stale(name, place):
    with (place / name).open("ab") as file:
        file.write(b"\n")
    assert not is_fresh(place)


def test_other_results_make_it_stale(place, run):
    write_records(place, [run("pbu", forget_accuracy=0.2)])
    assert not is_fresh(place)


def test_a_page_of_an_earlier_version_has_no_key_and_is_stale(place):
    page = place / "report.html"
    page.write_text(page.read_text().replace("unlearn-bench-key", "something-else"))
    assert not is_fresh(place)
