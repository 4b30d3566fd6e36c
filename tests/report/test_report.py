"""report.html as a reader opens it: one file, no network, its order, links and warnings."""

import base64
import hashlib
import os
import random
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from unlearn_bench.core.errors import OutputError
from unlearn_bench.report import _FIGURE, html, write_report
from unlearn_bench.report.content import read_content
from unlearn_bench.results.records import Curve, Record

FEW = ("retrain", "original", "pbu")
SPLITS = ("forget_accuracy", "retain_accuracy", "test_forget_accuracy", "test_retain_accuracy")

VOID = {"meta", "wbr", "br", "link", "img", "input"}


class Outline(HTMLParser):
    """Checks nesting, gathers text and attributes."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text, self.attributes = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] not in (["style"], ["script"]):
            self.text.append(data)


def parse(path):
    outline = Outline()
    outline.feed(path.read_text())
    outline.close()
    assert outline.open == []
    return outline


def plain(path):
    return " ".join("".join(parse(path).text).replace("\u00a0", " ").split())


@pytest.fixture(scope="module")
def drawn(tmp_path_factory, write_folder, invented):
    """The folder of a report with all its figures, written once for tests that only look."""
    return write_report(write_folder(tmp_path_factory.mktemp("drawn"), invented(2))).parent


def undrawn(place):
    """The page of a folder without its figures, which take longer than all else."""
    page = place / "report.html"
    page.write_text(html.render(read_content(place), {}))
    return page


def test_page_is_one_file_that_asks_nothing_of_the_network(drawn):
    page = drawn / "report.html"
    outline = parse(page)
    assert not {"link", "img", "iframe", "object"} & set(outline.tags)
    assert outline.tags.count("script") == 1
    assert not re.search(r"(https?:)?//[a-z]|@import|url\((?!#)", page.read_text())
    references = [
        value for name, value in outline.attributes if name in ("href", "src", "xlink:href")
    ]
    assert references
    assert all(value.startswith(("#", "data:text/csv;charset=utf-8,")) for value in references)


def test_only_the_report_s_own_script_may_run(folder, realistic):
    page = undrawn(folder(realistic(1))).read_text()
    script = page[page.index("<script>") + len("<script>") : page.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page


def test_first_screen_keeps_its_order(folder, realistic):
    text = plain(undrawn(folder(realistic())))
    said = [
        "Descriptive only: 3 seeds",
        "Told apart",
        "Original, method, retraining",
        "Membership attack",
        "3 seeds, each with its own original",
        "from 5.7 % on",
        "pbu, at the smallest distance, took",
    ]
    places = [text.index(part) for part in said]
    assert places == sorted(places)


def test_verdicts_lead_to_the_rows_of_the_table(folder, realistic):
    page = undrawn(folder(realistic(2, ("class:2", "class:6"))))
    outline = parse(page)
    targets = [v[1:] for n, v in outline.attributes if n == "href" and re.match(r"#s\d-r", v)]
    ids = [value for name, value in outline.attributes if name == "id"]
    assert len(targets) == 12 and set(targets) <= set(ids)
    named = [i for i in ids if not re.match(r"[mp][0-9a-f]{10}|DejaVu|image", i)]
    assert len(named) == len(set(named))


def test_rows_carry_what_is_known_of_the_methods(folder, realistic):
    known = {"pbu": {"access": "forget", "family": "ascent", "year": 2024, "source": "s"}}
    page = undrawn(folder(realistic(1), methods=known)).read_text()
    (row,) = re.findall(r'<tr class="method[^>]*data-access="forget"[^>]*>', page)
    assert 'data-family="ascent"' in row and 'data-scenario="class:8"' in row
    assert 'data-family="unknown"' in page


def test_an_older_folder_without_curves_says_what_is_missing(drawn, folder, realistic):
    with_curves = plain(drawn / "report.html")
    place = folder([run for run in realistic(1) if run.method in FEW])
    (place / "curves.parquet").unlink()
    without = plain(write_report(place))
    assert "no curves.parquet" not in with_curves and "no curves.parquet" in without
    assert "barely separates" in with_curves or "The loss attack separates" in with_curves


def test_legacy_metrics_stand_in_an_appendix_with_a_warning(folder, realistic):
    runs = [
        replace(run, records=(*run.records, Record("mia_legacy_entropy_svc", "forget", 0.4)))
        for run in realistic(1)
    ]
    text = plain(undrawn(folder(runs)))
    assert text.index("All methods") < text.index("Appendix: legacy metrics, and why they mislead")
    assert "enter no verdict" in text


@pytest.mark.parametrize(
    ("methods", "limit"), [(8, 720_000), pytest.param(30, 2_000_000, marks=pytest.mark.heavy)]
)
def test_the_page_of_many_methods_stays_small(methods, limit, folder, run):
    rng = random.Random(3)
    names = [("retrain", "reference"), ("original", "control")]
    names += [(f"method_number_{i}", "method") for i in range(methods)]
    runs = []
    for name, kind in names:
        for seed in range(5):
            classes = [
                Record(metric, str(c), rng.random())
                for metric in ("class_drop", "forget_predicted_as")
                for c in range(20)
            ]
            many = [Record(f"metric_{i}", "", rng.random()) for i in range(40)]
            curve = Curve(
                "roc",
                "mia_loss",
                tuple(i / 80 for i in range(81)),
                tuple(i / 80 for i in range(81)),
                n=1000,
            )
            made = run(
                name,
                seed,
                kind=kind,
                records=(*classes, *many),
                **{metric: rng.random() for metric in (*SPLITS, "mia_loss_auc", "wall_seconds")},
            )
            log = tuple(
                {"step": float(i), "a": rng.random(), "b": rng.random()} for i in range(200)
            )
            runs.append(replace(made, curves=(curve,), log=log))
    page = write_report(folder(runs))
    assert 0.2 * limit < page.stat().st_size < limit


def test_first_words_say_how_many_pass_and_which_is_nearest(folder, realistic):
    text = plain(undrawn(folder(realistic())))
    assert text.index("methods can be told apart from retraining; nearest: pbu") < 300
    assert re.search(r"Nearest\W+pbu is .* points from retraining, at \d\.\d % of its time", text)


@pytest.mark.thorough
def test_figures_of_an_earlier_report_go_and_what_is_not_ours_stays(folder, realistic):
    runs = realistic(seeds=1, scenarios=("class:8", "class:1"))
    place = folder([run for run in runs if run.method in FEW])
    write_report(place)
    several = {path.name for path in (place / "figures").iterdir()}
    assert len(several) > 10 and all(_FIGURE.fullmatch(name) for name in several)
    (place / "figures" / "mine.svg").write_text("<svg/>")
    folder([run for run in runs if run.method in FEW and run.scenario == "class:8"])
    write_report(place)
    left = {path.name for path in (place / "figures").iterdir()}
    assert "mine.svg" in left and "cost.pdf" in left
    assert not any(name[:2].isdigit() for name in left)


def test_new_process_loads_little_never_torch_and_writes_the_same_bytes(drawn, folder, realistic):
    def written(place):
        files = (p for p in place.rglob("*") if p.suffix in (".html", ".md", ".svg", ".pdf"))
        return {file.name: file.read_bytes() for file in files}

    names = ("accuracy", "cost", "phases", "ranking", "roc", "training")
    drawings = {f"{name}{suffix}" for name in names for suffix in (".svg", ".pdf")}
    assert set(written(drawn)) == {"report.html", "report.md", *drawings}
    place = folder(realistic(2))
    code = (
        "import sys, unlearn_bench.report as report; from pathlib import Path\n"
        "heavy = {'torch', 'matplotlib', 'scipy', 'pandas', 'jinja2'}\n"
        "assert not heavy & set(sys.modules), 'loaded by the import alone'\n"
        f"report.write_report(Path({str(place)!r}))\n"
        "assert 'matplotlib' in sys.modules and 'torch' not in sys.modules\n"
    )
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "99"}
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | environment)
    assert written(place) == written(drawn)


def test_the_same_process_writes_the_same_bytes_again(folder, realistic):
    place = folder([run for run in realistic(1) if run.method in FEW])
    page = write_report(place)
    files = [page, *(place / "figures").iterdir()]
    before = [file.read_bytes() for file in files]
    write_report(place)
    assert [file.read_bytes() for file in files] == before and len(files) > 8


def test_hostile_labels_are_shown_not_run(folder, run):
    name = "<img src=x onerror=alert(1)>"
    accurate = {"forget_accuracy": 0.0, "retain_accuracy": 1.0, "wall_seconds": 1.0}
    place = folder(
        [
            run("retrain", kind="reference", model=name, **accurate),
            run(name, model=name, **accurate),
            run("bad", model=name, error="</li><script>alert(2)</script>"),
        ],
        notes=["<b>note</b>"],
        command="run '<i>'",
    )
    page = write_report(place)
    outline = parse(page)
    assert not {"img", "b", "i"} & set(outline.tags) and outline.tags.count("script") == 1
    assert name in plain(page) and "</li><script>alert(2)</script>" in plain(page)
    assert "<img" not in (place / "report.md").read_text()


def test_damage_is_visible_in_its_row(folder, realistic):
    page = undrawn(folder(realistic()))
    row = r'<tr class="method damaged"[^>]*>\s*<th scope="row">gradient_<wbr>ascent'
    assert re.search(row, page.read_text())
    assert re.search(r"gradient_ascent retain −\d\d points", plain(page))


def test_failed_and_missing_runs_are_told_with_reasons(folder, run, realistic):
    runs = [*realistic(2), run("scrub", 0, error="MethodError: NaN weights")]
    text = plain(undrawn(folder(runs, plan=[r.key for r in runs] + ["lost-1", "lost-2"])))
    assert "Failed: scrub, seed 0: MethodError: NaN weights" in text
    assert "1 of 19 runs failed" in text
    assert "2 of 19 planned runs have no result" in text
    assert "16 finished, 1 failed, 2 not run" in text


def test_suite_without_any_run_still_gives_a_page(folder):
    text = plain(write_report(folder([], plan=["a", "b"])))
    assert "No run has finished yet" in text
    assert "2 of 2 planned runs have no result" in text


def test_suite_killed_before_its_first_run_still_gives_a_page(folder):
    place = folder([], plan=["a"])
    (place / "records.csv").unlink()
    assert "No run has finished yet" in plain(write_report(place))


@pytest.mark.parametrize("left_out", [{"retrain"}, {"original"}, {"retrain", "original"}])
def test_missing_references_still_give_a_page(folder, realistic, left_out):
    runs = [r for r in realistic(2) if r.method in FEW and r.method not in left_out]
    text = plain(write_report(folder(runs)))
    assert ("No distance can be given" in text) == ("retrain" in left_out)
    assert "its power is unknown" in text


def test_single_method_and_seed_claim_no_interval(folder, realistic):
    runs = [run for run in realistic(1) if run.method in ("retrain", "original", "pbu")]
    text = plain(write_report(folder(runs)))
    assert "One seed: pbu is" in text
    assert " ± " not in text.replace("Mean ± half-width", "")


def test_sparse_suite_file_is_enough(folder, realistic):
    place = folder(realistic(1))
    (place / "suite.json").write_text("{}")
    assert "pbu came nearest" in plain(undrawn(place))
    (place / "suite.json").unlink()
    assert "pbu came nearest" in plain(undrawn(place))


def test_folder_that_holds_no_results_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"holds no records\.csv"):
        write_report(tmp_path)


def test_provenance_is_on_the_page(folder, realistic):
    text = plain(undrawn(folder(realistic(3), notes=["Weights were pre-trained."])))
    for said in (
        "unlearn-bench run --methods all",
        "torch 2.15",
        "A processor",
        "2 threads",
        "3 (0, 1, 2)",
        "Weights were pre-trained.",
    ):
        assert said in text
