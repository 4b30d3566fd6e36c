"""Seeds in two stages, as the report says them."""

import re
from dataclasses import replace

import pytest

from unlearn_bench.analysis.table import sections
from unlearn_bench.report.content import read_content, terminal
from unlearn_bench.report.markdown import render
from unlearn_bench.report.stages import variance_table
from unlearn_bench.results.records import as_csv, read_records, table


def staged(run, times=2):
    runs = [
        run("retrain", seed, kind="reference", forget_accuracy=0.0, retain_accuracy=1.0)
        for seed in range(2)
    ]
    for seed in range(2):
        for draw in range(times):
            # Distances 5, 10 and 20, 25 points: within 12.5, between (15 ** 2) - 12.5 / 2.
            made = run("pbu", seed, forget_accuracy=0.1 + 0.3 * seed + 0.1 * draw)
            made = replace(made, records=(*made.records, *runs[0].records[1:]))
            runs.append(replace(made, key=f"{made.key}-{draw}", draw=draw))
    return runs


def test_the_table_gives_both_deviations_and_the_share_of_unlearning(run):
    (section,) = sections(table(staged(run)))
    shown = variance_table(section)
    cells = dict(zip(shown.columns, shown.rows[0], strict=True))
    assert cells["Method"] == "pbu"
    distance = next(text for name, text in cells.items() if name.startswith("Distance"))
    # sqrt(112.5 - 6.25) = 10.3 and sqrt(12.5) = 3.5; 12.5 / (106.25 + 12.5) = 11 %.
    assert distance == "10.3; 3.5 (11 %)"
    assert "2 originals, 2 unlearnings from each" in " ".join(shown.notes)


def test_a_single_stage_has_no_such_table(run):
    (section,) = sections(table(staged(run, times=1)))
    assert variance_table(section).rows == ()


def test_page_markdown_and_terminal_say_both_stages(run, folder, no_figures):
    from unlearn_bench.report import html

    content = read_content(folder(staged(run)))
    text, page = render(content, {}), html.render(content, {})
    for written in (text, page):
        assert "Training or unlearning" in written
        assert "2 × 2" in written and "over originals" in re.sub(r"\s+", " ", written)
    assert "each the mean of up to 2 unlearnings from its original" in content.intervals
    brief = terminal(content)[0]
    assert [row[-1] for row in brief.rows] == ["2", "2 × 2"]
    assert "Share of unlearning in the variance of distances: pbu 11 %" in brief.notes


def test_tables_have_a_column_for_unlearnings_only_where_there_are_several(run, tmp_path):
    once, twice = as_csv(staged(run, times=1)), as_csv(staged(run))
    assert once.splitlines()[0].endswith(",run_key,gap_error")
    assert twice.splitlines()[0].endswith(",run_key,gap_error,draw")
    (tmp_path / "records.csv").write_text(twice)
    read = read_records(tmp_path)
    assert sorted(set(read[read["method"] == "pbu"]["draw"])) == [0, 1]


@pytest.mark.parametrize("cell", ["first", "", "1.5"])
def test_an_unlearning_that_is_no_whole_number_is_refused(run, tmp_path, cell):
    from unlearn_bench.core.errors import OutputError

    lines = as_csv(staged(run)).splitlines()
    lines[1] = lines[1].rpartition(",")[0] + f",{cell}"
    (tmp_path / "records.csv").write_text("\n".join(lines))
    with pytest.raises(OutputError, match="records.csv:2: the draw is .* a whole number"):
        read_records(tmp_path)
