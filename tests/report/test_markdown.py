"""report.md, parsed as GitHub would: labels, links, tables, code blocks."""

from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from unlearn_bench.report import write_report
from unlearn_bench.report.markdown import escape


def test_labels_stand_for_themselves():
    assert escape("a|b") == r"a\|b"
    assert escape("<b>*x*</b>\n# y") == r"&lt;b&gt;\*x\*&lt;/b&gt; \# y"
    assert escape("random_label _x_") == r"random_label \_x\_"
    assert escape("[a](b)") == r"\[a\](b)"
    assert escape("www.a.b a@b $x$") == "www\u200b.a.b a&#64;\u200bb \\$x\\$"
    assert escape("- a") == r"\- a" and escape("1. a") == r"1\. a" and escape("---") == r"\---"
    assert escape("-1.5") == "-1.5" and escape("1.5") == "1.5" and escape("+2.0") == "+2.0"


def test_figures_are_linked_by_relative_paths_that_exist(folder, realistic):
    place = write_report(folder(realistic(1))).parent
    text = (place / "report.md").read_text()
    links = [line.split("](")[1][:-1] for line in text.splitlines() if line.startswith("![")]
    assert "figures/accuracy.svg" in links and "figures/cost.svg" in links
    assert all((place / link).is_file() for link in links)


def parsed(text: str) -> list[Token]:
    """Read Markdown as GitHub does, as far as tables and raw HTML go."""
    return MarkdownIt("commonmark").enable("table").parse(text)


def tables_of(text: str) -> list[list[list[str]]]:
    """Return the text of every cell of every table, as a reader would see it."""
    found: list[list[list[str]]] = []
    tokens = parsed(text)
    for token, inner in zip(tokens, tokens[1:], strict=False):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type in ("th_open", "td_open"):
            children = inner.children or []
            found[-1][-1].append("".join(t.content for t in children if t.type != "html_inline"))
    return found


# Labels from users' files: whatever Markdown or HTML could take for its own.
ODD = (
    "odd|name",
    "a\\|b",
    "`tick`",
    "<b>bold</b>",
    "*star* _under_",
    "[x](http://y)",
    "&amp;",
    "-",
)


@pytest.mark.usefixtures("no_figures")
def test_every_label_stands_in_its_cell_of_every_table(folder, run):
    accurate = {"forget_accuracy": 0.0, "retain_accuracy": 1.0}
    runs = [run("retrain", s, kind="reference", **accurate) for s in range(2)]
    runs += [run(name, s, **accurate) for name in ODD for s in range(2)]
    text = (write_report(folder(runs)).parent / "report.md").read_text()
    found = tables_of(text)
    assert len(found) == 3  # verdicts, what was measured, gaps
    for rows in found:
        assert {len(row) for row in rows} == {len(rows[0])}
        names = {row[0].replace("\u200b", "") for row in rows}
        assert names >= set(ODD)


@pytest.mark.usefixtures("no_figures")
def test_a_report_renders_without_html_and_with_its_structure(folder, realistic):
    runs = [*realistic(), *realistic(scenarios=("random:0.1",))]
    text = (write_report(folder(runs)).parent / "report.md").read_text()
    tokens = parsed(text)
    assert not [t for t in tokens if t.type == "html_block"]
    inline = [child for t in tokens for child in t.children or []]
    assert not [t for t in inline if t.type == "html_inline"]
    headings = [tokens[i + 1].content for i, t in enumerate(tokens) if t.type == "heading_open"]
    assert headings[1] == "Distance to retraining, points"
    assert sum("class:8" in heading for heading in headings) == 1
    assert [len(rows[0]) for rows in tables_of(text)] == [4, 7, 10, 5, 7, 10, 5]


@pytest.mark.usefixtures("no_figures")
def test_command_cannot_leave_its_block(folder, run):
    place = folder([run("pbu", error="x")], command="run ```\n# title")
    text = (write_report(Path(place)).parent / "report.md").read_text()
    assert "````console\nrun ```\n# title\n````" in text
