"""What a report says of tuning, and that it never ranks unequal budgets side by side."""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from unlearn_bench.report import summary, write_report
from unlearn_bench.report.content import read_content
from unlearn_bench.report.tuning import best_so_far, fresh, table
from unlearn_bench.suite.tuned import (
    BY_HAND,
    Budget,
    NoiseCheck,
    Tuned,
    TunedMethod,
    TunedSetting,
    read_tuned,
    row_text,
    write_tuned,
)

PLACE = "digits · resnet18 · class:8"


def method(*history: float | None, **more: Any) -> TunedMethod:
    known = [gap for gap in history if gap is not None]
    best = min(known, default=None)
    values = {
        "params": {"lr": 0.1},
        "chosen": history.index(best) if known else 0,
        "gap": best,
        "trials": len(history),
        "ended": f"{len(history)} trials",
        "retrainings": 8.04,
        "history": history,
        "code": "c",
    }
    return TunedMethod.model_validate(values | more)


METHODS = {
    "pbu": method(9.0, None, 4.0, check=NoiseCheck(difference=-3.0, low=-4.0, high=-2.0)),
    "finetune": method(3.0, 2.0, 5.0, check=NoiseCheck(difference=0.5, low=-1.0, high=2.0)),
    "random_label": method(3.0, 2.5, 5.0, check=NoiseCheck(difference=-0.5, low=-1.0, high=0.0)),
    "bad_teacher": method(1.0, 2.0, 5.0, mattered={"lr": 0.71, "epochs": 0.25, "momentum": 0.01}),
    "gradient_ascent": method(None, failures={0: "it broke"}),
}


def tuned(methods: dict[str, TunedMethod]) -> Tuned:
    setting = TunedSetting.model_validate(
        {
            "dataset": "digits",
            "model": "resnet18",
            "scenario": "class:8",
            "data": "d",
            "methods": methods,
        }
    )
    return Tuned(budget=Budget(trials=3), settings=(setting,))


@pytest.fixture
def said(folder: Callable[..., Path], realistic: Any) -> Callable[..., Any]:
    """Write a folder in which some methods were tuned, and read what is said of it."""

    def write(methods: dict[str, TunedMethod], untuned: dict[str, str]) -> Path:
        rows = {name: ["tuned (3 trials, 2 surrogates)", True] for name in methods}
        rows |= {name: [text, False] for name, text in untuned.items()}
        dumped = tuned(methods).model_dump(mode="json")
        return folder(realistic(), rows={PLACE: rows}, tuned_settings=dumped)

    return write


def test_the_table_sets_default_against_choice_and_names_what_mattered() -> None:
    made = tuned(METHODS)
    found = table(made, made.settings[0])
    rows = {row[0]: row[1:] for row in found.rows}
    assert rows["pbu"] == ("9.0", "4.0", "2 of 3", "−3.0 ± 1.0", "8.0×", "–")
    assert rows["bad_teacher"][3:] == ("default kept", "8.0×", "lr 71%, epochs 25%")
    assert rows["gradient_ascent"][:3] == ("–", "default (all failed)", "0 of 1")
    assert [row[0] for row in found.rows][-1] == "gradient_ascent"
    assert found.finding == (
        "Tuning came nearer to retraining than the default for 2 of 3 methods on a fresh tuning "
        "seed; 2 kept the default"
    )
    notes = "\n".join(found.notes)
    assert "Tuning did not help on the fresh seed: finetune." in notes
    assert "Better, but within noise: random_label." in notes
    assert "gradient_ascent: no trial succeeded, and its default is kept: it broke." in notes


def test_what_tuning_cost_stands_beside_what_a_request_costs() -> None:
    made = tuned(METHODS)
    found = table(made, made.settings[0], {"pbu": 0.31})
    place = found.columns.index("One request")
    assert found.columns[place + 1] == "Tuning"
    rows = {row[0]: row[place : place + 2] for row in found.rows}
    assert rows["pbu"] == ("0.31×", "8.0×") and rows["finetune"] == ("–", "8.0×")


def test_the_best_so_far_never_rises() -> None:
    assert best_so_far([None, 3.0, None, 4.0, 2.0]) == [None, 3.0, 3.0, 3.0, 2.0]


def test_a_check_that_failed_or_has_no_interval_says_so() -> None:
    assert fresh(None) == "default kept" and fresh(NoiseCheck()) == "failed"
    assert fresh(NoiseCheck(difference=1.25)) == "+1.2"


def test_a_row_says_how_its_setting_came_about() -> None:
    budget = Budget()
    assert row_text(budget, METHODS["pbu"], {"lr": 0.1}) == "tuned (3 trials, 2 surrogates)"
    assert row_text(budget, METHODS["pbu"], {"lr": 0.2}) == BY_HAND
    failed = METHODS["gradient_ascent"]
    assert row_text(budget, failed, failed.params) == "default (all 1 trial of tuning failed)"


def test_only_methods_that_were_run_stand_in_a_run_s_table(said: Callable[..., Path]) -> None:
    absent = {"scrub": method(3.0, 2.0, check=NoiseCheck(difference=0.5))}
    content = read_content(said(METHODS | absent, {}))
    (found,) = content.tuning
    assert {row[0] for row in found.rows} == METHODS.keys()
    assert "scrub" not in "".join(found.notes)


def test_every_rendering_says_it(said: Callable[..., Path]) -> None:
    place = said(METHODS, {"neg_grad_plus": "default"})
    write_report(place)
    markdown, page = (place / "report.md").read_text(), (place / "report.html").read_text()
    for text in (markdown, page):
        assert "Tuning" in text and "tuned (3 trials, 2 surrogates)" in text
        assert "Tuning did not help on the fresh seed: finetune." in text
    assert "## Tuning" in markdown and 'id="tuning"' in page
    assert "figures/tuning.svg" in markdown
    terminal = "\n".join(str(part) for part in summary(place))
    assert "Settings: default: neg_grad_plus; all others tuned" in terminal
    assert "Tuning: digits" in terminal


def test_a_folder_without_tuning_says_nothing_of_it(folder: Any, realistic: Any) -> None:
    place = folder([r for r in realistic(1) if r.method in ("retrain", "pbu")])
    write_report(place)
    assert "uning" not in (place / "report.md").read_text()
    assert not (place / "figures" / "tuning.svg").exists()


def test_only_methods_of_one_budget_are_ranked_and_stressed(said: Callable[..., Path]) -> None:
    section = read_content(said(METHODS, {"neg_grad_plus": "default"})).sections[0]
    ranked = [row.method for row in section.section.ranking]
    assert set(ranked) == set(METHODS) and [r.method for r in section.section.unranked] == [
        "neg_grad_plus"
    ]
    assert "neg_grad_plus" not in section.section.tied
    (note,) = [note for note in section.notes if note.lead == "Unequal budgets"]
    assert "neg_grad_plus was not tuned" in note.text


def test_where_most_were_not_tuned_these_are_ranked(said: Callable[..., Path]) -> None:
    few = {"pbu": METHODS["pbu"]}
    others = dict.fromkeys(["finetune", "random_label", "neg_grad_plus"], "default")
    section = read_content(said(few, others)).sections[0].section
    assert [row.method for row in section.unranked] == ["pbu"]


def test_the_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = tuned(METHODS)
    write_tuned(tmp_path / "tuned.yaml", made)
    assert read_tuned(tmp_path / "tuned.yaml", "--params") == made


def test_the_table_of_default_and_tuned_says_who_came_nearer(
    write_folder: Callable[..., Path],
    realistic: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = Path(__file__).parents[2] / "benchmarks" / "tuning_table.py"
    spec = importlib.util.spec_from_file_location("tuning_table", path)
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    runs = realistic(3)
    near = {run.seed: run.records for run in runs if run.method == "pbu"}
    tuned = [
        replace(run, records=near[run.seed]) if run.method == "finetune" else run for run in runs
    ]
    folders = [write_folder(tmp_path / name, found) for name, found in (("a", runs), ("b", tuned))]
    monkeypatch.setattr(sys, "argv", ["tuning_table.py", *map(str, folders)])
    script.main()
    lines = capsys.readouterr().out.splitlines()
    change = {
        line.split(" | ")[0].strip("| "): line.split(" | ")[3] for line in lines if " | " in line
    }
    assert change["pbu"] == "0.0 ± 0.0" and change["finetune"].startswith("−")
    assert lines[-1].startswith("Of ") and lines[-1].endswith("1 came nearer; farther away: none.")

    monkeypatch.setattr(sys, "argv", [*sys.argv, str(folders[0])])
    another = count()
    monkeypatch.setattr(
        script, "chosen", lambda _, method: {"lr": next(another) if method == "finetune" else 0}
    )
    script.main()
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(
        "a beside b, 1 methods with room and other settings: 0 nearer, 1 farther"
    )
