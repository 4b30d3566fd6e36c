from pathlib import Path

from unlearn_bench.report import write_report
from unlearn_bench.report.markdown import escape


def test_labels_stand_for_themselves():
    assert escape("a|b") == r"a\|b"
    assert escape("<b>*x*</b>\n# y") == r"&lt;b&gt;\*x\*&lt;/b&gt; \# y"
    assert escape("random_label _x_") == r"random_label \_x\_"
    assert escape("[a](b)") == r"\[a\](b)"


def test_figures_are_linked_by_relative_paths_that_exist(folder, realistic):
    place = write_report(folder(realistic())).parent
    text = (place / "report.md").read_text()
    links = [line.split("](")[1][:-1] for line in text.splitlines() if line.startswith("![")]
    assert links == ["figures/accuracy.svg", "figures/cost.svg"]
    assert all((place / link).is_file() for link in links)


def test_every_table_row_has_the_columns_of_its_head(folder, run):
    accurate = {"forget_accuracy": 0.0, "retain_accuracy": 1.0}
    runs = [run("retrain", kind="reference", **accurate), run("odd|name", **accurate)]
    text = (write_report(folder(runs)).parent / "report.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    bars = [row.replace(r"\|", "").count("|") for row in rows]
    # The verdicts of the one method, then the two rows that were measured; each with its head.
    assert bars[:3] == [5] * 3
    assert len(bars) == 3 + 4 and len(set(bars[3:])) == 1


def test_command_cannot_leave_its_block(folder, run):
    place = folder([run("pbu", error="x")], command="run ```\n# title")
    text = (write_report(Path(place)).parent / "report.md").read_text()
    assert "````console\nrun ```\n# title\n````" in text
