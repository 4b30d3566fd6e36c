"""A paper's figures beside ours: shown with what differs, and entering nothing else."""

import copy
from pathlib import Path
from typing import Any

import pytest

from unlearn_bench.report import write_report
from unlearn_bench.report.content import read_content

pytestmark = pytest.mark.usefixtures("no_figures")
ENTRY = {
    "source": "A paper, Table 1",
    "dataset": "digits",
    "model": "resnet18",
    "scenario": "class:8",
    "setup": "Trained for longer.",
    "metrics": {
        "UA": {
            "definition": "unlearning accuracy, 100 % minus the accuracy on the forget set",
            "ours": "forget_accuracy",
            "complement": True,
        },
        "TA": {
            "definition": "accuracy on the test set",
            "ours": "test_retain_accuracy",
            "difference": "Ours is without the forgotten class.",
        },
        "T": {"definition": "seconds", "ours": "wall_seconds"},
    },
    "values": {
        "absent": {"UA": 96.54},
        "pbu": {"UA": 97.65, "TA": 91.23, "T": 12.0},
        "retrain": {"UA": 98.76, "TA": 94.26},
    },
}


def made(run: Any) -> list[Any]:
    return [
        run(name, seed, kind=kind, forget_accuracy=forget, test_retain_accuracy=test)
        for seed in (0, 1)
        for name, kind, forget, test in (
            ("retrain", "reference", 0.0, 0.95),
            ("pbu", "method", 0.1, 0.90 + 0.02 * seed),
        )
    ]


def test_ours_stands_in_the_papers_terms_beside_the_figure(folder: Any, run: Any) -> None:
    table = read_content(folder(made(run), published=ENTRY)).sections[0].published
    # In the order of our own table, whatever the file's; what we have not run comes last.
    assert [row[0] for row in table.rows] == ["retrain"] * 2 + ["pbu"] * 3 + ["absent"]
    cells = {row[:2]: row[2:] for row in table.rows}
    assert cells["retrain", "UA"] == ("98.76 %", "100.00 ± 0.00 %", "+1.24 ± 0.00")
    assert cells["pbu", "UA"][1].startswith("90.00")
    published, ours, away = cells["pbu", "TA"]
    assert (published, ours[:5], away[:5]) == ("91.23 %", "91.00", "−0.23")
    # What was not measured, and what is no share, has no number beside the figure.
    assert cells["absent", "UA"] == ("96.54 %", "–", "–")
    assert cells["pbu", "T"] == ("12.00 %", "–", "–")
    notes = " ".join(table.notes)
    assert notes.startswith("Source: A paper, Table 1. UA: unlearning accuracy, 100 % minus")
    assert "ours is 100 % − forget accuracy." in notes
    assert "Ours is without the forgotten class. " in notes and "Trained for longer." in notes


def test_pages_show_it_and_records_and_verdicts_do_not_change(folder: Any, run: Any) -> None:
    place: Path = folder(made(run))
    write_report(place)
    kept = ("records.csv", "records.parquet", "verdicts.csv", "weights.csv")
    before = {name: (place / name).read_bytes() for name in kept if (place / name).exists()}
    assert "Published figures" not in (place / "report.html").read_text()
    folder(made(run), published=ENTRY)
    write_report(place)
    assert {name: (place / name).read_bytes() for name in before} == before
    for name in ("report.html", "report.md"):
        text = (place / name).read_text()
        assert "Published figures" in text and "98.76" in text, name
        assert "they enter no record, verdict or ranking" in text, name


@pytest.mark.parametrize("change", [{"scenario": "class:3"}, {"values": "none"}, {"metrics": {}}])
def test_figures_of_another_setting_or_of_no_sense_are_left_out(
    change: dict[str, Any], folder: Any, run: Any
) -> None:
    place = folder(made(run), published=copy.deepcopy(ENTRY) | change)
    assert not read_content(place).sections[0].published.rows


def test_names_by_a_stranger_stay_text(folder: Any, run: Any) -> None:
    hostile = copy.deepcopy(ENTRY) | {"source": "<script>x()</script>"}
    place: Path = folder(made(run), published=hostile)
    write_report(place)
    page = (place / "report.html").read_text()
    assert page.count("<script") == 1 and "Published figures" in page
