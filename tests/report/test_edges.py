"""Reports of what is left of a run: partly failed, of one seed, of one method, empty."""

import json

import pytest

from unlearn_bench.report import summary, write_report

LOST = "MethodError: tensor fc.weight holds NaN or infinity"


@pytest.fixture
def written(folder, realistic, run, request):
    """Return a function that writes one of the cases and returns all its texts by name."""

    def write(case: str) -> dict[str, str]:
        def fails(one):
            return run(one.method, one.seed, kind=one.kind, error=LOST)

        runs = realistic(seeds=1 if case == "single seed" else 3)
        if case == "partly failed":
            runs = [
                fails(r) if r.method == "finetune" or (r.method, r.seed) == ("pbu", 1) else r
                for r in runs
            ]
        if case == "all failed":
            runs = [fails(r) for r in runs]
        if case == "retraining failed":
            runs = [fails(r) if r.kind == "reference" else r for r in runs]
        if case == "single method":
            runs = [r for r in runs if r.method in ("retrain", "original", "pbu")]
        plan = [r.key for r in runs]
        place = folder(runs, plan=plan)
        if case == "empty":
            (place / "records.csv").unlink()
            planned = {key: ["digits", "m", "class:8", "pbu", i] for i, key in enumerate(plan[:2])}
            stored = json.loads((place / "suite.json").read_text())
            stored |= {"plan": plan[:2], "origin": {"planned": planned}}
            (place / "suite.json").write_text(json.dumps(stored))
        if case != "single seed":  # whose captions are looked at
            request.getfixturevalue("no_figures")
        write_report(place)
        texts = {kind: (place / f"report.{kind}").read_text() for kind in ("md", "tex", "html")}
        tables = summary(place)
        lines = [line for t in tables for line in (t.finding, *map(" ".join, t.rows), *t.notes)]
        return texts | {"terminal": "\n".join(lines)}

    return write


def test_a_partly_failed_run_says_what_failed_and_why(written):
    texts = written("partly failed")
    for kind in ("md", "html", "terminal"):
        assert f"Failed: finetune, seeds 0, 1, 2: {LOST}" in texts[kind]
        assert f"Failed: pbu, seed 1: {LOST}" in texts[kind]
        assert "4 of 24 runs failed" in texts[kind]
    assert "4 runs failed and are not in the means" in texts["tex"]
    assert "& failed & 0 of 3" in texts["tex"] and "& 2 of 3" in texts["tex"]


def test_a_single_seed_claims_no_interval(written):
    texts = written("single seed")
    assert "±" not in texts["terminal"]
    assert "Of one seed, so without intervals" in texts["md"]
    assert "half-width" not in texts["md"] and "half-width" not in texts["tex"]
    assert "Of one seed, so without intervals" in texts["html"]
    assert "± half-width" not in texts["html"]
    assert r"\pm" not in texts["tex"] and r"\textbf" not in texts["tex"]
    for kind in ("md", "html", "terminal"):
        assert "One seed: pbu came nearest" in texts[kind]


def test_a_single_method_is_not_said_to_have_won(written):
    texts = written("single method")
    for kind in ("md", "html", "terminal"):
        assert (
            "pbu can be told apart from retraining by" in texts[kind]
            and "nearest" not in texts[kind].split("\n")[0]
        )


def test_an_empty_run_names_what_was_not_run(written):
    texts = written("empty")
    for kind in ("md", "html", "terminal"):
        assert "No run has finished yet" in texts[kind]
        assert "2 of 2 planned runs have no result" in texts[kind]
        assert "Not run: pbu (digits · m · class:8, seeds 0, 1)" in texts[kind]
    assert "No run has finished yet." in texts["tex"]
    assert "table*" not in texts["tex"].split("\\fi\n")[1]


def test_a_run_that_failed_throughout_reads_no_intervals_into_nothing(written):
    texts = written("all failed")
    assert "half-width" not in texts["md"] and "half-width" not in texts["tex"]
    for kind in ("md", "html", "terminal"):
        assert "No run has finished, so there is nothing to compare yet" in texts[kind]
        assert "24 of 24 runs failed" in texts[kind]


def test_without_retraining_nothing_is_ranked_or_judged(written):
    texts = written("retraining failed")
    for kind in ("md", "tex", "html", "terminal"):
        assert "No distance can be given: retraining failed" in texts[kind]
    assert "Until then a method counts as nearer" not in texts["md"]
    assert r"\textbf" not in texts["tex"]


def test_the_command_line_reports_a_run_that_has_not_begun(folder, cli):
    place = folder([], plan=["x"])
    (place / "records.csv").unlink()
    ended = cli("report", place)
    assert ended.code == 0, ended.err
    assert "No run has finished yet" in ended.out and "report.html" in ended.out


def test_names_stay_whole_on_a_narrow_terminal(folder, realistic, cli):
    ended = cli("report", folder(realistic()), env={"COLUMNS": "80"})
    for name in ("gradient_ascent †", "neg_grad_plus", "retrain"):
        assert any(line.strip().startswith(name) for line in ended.out.splitlines())
    assert all(len(line) <= 80 for line in ended.out.splitlines() if "report:" not in line)
