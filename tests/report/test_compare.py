"""Two results folders side by side: what counts as changed, as beyond noise and as worse."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from unlearn_bench.analysis.estimate import Sample, welch
from unlearn_bench.analysis.table import Section, sections
from unlearn_bench.analysis.verdict import Verdict
from unlearn_bench.report.compare import compare, write_comparison
from unlearn_bench.report.differences import differences
from unlearn_bench.results.records import Record, RunResult, table, write_records

# Retraining of three seeds, in accuracy; methods are given by how far they lie from it.
RETRAINED = (0.90, 0.91, 0.89, 0.905, 0.895, 0.9, 0.91, 0.89)
SUITE = {
    "suite": {"name": "trial", "seeds": 3, "recipe": {"epochs": 3}},
    "command": "unlearn-bench run",
    "device": "cpu",
    "environment": {"torch": "2.15", "device": "cpu", "cpu": "one", "threads": 1},
}


@pytest.fixture
def results(tmp_path, run):
    """Return a function that writes a folder of methods by their gaps to retraining per seed."""

    def write(
        name: str,
        gaps: dict[str, list[float]],
        seconds: dict[str, list[float]] | None = None,
        failed: tuple[tuple[str, int, str], ...] = (),
        seeds: int = 3,
        first: int = 0,
        params: dict[str, Any] | None = None,
        **suite: Any,
    ) -> Path:
        runs = []
        for seed in range(first, first + seeds):
            for method, gap in {"retrain": [0.0] * seeds, **gaps}.items():
                error = next((why for m, s, why in failed if (m, s) == (method, seed)), "")
                value = RETRAINED[seed] - gap[seed - first]
                spent = (seconds or {}).get(method, [2.0 + 0.01 * s for s in range(seeds)])
                kind = "reference" if method == "retrain" else "method"
                numbers = (
                    {}
                    if error
                    else {
                        **{
                            f"{part}_accuracy": value
                            for part in ("forget", "retain", "test_forget", "test_retain")
                        },
                        "wall_seconds": spent[seed - first],
                    }
                )
                runs.append(run(method, seed, kind=kind, error=error, **numbers))
        folder = tmp_path / name
        folder.mkdir()
        write_records(folder, runs)
        if params:
            records = pd.read_csv(folder / "records.csv")
            for method, values in params.items():
                records.loc[records["method"] == method, "params"] = json.dumps(values)
            records.to_csv(folder / "records.csv", index=False)
        stored = {**SUITE, "plan": [r.key for r in runs], **suite}
        (folder / "suite.json").write_text(json.dumps(stored))
        return folder

    return write


NEAR, NOISY, FAR = [0.01, 0.012, 0.011], [0.01, 0.03, 0.002], [0.2, 0.21, 0.205]


def of(found, method: str, column: str = "distance_to_retrain"):
    return next(d for d in found.differences if (d.method, d.column) == (method, column))


def test_a_folder_is_like_itself(results):
    a = results("a", {"pbu": NEAR, "ssd": FAR})
    found = compare(a, a)
    assert found.changes == () and found.worse == () and found.verdicts == ()
    assert {d.state for d in found.differences} == {"same"}
    text = " ".join(table.finding for table in found.tables)
    assert "Nothing changed in the protocol." in text and "Nothing changed in 3 methods." in text


def test_a_distance_that_grew_beyond_noise_is_worse(results):
    found = compare(results("a", {"pbu": NEAR}), results("b", {"pbu": FAR}))
    d = of(found, "pbu")
    assert d.state == "beyond noise" and d.shared == 3
    differences = [100 * (f - n) for f, n in zip(FAR, NEAR, strict=True)]
    assert d.change.mean == pytest.approx(sum(differences) / 3)
    # Holm's rule over five metrics of which the distance and four accuracies moved alike.
    assert d.p_value >= stats.ttest_1samp(differences, 0).pvalue
    assert any(
        reason.startswith("pbu (digits · resnet18 · class:8): distance to retraining grew from 1.1")
        for reason in found.worse
    )


def test_the_same_growth_the_other_way_is_not_worse(results):
    found = compare(results("a", {"pbu": FAR}), results("b", {"pbu": NEAR}))
    assert of(found, "pbu").state == "beyond noise"
    assert found.worse == ()


def test_a_difference_within_noise_is_not_worse(results):
    found = compare(results("a", {"pbu": NEAR}), results("b", {"pbu": NOISY}))
    assert of(found, "pbu").state == "within noise"
    assert found.worse == ()


def test_growth_of_less_than_a_point_is_not_worse_however_sure(results):
    slightly = [gap + 0.005 + extra for gap, extra in zip(NEAR, (0, 1e-4, -1e-4), strict=True)]
    found = compare(results("a", {"pbu": NEAR}), results("b", {"pbu": slightly}))
    assert of(found, "pbu").state == "beyond noise"
    assert found.worse == ()


def test_one_seed_cannot_be_told_from_noise(results):
    found = compare(results("a", {"pbu": [0.01]}, seeds=1), results("b", {"pbu": [0.3]}, seeds=1))
    assert of(found, "pbu").state == "cannot be told"
    assert found.worse == ()
    cells = [cell for table in found.tables for row in table.rows for cell in row]
    assert "cannot be told" in cells


def test_seeds_that_are_not_shared_are_compared_by_welch(results):
    a = results("a", {"pbu": NEAR})
    b = results("b", {"pbu": FAR}, first=3)
    d = of(compare(a, b), "pbu")
    assert d.shared == 0 and d.state == "beyond noise"
    expected = stats.ttest_ind([100 * g for g in FAR], [100 * g for g in NEAR], equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert d.change.low == pytest.approx(interval.low, rel=1e-6)
    assert d.change.high == pytest.approx(interval.high, rel=1e-6)


def test_only_shared_seeds_are_paired_and_shown(results):
    a = results("a", {"pbu": NEAR})
    b = results("b", {"pbu": [*NEAR, 0.9]}, seeds=4)
    d = of(compare(a, b), "pbu")
    assert d.state == "same" and d.second.n == 3
    assert d.first == d.second


def test_welch_agrees_with_scipy():
    one, other = [1.0, 2.0, 4.0, 4.5], [3.0, 3.5, 7.0]
    change, p_value = welch(Sample(one, [0.0] * 4), Sample(other, [0.0] * 3))
    expected = stats.ttest_ind(other, one, equal_var=False)
    assert p_value == pytest.approx(expected.pvalue)
    assert (change.low, change.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    ones, twos = Sample([1.0, 1.0], [0.0, 0.0]), Sample([2.0, 2.0], [0.0, 0.0])
    assert welch(ones, ones)[1] == 1 and welch(ones, twos)[1] is None


@pytest.mark.parametrize(
    ("seeds", "methods"),
    [(2, 20), (3, 60), (4, 20), *(pytest.param(n, 200, marks=pytest.mark.heavy) for n in (3, 4))],
)
def test_of_runs_that_differ_by_chance_one_in_twenty_is_flagged_at_most(seeds, methods, run):
    """Each method is run twice from one distribution, in numbers as a small image set gives."""
    rng = np.random.default_rng(seeds)
    # Examples, and the accuracy of the mean seed.
    counted = {
        ("forget_accuracy", "forget"): (142, 0.004),
        ("retain_accuracy", "retain"): (1295, 0.99),
        ("test_forget_accuracy", "test_forget"): (36, 0.02),
        ("test_retain_accuracy", "test_retain"): (324, 0.97),
        ("bn_recovery", "forget"): (142, 0.01),
        ("probe_recall", "test"): (36, 0.97),
    }

    def one_run(method: str, seed: int, kind: str) -> RunResult:
        records = []
        for (metric, split), (n, mean) in counted.items():
            value = rng.binomial(n, np.clip(mean + rng.normal(0, 0.004), 0, 1)) / n
            # Wilson's interval, as the harness records it.
            middle, width = (value + 1.92 / n) / (1 + 3.84 / n), 1.96 / (1 + 3.84 / n)
            half = width * math.sqrt(value * (1 - value) / n + 0.96 / n**2)
            records.append(Record(metric, split, value, middle - half, middle + half))
        auc = rng.normal(0.5, 0.03)
        records.append(Record("mia_loss_auc", "forget", auc, auc - 0.1, auc + 0.1))
        records.append(Record("relearn_time_features", "", float(rng.poisson(25))))
        records.append(Record("wall_seconds", "", float(rng.lognormal(0, 0.1))))
        return run(method, seed, kind=kind, records=tuple(records))

    first, second = (
        sections(
            table(
                [
                    one_run(method, seed, "reference" if method == "retrain" else "method")
                    for method in ("retrain", *(f"m{i}" for i in range(methods)))
                    for seed in range(seeds)
                ]
            )
        )[0]
        for _ in range(2)
    )
    found = list(differences(first, second))
    flagged = {d.method for d in found if d.state == "beyond noise"}
    assert len({d.method for d in found}) == methods + 1
    assert len(flagged) <= (0 if seeds < 3 else methods // 20)


def test_two_seeds_cannot_be_told_from_noise(results):
    found = compare(
        results("a", {"pbu": [0.01, 0.012]}, seeds=2), results("b", {"pbu": [0.3, 0.31]}, seeds=2)
    )
    assert of(found, "pbu").state == "cannot be told" and found.worse == ()


def test_a_model_that_no_longer_forgets_is_beyond_noise_though_its_seeds_agree(run):
    def section(value: float, low: float, high: float) -> Section:
        record = (Record("forget_accuracy", "forget", value, low, high),)
        return sections(table([run("pbu", seed, records=record) for seed in range(3)]))[0]

    (d,) = differences(section(0.0, 0.0, 0.026), section(1.0, 0.974, 1.0))
    assert d.state == "beyond noise"


def test_what_b_lacks_is_worse_unless_that_is_allowed(results):
    a = results("a", {"pbu": NEAR, "ssd": FAR})
    b = results("b", {"pbu": NEAR})
    assert compare(a, b).worse == (
        "ssd (digits · resnet18 · class:8): the method has no result in B",
    )
    assert compare(a, b, allow_missing=True).worse == () and compare(b, a).worse == ()


def test_seeds_that_b_lacks_are_worse(results):
    a, b = results("a", {"pbu": NEAR}), results("b", {"pbu": NEAR[:1]}, seeds=1)
    assert "pbu (digits · resnet18 · class:8): no result in B of seeds 1, 2" in compare(a, b).worse
    assert compare(a, b, allow_missing=True).worse == ()


def test_a_metric_that_b_lacks_is_worse(results):
    a, b = results("a", {"pbu": NEAR}), results("b", {"pbu": FAR})
    records = pd.read_csv(b / "records.csv")
    records[records["method"] != "retrain"].to_csv(b / "records.csv", index=False)
    worse = compare(a, b).worse
    assert "digits · resnet18 · class:8: Distance to retraining is absent from B" in worse
    assert "retrain (digits · resnet18 · class:8): the method has no result in B" in worse


def test_a_setting_that_b_lacks_is_worse(results, tmp_path, run):
    a = results("a", {"pbu": NEAR})
    b = shutil.copytree(a, tmp_path / "b")
    records = pd.read_csv(b / "records.csv")
    both = pd.concat([records, records.assign(scenario="class:1")])
    both.to_csv(a / "records.csv", index=False)
    reason = "digits · resnet18 · class:1: the setting has no result in B"
    assert compare(a, b).worse == (reason,)


def test_settings_without_a_common_method_are_not_called_unchanged(results):
    a, b = results("a", {"pbu": NEAR}), results("b", {"pbu": NEAR})
    for place, kept in ((a, "pbu"), (b, "retrain")):
        records = pd.read_csv(place / "records.csv")
        records[records["method"] == kept].to_csv(place / "records.csv", index=False)
    found = [table.finding for table in compare(a, b).tables]
    assert "No method has results in both." in found and not any("in 0 methods" in f for f in found)


def test_a_method_that_now_fails_is_worse(results):
    a = results("a", {"pbu": NEAR})
    b = results("b", {"pbu": NEAR}, failed=(("pbu", 1, "diverged"),))
    assert compare(a, b).worse == ("pbu (digits · resnet18 · class:8): seed 1 now fails: diverged",)
    assert compare(b, a).worse == () and compare(b, b).worse == ()


def test_retraining_that_now_fails_is_worse(results):
    a = results("a", {"pbu": NEAR})
    b = results("b", {"pbu": NEAR}, failed=(("retrain", 0, "x"),))
    assert [reason for reason in compare(a, b).worse if reason.startswith("retrain ")]


@pytest.mark.parametrize(("factor", "worse"), [(1.4, False), (1.6, True)])
def test_time_is_worse_from_half_as_long_again(factor, worse, results):
    before = [2.0, 2.1, 1.9]
    a = results("a", {"pbu": NEAR}, {"pbu": before})
    b = results("b", {"pbu": NEAR}, {"pbu": [factor * s for s in before]})
    found = compare(a, b)
    assert of(found, "pbu", "wall_seconds").state == "beyond noise"
    assert bool(found.worse) == worse
    assert not worse or "time grew from 2.0 ± " in found.worse[0]


def test_time_of_another_machine_is_not_judged(results):
    a = results("a", {"pbu": NEAR}, {"pbu": [2.0, 2.1, 1.9]})
    other = SUITE["environment"] | {"cpu": "another"}
    b = results("b", {"pbu": NEAR}, {"pbu": [20.0, 21.0, 19.0]}, environment=other)
    found = compare(a, b)
    assert found.worse == ()
    assert any("Times are from different hardware" in table.finding for table in found.tables)
    assert ("hardware", "cpu, one, 1 thread", "cpu, another, 1 thread") in [
        (c.what, c.first, c.second) for c in found.changes
    ]


def test_a_verdict_that_fell_is_worse(results):
    near = [0.0001 * (-1) ** seed for seed in range(8)]
    a = results("a", {"pbu": near}, seeds=8)
    b = results("b", {"pbu": [gap + 0.3 for gap in near]}, seeds=8)
    found = compare(a, b)
    assert any("verdict from UNDECIDED to DISTINGUISHABLE by" in reason for reason in found.worse)
    risen = compare(b, a)
    assert risen.worse == () and any("verdict from DISTINGUISHABLE" in v for v in risen.verdicts)


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [
        ("INDISTINGUISHABLE", "UNDECIDED", False),
        ("INDISTINGUISHABLE", "DISTINGUISHABLE", True),
        ("UNDECIDED", "DISTINGUISHABLE", True),
        ("descriptive only", "DISTINGUISHABLE", False),
    ],
)
def test_only_a_fall_to_distinguishable_is_a_worse_verdict(
    before, after, worse, results, monkeypatch
):
    a, b = results("a", {"pbu": NEAR}), results("b", {"pbu": NEAR})
    words = iter((after, before))  # the second folder's are looked up first

    def one_verdict(_: Section) -> tuple[Verdict, ...]:
        return (Verdict("pbu", "method", next(words), (), (), 8),)

    monkeypatch.setattr("unlearn_bench.report.compare.verdicts", one_verdict)
    found = compare(a, b)
    assert len(found.verdicts) == 1 and bool(found.worse) == worse


def test_an_unfinished_run_is_worse(results):
    a = results("a", {"pbu": NEAR})
    b = results("b", {"pbu": NEAR}, plan=["x", "y"])
    assert compare(a, b).worse == ("2 of 8 planned runs have no result",)


def test_folders_that_share_nothing_do_not_pass(results, run, folder):
    a = results("a", {"pbu": NEAR})
    b = folder([run("pbu", scenario="class:1", forget_accuracy=0.0)])
    assert any("nothing can be compared" in reason for reason in compare(a, b).worse)


def test_what_changed_in_the_protocol_is_listed(results):
    a = results("a", {"pbu": NEAR, "ssd": FAR}, params={"pbu": {"lr": 0.1, "beta": 1}})
    b = results(
        "b",
        {"pbu": NEAR, "jit": FAR},
        params={"pbu": {"lr": 0.2, "beta": 1}},
        suite={"name": "trial", "seeds": 3, "recipe": {"epochs": 5}},
        environment=SUITE["environment"] | {"torch": "2.16"},
        origin={"commit": {"id": "abc"}, "method_files": {"pbu": "12" * 32}},
    )
    found = {change.what: (change.first, change.second) for change in compare(a, b).changes}
    assert found == {
        "suite: recipe.epochs": ("3", "5"),
        "version of torch": ("2.15", "2.16"),
        "code": ("–", "commit abc"),
        "method files": ("not recorded", "1 recorded"),
        "pbu.lr": ("0.1", "0.2"),
        "methods only there (digits · resnet18 · class:8)": ("ssd", "jit"),
    }


def test_an_edited_method_is_named_by_its_file(results):
    a, b = (
        results(name, {"pbu": NEAR}, origin={"method_files": {"pbu": digit * 64, "x": digit}})
        for name, digit in (("a", "1"), ("b", "2"))
    )
    assert [(c.what, c.first, c.second) for c in compare(a, b).changes] == [
        ("method file pbu", "1" * 12, "2" * 12),
        ("method file x", "1", "2"),
    ]


def test_the_comparison_is_written_as_markdown_and_as_a_table(results, tmp_path):
    found = compare(results("a", {"pbu": NEAR}), results("b", {"pbu": FAR}))
    page = write_comparison(found, tmp_path / "out")
    text = page.read_text()
    assert "## Worse" in text and "distance to retraining grew" in text
    table = pd.read_csv(tmp_path / "out" / "compare.csv")
    assert len(table) == len(found.differences)
    row = table[(table["method"] == "pbu") & (table["metric"] == "distance_to_retrain")].iloc[0]
    assert row["state"] == "beyond noise" and row["shared_seeds"] == 3
    assert math.isclose(row["change"], row["second"] - row["first"])


@pytest.mark.parametrize("name", ["compare.md", "compare.csv"])
def test_a_file_of_hers_is_not_overwritten(name, results, tmp_path, cli):
    a, b = results("a", {"pbu": NEAR}), results("b", {"pbu": FAR})
    hers = tmp_path / "out" / name
    hers.parent.mkdir()
    hers.write_text("my notes\n")
    ended = cli("report", a, b, "--out", hers.parent)
    assert ended.code == 2 and f"{hers} would be overwritten" in ended.error
    assert [(path.name, path.read_text()) for path in hers.parent.iterdir()] == [
        (name, "my notes\n")
    ]
    hers.unlink()
    for _ in range(2):  # its own it may write again
        assert cli("report", a, b, "--out", hers.parent).code == 0


def test_the_command_line_fails_only_when_asked_to(results, cli):
    a, b = results("a", {"pbu": NEAR}), results("b", {"pbu": FAR})
    assert cli("report", a, b).code == 0
    ended = cli("report", a, b, "--fail-if-worse")
    assert ended.code == 1
    assert sum(line.startswith("worse: pbu") for line in ended.out.splitlines()) == 1
    assert cli("report", b, a, "--fail-if-worse").code == 0
    less = results("less", {})
    assert cli("report", a, less, "--fail-if-worse").code == 1
    assert cli("report", a, less, "--fail-if-worse", "--allow-missing").code == 0
    ended = cli("report", a, a, "--fail-if-worse")
    assert ended.code == 0 and "Nothing changed in the protocol" in ended.out
    assert not (a / "report.html").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--fail-if-worse"], "give a second one"),
        (["{b}", "--allow-missing"], "--allow-missing needs --fail-if-worse"),
        (["--out", "x"], "--out names the file of --bundle"),
        (["{b}", "--bundle"], "take one results folder"),
        (["{b}", "--show"], "take one results folder"),
        (["none"], "none holds no records.csv"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags, message, results, cli):
    a = results("a", {"pbu": NEAR})
    b = shutil.copytree(a, a.parent / "b")
    ended = cli("report", a, *(flag.format(b=b) for flag in flags))
    assert ended.code == 2 and message in ended.error


@pytest.mark.parametrize("flags", [[], ["--fail-if-worse"]])
def test_a_file_instead_of_a_folder_is_no_worse_result_but_a_mistake(flags, results, cli):
    a = results("a", {"pbu": NEAR})
    page = a / "report.html"
    page.write_text("a page")
    ended = cli("report", *([a, page, *flags] if flags else [page]))
    assert ended.code == 2
    assert f"{page} is a file; give the folder that `unlearn-bench run` wrote" in ended.error


def test_show_prints_the_path_alone_where_there_is_no_display(results, cli):
    a = results("a", {"pbu": NEAR})
    ended = cli("report", a, "--show", env={"DISPLAY": "", "WAYLAND_DISPLAY": ""})
    assert ended.code == 0 and ended.out.split() == [str(a / "report.html")]


@pytest.mark.parametrize("display", ["", ":0"])
def test_show_opens_the_page_where_there_is_a_display(display, monkeypatch, capsys, tmp_path):
    import webbrowser

    from unlearn_bench.cli import reporting

    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", display)
    reporting._show(tmp_path / "report.html")
    assert opened == ([(tmp_path / "report.html").as_uri()] if display else [])
    assert capsys.readouterr().out.split() == [str(tmp_path / "report.html")]
