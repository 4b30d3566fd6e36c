"""The generated pages hold what registry, declarations and reports say."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from snippets import DOCS, ROOT

from unlearn_bench.plugins import registry
from unlearn_bench.results.metrics import BUILT_IN


@pytest.fixture(autouse=True)
def documentation(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(DOCS)
    yield
    for name in ("registry_pages", "check_links"):
        sys.modules.pop(name, None)


def test_every_method_and_metric_has_a_page(tmp_path: Path) -> None:
    import registry_pages

    (tmp_path / "reference" / "methods").mkdir(parents=True)
    (tmp_path / "reference" / "methods" / "gone.md").write_text("# A method that was renamed")
    registry_pages.write_pages(tmp_path)
    written = {path.stem for path in (tmp_path / "reference" / "methods").glob("*.md")}
    assert written == {*registry.methods(), "index"}
    assert {*BUILT_IN, "index"} < {p.stem for p in (tmp_path / "reference" / "metrics").iterdir()}
    for group in ("methods", "metrics"):
        index = (tmp_path / "reference" / group / "index.md").read_text().splitlines()
        pages = {page.stem for page in (tmp_path / "reference" / group).iterdir()} - {"index"}
        assert pages <= set(index), "Sphinx warns of pages that no table of contents names"
    assert (tmp_path / "_extra" / "reports" / "digits" / "report.html").exists()


def test_pages_that_stay_the_same_are_not_written_again(tmp_path: Path) -> None:
    import registry_pages

    registry_pages.write_changed(tmp_path, {"a.md": "one", "b.md": "two"})
    before = (tmp_path / "a.md").stat().st_mtime_ns
    registry_pages.write_changed(tmp_path, {"a.md": "one"})
    assert (tmp_path / "a.md").stat().st_mtime_ns == before
    assert not (tmp_path / "b.md").exists()


def test_a_method_page_has_access_defaults_origins_and_space() -> None:
    import registry_pages

    entry = registry.get("pbu")
    page = registry_pages.method_page(entry, [])
    assert "| Reads | forget |" in page and "(https://arxiv.org/abs/2403.16246)" in page
    for parameter in entry.parameters():
        line = next(x for x in page.splitlines() if x.startswith(f"| `{parameter.name}` "))
        assert f"`{parameter.default!r}`" in line and f"| {parameter.origin} |" in line
    searched = page.partition("## Tuning space")[2]
    assert all(f"| `{dimension.name}` |" in searched for dimension in entry.space)


def test_results_are_means_over_seeds_of_the_committed_report() -> None:
    import registry_pages

    results = registry_pages.read_results(ROOT / "reports")
    digits = next(r for r in results if "reports/digits/" in r.link)
    records = pd.read_parquet(ROOT / "reports" / "digits" / "records.parquet")
    mine = records[(records["method"] == "pbu") & (records["metric"] == "forget_accuracy")]
    assert digits.values["pbu"]["Forget, %"] == pytest.approx(100 * mine["value"].mean())
    assert digits.title.endswith(f"{mine['seed'].nunique()} seeds")
    lines = registry_pages.result_table(digits, "pbu").splitlines()
    assert [line.split()[1] for line in lines[2:]] == ["`pbu`", "`retrain`", "`original`"]
    assert digits.verdicts["pbu"] in lines[2]


def test_cells_cannot_break_a_table() -> None:
    import registry_pages

    made = registry_pages.table(("a", "b"), [("x | y", "one\ntwo")])
    assert made.splitlines()[2] == r"| x \| y | one two |"


def test_dead_links_are_found(tmp_path: Path) -> None:
    import check_links

    (tmp_path / "a.html").write_text(
        '<h1 id="top">A</h1><a href="#top">1</a><a href="b.html#there">2</a>'
        '<a href="b.html#gone">3</a><img src="none.png"><a href="https://example.org/x">4</a>'
    )
    (tmp_path / "b.html").write_text('<p id="there">B</p>')
    assert check_links.dead_links(tmp_path) == {"a.html": ["b.html#gone", "none.png"]}
