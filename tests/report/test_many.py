"""The section on many models: shown where there are enough, and silent where there are not."""

import pandas as pd
import pytest

from tests.population.test_many import SHIFTS, curves, of_class, of_thirds
from unlearn_bench.analysis.table import sections
from unlearn_bench.population.many import table
from unlearn_bench.report.figures import canvas, privacy
from unlearn_bench.report.many import as_parquet, many_table, of_section, tier
from unlearn_bench.results.records import table as records_of

KINDS = {"retrain": "reference", "original": "control", "retrain_other_seed": "control"}


@pytest.fixture
def section(run):
    def make(methods, seeds):
        runs = [
            run(
                m,
                seed,
                kind=KINDS.get(m, "method"),
                model="lenet",
                scenario="s",
                forget_accuracy=0.1,
            )
            for m in methods
            for seed in range(seeds)
        ]
        (only,) = sections(records_of(runs))
        return only

    return make


def test_numbers_over_seeds_stand_beside_what_chance_gives(section):
    of = section(SHIFTS, 16)
    found = of_section(table(curves(of_class(16, SHIFTS))), of)
    shown = many_table(found, of)
    assert [row[0] for row in shown.rows] == ["original", "retrain_other_seed", "bad", "good"]
    cells = dict(zip(shown.columns, shown.rows[2], strict=True))
    assert cells["KLoM, F"].endswith(")") and float(cells["of another retraining's"]) < 0.7
    assert tier(found) == "Tier 2: scores of single examples over 16 models."


def test_too_few_seeds_show_no_table(section):
    of = section(SHIFTS, 3)
    found = of_section(table(curves(of_class(3, SHIFTS))), of)
    assert many_table(found, of).rows == ()
    assert tier(found).startswith("Tier 1")


@pytest.fixture(scope="module")
def thirds():
    return table(curves(of_thirds(12, {"retrain": 0.0, "original": 1.0, "half": 0.5})))


def test_attacks_stand_in_a_table_with_their_intervals(section, thirds):
    of = section(("retrain", "original", "half"), 12)
    shown = many_table(of_section(thirds, of), of)
    cells = {row[0]: dict(zip(shown.columns, row, strict=True)) for row in shown.rows}
    privacy_of = {name: row["Forgot it, or never saw it? AUC"] for name, row in cells.items()}
    assert float(privacy_of["original"][:5]) > 0.8 > 0.55 > float(privacy_of["retrain"][:5])
    assert all("(" in cell and "–" in cell for cell in privacy_of.values())


def test_the_figure_counts_who_leaves_more_behind_than_retraining(section, thirds):
    of = section(("retrain", "original", "half"), 12)
    figure = privacy.draw(of, canvas.looks(["half"]), of_section(thirds, of))
    assert figure.title == "1 of 1 methods leave more behind than retraining does"
    assert "12 models of each method" in figure.caption
    assert privacy.draw(of, canvas.looks(["half"]), thirds.head(0)) is None


def test_the_file_is_what_was_found(thirds, tmp_path):
    path = tmp_path / "population.parquet"
    path.write_bytes(as_parquet(thirds))
    again = pd.read_parquet(path)
    assert list(again.columns) == list(thirds.columns) and len(again) == len(thirds)
    assert as_parquet(thirds) == path.read_bytes()
