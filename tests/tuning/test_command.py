"""`tune` from the command line: killed and continued, shown, and used by `run`."""

import random
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import PLUGIN, TINY

# Two surrogates under one tuning seed; the time of retraining is never what ends a search.
BUDGET = ("--trials", 3, "--surrogates", 2, "--tuning-seeds", 1, "--budget", 100_000)
RUNS = 4 + 3 * 2 + 4  # retrainings, trials, noise check


@dataclass(frozen=True)
class Tuned:
    suite: Path
    plugin: Path
    out: Path
    home: Path
    ended: Any

    @property
    def file(self) -> Path:
        return self.out / "tuned.yaml"

    @property
    def flags(self) -> tuple[Any, ...]:
        return (self.suite, "--methods", "scale_weights", "--plugin", self.plugin)


@pytest.fixture(scope="session")
def tuned(_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """A method of one's own, tuned on the tiny suite."""
    folder = tmp_path_factory.mktemp("tuned")
    suite, plugin, home = folder / "tiny.yaml", folder / "scale_weights.py", folder / "home"
    suite.write_text(TINY)
    plugin.write_text(PLUGIN)
    made = Tuned(suite, plugin, folder / "out", home, None)
    environment = {"UNLEARN_BENCH_HOME": str(home)}
    ended = _server("tune", *made.flags, *BUDGET, "--out", made.out, env=environment)
    assert ended.code == 0, ended.err
    return Tuned(suite, plugin, made.out, home, ended)


@pytest.fixture
def models(tuned: Tuned, home: Path) -> Path:
    """The test's store, with the models of tuning in it."""
    shutil.copytree(tuned.home, home, dirs_exist_ok=True)
    return home


def choice(file: Path) -> Any:
    """What was chosen, without what the clock says."""
    (setting,) = yaml.safe_load(file.read_text())["settings"]
    for method in setting["methods"].values():
        for name in ("seconds", "retrainings"):
            method.pop(name)
    setting.pop("retraining")
    return setting


def results(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "runs").glob("*.json")}


def test_a_third_partys_method_is_tuned_like_ours(tuned: Tuned) -> None:
    found = choice(tuned.file)
    assert found["scenario"] == {"classes": [8]} and found["dataset"] == "digits"
    method = found["methods"]["scale_weights"]
    assert method["trials"] == len(method["history"]) == 3
    assert 0.05 <= method["params"]["factor"] <= 5
    assert method["gap"] == min(method["history"])
    assert len(results(tuned.out)) in (RUNS, RUNS - 4)  # no noise check of the default itself


def test_the_command_ends_with_a_table_and_says_how_to_go_on(tuned: Tuned) -> None:
    out = tuned.ended.out
    assert "1 search, at most 3 trials and 100000 times one retraining per method" in out
    assert "Tuning: digits" in out and "scale_weights" in out
    assert f"--params {tuned.file}" in out
    assert (tuned.out / "optuna.journal").exists()


def test_a_finished_study_is_only_looked_at(tuned: Tuned, models: Path, cli: Any) -> None:
    before, chosen = results(tuned.out), choice(tuned.file)
    ended = cli("tune", *tuned.flags, *BUDGET, "--out", tuned.out)
    assert ended.code == 0 and ended.out.count("was there already") == len(before)
    assert results(tuned.out) == before and choice(tuned.file) == chosen


def test_status_knows_how_far_tuning_has_come(tuned: Tuned, cli: Any) -> None:
    ended = cli("status", tuned.out)
    count = len(results(tuned.out))
    assert ended.code == 0 and f"{count} of {count} done" in ended.out


def test_a_folder_of_tuning_has_no_report(tuned: Tuned, cli: Any) -> None:
    assert "nothing was compared with the true retraining" in cli("report", tuned.out).error


def test_show_prints_what_was_tuned(tuned: Tuned, cli: Any, tmp_path: Path) -> None:
    for place in (tuned.out, tuned.file):
        ended = cli("tune", place, "--show")
        assert ended.code == 0 and "scale_weights" in ended.out and "of 3" in ended.out
    assert "has no tuned.yaml: nothing was tuned there" in cli("tune", tmp_path, "--show").error
    assert "name the folder" in cli("tune", "--show").error


def test_a_dry_run_writes_nothing(tuned: Tuned, cli: Any, home: Path, tmp_path: Path) -> None:
    ended = cli("tune", *tuned.flags, *BUDGET, "--out", tmp_path / "new", "--dry-run")
    assert ended.code == 0 and f"at most {RUNS} runs" in ended.out
    assert not (tmp_path / "new").exists() and not home.exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--budget", 0), "--budget 0: give the time limit per method"),
        (("--budget", "nan"), "--budget nan"),
        (("--trials", 0), "'--trials': Input should be greater than or equal to 1"),
        (("--surrogates", 10), "10 surrogates cannot be made of 9 retained classes"),
        (("--methods", "retrain"), "no method to tune"),
        (("--sampler", "grid"), "Invalid value for '--sampler'"),
        (("--forget", "classes:0,1,2,3,4,5"), "no retained class is left to serve as surrogate"),
    ],
)
def test_what_cannot_be_tuned_is_refused_in_one_line(
    flags: tuple[Any, ...], said: str, tuned: Tuned, cli: Any, tmp_path: Path
) -> None:
    assert said in cli("tune", *tuned.flags, *flags, "--out", tmp_path / "out").error


def test_another_budget_or_a_run_does_not_mix_with_what_was_tuned(
    tuned: Tuned, models: Path, cli: Any
) -> None:
    more = ("--trials", 4, "--surrogates", 2, "--tuning-seeds", 1, "--budget", 100_000)
    said = "holds the results of another suite (it differs in: tuning)"
    assert said in cli("tune", *tuned.flags, *more, "--out", tuned.out).error
    assert "it differs in: " in cli("run", *tuned.flags, "--out", tuned.out).error


@pytest.mark.thorough
def test_a_run_takes_the_tuned_settings_and_says_so(
    tuned: Tuned, models: Path, cli: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ended = cli("run", *tuned.flags, "--params", tuned.file, "--out", out)
    assert ended.code == 0, ended.err
    chosen = choice(tuned.file)["methods"]["scale_weights"]
    params = [yaml.safe_load(text)["params"] for text in results(out).values()]
    assert chosen["params"] in params
    report = (out / "report.md").read_text()
    assert "tuned (3 trials, 2 surrogates)" in report and "## Tuning" in report
    assert yaml.safe_load((out / "tuned.yaml").read_text())["settings"]
    # The folder makes its own results again, from the sources that it keeps.
    again = cli("run", "suite.yaml", "--plugin", "plugins/scale_weights.py", "--dry-run", cwd=out)
    assert again.code == 0 and "retrain" in again.out
    changed = cli("run", *tuned.flags, "--out", out)
    assert "it differs in: " in changed.error


def test_what_a_command_sets_goes_before_what_was_tuned(
    tuned: Tuned, models: Path, cli: Any, tmp_path: Path
) -> None:
    flags = ("--params", tuned.file, "--set", "scale_weights.factor=0.25", "--dry-run")
    assert cli("run", *tuned.flags, *flags, "--out", tmp_path / "out").code == 0


STALE = {
    "another scenario": (("--forget", "class:3"), "and not for digits · resnet4"),
    "another model": (("--stem", "small"), "and not for digits · resnet4 (small stem)"),
}


@pytest.mark.parametrize("what", STALE)
def test_settings_tuned_for_something_else_are_refused_unless_allowed(
    what: str, tuned: Tuned, cli: Any, tmp_path: Path
) -> None:
    flags, said = STALE[what]
    flags = (*tuned.flags, "--params", tuned.file, *flags, "--out", tmp_path / "out", "--dry-run")
    error = cli("run", *flags).error
    assert said in error and "--allow-stale" in error
    allowed = cli("run", *flags, "--allow-stale")
    assert allowed.code == 0 and "Stale, but accepted (--allow-stale)" in allowed.out


def test_settings_of_another_version_or_of_other_data_are_refused(
    tuned: Tuned, cli: Any, tmp_path: Path, write: Callable[[str, str], Path]
) -> None:
    text = tuned.file.read_text()
    old = write("old.yaml", re.sub(r"code: \w+", "code: other", text))
    other = write("other.yaml", re.sub(r"data: \w+", "data: other", text))
    for file, said in (
        (old, "scale_weights was tuned in another version of its file"),
        (other, "tuned on a different version of digits"),
    ):
        flags = (*tuned.flags, "--params", file, "--out", tmp_path / "out", "--dry-run")
        assert said in cli("run", *flags).error
        allowed = cli("run", *flags, "--allow-stale")
        assert allowed.code == 0 and said in " ".join(allowed.out.split())


def test_a_suite_names_its_tuned_settings(tuned: Tuned, cli: Any, tmp_path: Path) -> None:
    suite = tmp_path / "own.yaml"
    suite.write_text(TINY + "params_from: settings/tuned.yaml\n")
    (tmp_path / "settings").mkdir()
    shutil.copy(tuned.file, tmp_path / "settings" / "tuned.yaml")
    flags = ("--methods", "scale_weights", "--plugin", tuned.plugin, "--dry-run")
    assert cli("run", suite, *flags, "--out", tmp_path / "out").code == 0
    # Flags that lead elsewhere leave them behind.
    away = cli("run", suite, *flags, "--forget", "class:3", "--out", tmp_path / "out")
    assert away.code == 0 and "methods run with their defaults there" in away.out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no tuned settings"),
        ("settings: 3", "settings"),
        ("settings: []\nformat: 2", "is of format 2, this version reads 1"),
        ("settings: [{dataset: digits}]", "settings.0.data"),
        ("a: b: c", ":1:5"),
    ],
)
def test_a_file_that_holds_no_settings_is_refused_in_one_line(
    text: str, said: str, tuned: Tuned, cli: Any, write: Callable[[str, str], Path]
) -> None:
    file = write("tuned.yaml", text)
    error = cli("run", *tuned.flags, "--params", file, "--dry-run").error
    assert error.startswith("--params: ") and said in error
    assert "cannot read" in cli("run", *tuned.flags, "--params", file.parent / "none").error


def test_tune_and_run_in_one_command(tuned: Tuned, models: Path, cli: Any, tmp_path: Path) -> None:
    dry = cli("run", *tuned.flags, "--tune", "--out", tmp_path / "out", "--dry-run")
    assert dry.code == 0 and "tuning: 1 search" in dry.out and not (tmp_path / "out").exists()
    both = cli("run", *tuned.flags, "--tune", "--params", tuned.file)
    assert "give one" in both.error


@pytest.mark.heavy
def test_tune_and_run_end_with_a_report(tuned: Tuned, cli: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = cli("run", *tuned.flags, "--tune", "--out", out)
    assert ended.code == 0, ended.err
    assert (out / "tuning" / "tuned.yaml").exists() and "tuned (" in (out / "report.md").read_text()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("kills", "workers"), [(3, 1), pytest.param(20, 2, marks=pytest.mark.heavy)]
)
def test_killed_and_continued_it_comes_to_the_same_choice(
    kills: int, workers: int, tuned: Tuned, cli: Any, tmp_path: Path
) -> None:
    chance, expected = random.Random(kills), results(tuned.out)
    killed = number = 0
    kept: dict[str, bytes] = {}

    def flags() -> tuple[Any, ...]:
        return ("tune", *tuned.flags, *BUDGET, "--workers", workers, "--out", out())

    def out() -> Path:
        return tmp_path / f"out {number}"

    def environment() -> dict[str, str]:
        return {"OMP_NUM_THREADS": "1", "UNLEARN_BENCH_HOME": str(tmp_path / f"home {number}")}

    def check_the_end(ended: Any) -> None:
        assert ended.code == 0, ended.err
        assert ended.out.count("was there already") == len(kept)  # none is made twice
        assert results(out()).items() >= kept.items() and results(out()).keys() == expected.keys()
        assert choice(out() / "tuned.yaml") == choice(tuned.file)
        assert not list(out().rglob("*.tmp")) and not list(out().glob("damaged/*"))

    while killed < kills:
        running = cli.start(*flags(), env=environment())
        # Until some more results are there, or somewhere on the way to the next.
        enough, deadline = len(kept) + chance.randrange(4), time.monotonic() + 120
        while not running.ended() and len(results(out())) < enough and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.5))
        ended = running.kill_and_wait()
        if ended.code == -9:
            killed += 1
            now = results(out())
            assert now.items() >= kept.items()  # none is lost
            kept = now
        else:
            check_the_end(ended)
            number, kept = number + 1, {}
    check_the_end(cli(*flags(), env=environment()))
