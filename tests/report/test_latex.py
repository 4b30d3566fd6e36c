"""The LaTeX tables: by their text everywhere, and compiled where LaTeX is installed."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from unlearn_bench.report import write_report
from unlearn_bench.report.content import read_content
from unlearn_bench.report.latex import escape, render

needs_latex = pytest.mark.skipif(
    shutil.which("pdflatex") is None,
    reason="pdflatex is missing (Debian: texlive-latex-extra)",
)
# A two-column paper with nothing beyond what the file's first lines ask for.
PAPER = r"""\documentclass[twocolumn]{article}
\usepackage{booktabs,graphicx}
\begin{document}
See Table~\ref{tab:digits-resnet18-class-8}.
\input{report.tex}
\end{document}
"""


def compile_tex(folder: Path, name: str) -> str:
    """Compile twice, for references, and return the log; fails where LaTeX reports an error."""
    for _ in range(2):
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", name],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=120,
        )
        assert done.returncode == 0, done.stdout[-2000:]
    return (folder / name).with_suffix(".log").read_text(errors="replace")


def tex_of(place: Path) -> str:
    """Write ``report.tex`` alone: the figures of a whole report take ten times as long."""
    text = render(read_content(place))
    (place / "report.tex").write_text(text)
    return text


def rows_of(text: str) -> list[list[str]]:
    """Return the cells of every line of every tabular."""
    lines = [line for line in text.splitlines() if line.endswith(r" \\")]
    return [re.split(r"(?<!\\)&", line.removesuffix(r" \\")) for line in lines]


def many(run, count: int, **metrics: float):
    return [
        run("retrain", kind="reference", **metrics),
        *(run(f"method_{number}", **metrics) for number in range(count)),
    ]


ACCURATE = {"forget_accuracy": 0.0, "retain_accuracy": 1.0, "wall_seconds": 2.0}
# Labels from users' files: LaTeX's own characters, and letters that its fonts lack.
ODD = r"a_b & 50% $x$ #1 {~^} \end{table*} é Ł 忘 <|>"


@needs_latex
def test_the_file_compiles_on_its_own_and_within_a_two_column_paper(folder, realistic, run):
    runs = [*realistic(seeds=3), *realistic(seeds=1, scenarios=("random:0.1",))]
    place = folder([*runs, run(ODD, **ACCURATE)])
    tex_of(place)
    log = compile_tex(place, "report.tex")
    assert "Overfull \\hbox" not in log
    (place / "paper.tex").write_text(PAPER)
    log = compile_tex(place, "paper.tex")
    assert "Overfull \\hbox" not in log
    assert "There were undefined references" not in log


@needs_latex
def test_a_hundred_methods_leave_no_page(folder, run):
    place = folder(many(run, 100, **ACCURATE))
    tex_of(place)
    log = compile_tex(place, "report.tex")
    assert "Float too large" not in log and "Overfull" not in log


@needs_latex
@pytest.mark.parametrize("runs", ["empty", "failed", "single"])
def test_what_is_left_of_a_run_compiles(runs, folder, run):
    some = {
        "empty": [],
        "failed": [run("retrain", kind="reference", error="x"), run("pbu", error="100 % _ lost")],
        "single": [run("pbu", **ACCURATE)],
    }[runs]
    place = folder(some)
    tex_of(place)
    compile_tex(place, "report.tex")


def test_labels_stand_for_themselves():
    assert escape("a_b & 50%") == r"a\_b \& 50\%"
    assert escape("\\x{y}") == r"\textbackslash{}x\{y\}"
    assert escape("é Ł 忘") == "é [U+0141] [U+5FD8]"
    assert escape("e\u0301") == "é"
    assert escape("\x01\x7f\x9b") == "{}[U+0001][U+007F][U+009B]"
    assert escape("[x]") == "{}[x]" and escape("*") == "{}*" and escape("忘") == "{}[U+5FD8]"
    assert escape("a--b,,c") == "a-{}-b,{},c"
    assert escape("1 ± 2 − 3 – 4") == r"1 $\pm$ 2 $-$ 3 -- 4"


def test_every_line_has_the_cells_of_its_head(folder, run):
    place = folder([run("retrain", kind="reference", **ACCURATE), run(ODD, **ACCURATE)])
    rows = rows_of(tex_of(place))
    assert len(rows) == 3
    assert {len(row) for row in rows} == {len(rows[0])}


def test_long_tables_go_on_in_parts_of_like_length(folder, run):
    text = tex_of(folder(many(run, 60, **ACCURATE)))
    parts = [part.count("method\\_") for part in text.split(r"\begin{table*}")[1:]]
    assert parts == [30, 30]
    assert r"part 2 of 2" in text


def test_a_mean_stands_with_its_interval(folder, run):
    runs = [
        run(name, seed, kind=kind, forget_accuracy=value + 0.01 * seed)
        for name, kind, value in (("retrain", "reference", 0.0), ("pbu", "method", 0.5))
        for seed in range(2)
    ]
    row = next(row for row in rows_of(tex_of(folder(runs))) if "pbu" in row[0])
    assert row[1].strip().startswith(r"50.0\,{\scriptsize$\pm$\,")


def judged(run, near: float, far: float, seeds: int, power: float = 0.25, fake: float = 0.25):
    """Two methods whose every accuracy lies ``near`` and ``far`` from retraining's.

    The loss attack tells the original from retraining, by ``power``; the methods are like it.
    """
    runs = []
    for seed in range(seeds):
        wobble = 0.002 * (-1) ** seed
        for name, kind, gap, auc in (
            ("retrain", "reference", 0.0, 0.5),
            ("retrain_other_seed", "control", 0.0, 0.5),
            ("original", "control", 0.3, 0.5 + power),
            ("logit_mask", "control", 0.0, 0.5 + fake),
            ("near", "method", near, 0.5),
            ("far", "method", far, 0.5),
        ):
            values = {
                f"{part}_accuracy": 0.5 + gap + wobble
                for part in ("forget", "retain", "test_forget", "test_retain")
            }
            runs.append(run(name, seed, kind=kind, mia_loss_auc=auc, **values))
    return runs


def test_bold_follows_the_verdict_and_not_the_smallest_number(folder, run):
    text = tex_of(folder(judged(run, near=0.0, far=0.3, seeds=3)))
    assert r"\textbf{near}" in text and r"\textbf{far}" not in text
    assert "undecided (0.0)" in text and "distinguishable (3)" in text


def test_the_nearest_is_not_bold_where_all_are_told_apart(folder, run):
    text = tex_of(folder(judged(run, near=0.2, far=0.3, seeds=3)))
    assert r"\textbf" not in text
    assert "no bold" in text


@pytest.mark.parametrize(
    ("power", "fake", "said"),
    [
        (0.0, 0.25, "No metric that looks into the model distinguishes even the original"),
        (
            0.25,
            0.0,
            r"the fake logit\_mask, whose weights have forgotten nothing, is not told apart",
        ),
    ],
)
def test_nothing_is_bold_where_the_rule_is_blind_and_the_caption_says_why(
    power, fake, said, folder, run
):
    text = tex_of(folder(judged(run, near=0.0, far=0.3, seeds=3, power=power, fake=fake)))
    caption = next(line for line in text.splitlines() if line.startswith(r"\caption"))
    assert r"\textbf" not in text
    assert said in caption and "Nothing is bold." in caption


def test_the_overview_is_bold_by_the_verdict_too(folder, run):
    runs = [r for r in judged(run, near=0.0, far=0.3, seeds=3)]
    runs += [replace(r, scenario="class:1", key=f"{r.key}-1") for r in runs]
    overview = tex_of(folder(runs)).split(r"\begin{table*}")[1]
    assert "95 \\% t-interval over seeds" in overview
    assert "Bold follows the verdicts" in overview
    near, far = (
        next(row for row in rows_of(overview) if row[0].strip() == name) for name in ("near", "far")
    )
    assert all(r"\textbf" in cell for cell in near[1:3])
    assert not any(r"\textbf" in cell for cell in far)


def test_nothing_is_bold_without_a_verdict(folder, run):
    text = tex_of(folder([run("retrain", kind="reference", **ACCURATE), run("pbu", **ACCURATE)]))
    assert r"\textbf" not in text and "No verdict can be given here" in text


def test_the_caption_states_the_protocol(folder, realistic):
    recipe = {"epochs": 10, "optimizer": "sgd", "lr": 0.1, "batch_size": 64}
    suite = {"name": "trial", "recipe": recipe}
    text = tex_of(folder(realistic(seeds=3), suite=suite))
    caption = next(line for line in text.splitlines() if line.startswith(r"\caption"))
    for said in (
        "digits $\\cdot$ resnet18 $\\cdot$ class:8",
        "95 \\% t-interval over 3 seeds",
        "10 epochs of sgd, learning rate 0.1, batches of 64",
        "A processor, 2 threads",
        "retraining from scratch with the same seed",
        "8 primary metrics fixed beforehand",
    ):
        assert said in caption


@pytest.mark.usefixtures("no_figures")
def test_the_file_says_how_to_use_it(folder, run):
    place = folder([run("retrain", kind="reference", **ACCURATE)])
    head = (write_report(place).parent / "report.tex").read_text().splitlines()[:3]
    assert r"\usepackage{booktabs,graphicx}" in head[1] and "pdflatex report.tex" in head[2]
