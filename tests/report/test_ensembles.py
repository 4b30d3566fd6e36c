"""Methods that start from an ensemble of their own: rows apart, with why, in every format."""

import pytest

from unlearn_bench.analysis.verdict import as_csv
from unlearn_bench.report import html, latex
from unlearn_bench.report.compare import compare
from unlearn_bench.report.content import read_content, terminal
from unlearn_bench.report.download import methods_csv
from unlearn_bench.report.markdown import render
from unlearn_bench.results.metrics import DISTANCE

OWN = "resnet18 (3 shards of 3 slices)"
REASON = "sisa starts from an original of its own"


def runs_of(run):
    made = []
    for seed in range(3):
        made += [
            run("retrain", seed, kind="reference", forget_accuracy=0.0, retain_accuracy=1.0),
            run("original", seed, kind="control", forget_accuracy=1.0, retain_accuracy=1.0),
            run("pbu", seed, forget_accuracy=0.1, retain_accuracy=0.9),
            # Nearer to its own retraining than pbu to its own, and far from that of others.
            run("sisa", seed, model=OWN, forget_accuracy=0.5, retain_accuracy=0.6),
        ]
        for name, kind, forget in (("retrain", "reference", 0.5), ("original", "control", 0.7)):
            made.append(
                run(
                    f"{name} of sisa",
                    seed,
                    kind=kind,
                    model=OWN,
                    forget_accuracy=forget,
                    retain_accuracy=0.61,
                )
            )
    return made


@pytest.fixture
def content(run, folder, no_figures):
    return read_content(folder(runs_of(run), ensembles={OWN: ["resnet18", "sisa"]}))


def test_they_are_compared_with_their_own_retraining_and_ranked_with_nobody(content):
    (section,) = content.report.sections
    assert [row.method for row in section.ranking] == ["pbu"]
    assert "sisa" not in {row.method for row in section.table.rows}
    (own,) = section.apart
    assert (own.reference, own.original) == ("retrain of sisa", "original of sisa")
    # Two accuracies, of which one is a point away.
    assert own.table.value("sisa", DISTANCE).mean == pytest.approx(0.5)


def test_every_format_shows_the_row_and_says_why_it_compares_differently(content):
    page, text, tex = html.render(content, {}), render(content, {}), latex.render(content)
    for written in (page, text, tex):
        assert written.count(REASON) == 1
        assert "retrain of sisa" in written and "original of sisa" in written
    (main, own) = terminal(content)
    assert "sisa" not in {row[0] for row in main.rows}
    assert {row[0] for row in own.rows} == {"retrain of sisa", "original of sisa", "sisa"}
    assert own.notes[0].startswith(REASON)
    (table,) = content.sections[0].ensembles
    assert any(note.startswith("Verdict against that retraining") for note in table.notes)


def test_other_programs_and_comparisons_get_the_rows_as_well(content, tmp_path):
    csv, verdicts = (
        methods_csv(content.report, (DISTANCE,)),
        as_csv(content.report.sections),
    )
    for written in (csv, verdicts):
        assert f"sisa,method,,,{OWN}" in written or f"{OWN},class:8,sisa,method" in written
    found = compare(tmp_path, tmp_path)
    assert {d.method for d in found.differences} >= {"sisa", "retrain of sisa", "pbu"}


def test_without_the_facts_an_ensemble_is_a_setting_of_its_own(run, folder, no_figures):
    content = read_content(folder(runs_of(run), ensembles={"other": "nonsense", OWN: [1]}))
    assert [of.section.model for of in content.sections] == ["resnet18", OWN]
