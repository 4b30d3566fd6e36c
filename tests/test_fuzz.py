"""Mutated input of every kind, given to the actual command: four cases of benchmarks/fuzz.py."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def fuzz():
    """The module, which is a script beside what it imports."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("fuzz", BENCHMARKS / "fuzz.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["fuzz"] = module
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_no_mutated_input_breaks_what_the_command_promises(fuzz, cli, finished, tmp_path):
    counts, findings = fuzz.fuzz(
        fuzz.Server(cli._server),
        seconds=200,
        seed=14,
        keep=tmp_path / "kept",
        most=4,
        results=finished.out.parent,
    )
    assert not findings
    assert counts.total() == 4


def ended(fuzz, code: int | None = 2, out: str = "", err: str = "error: x\n"):
    return fuzz.Ended(code, out, err, 1.0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"code": 0, "err": ""}, ""),
        ({"code": None}, "did not end"),
        ({"code": -11}, "ended with -11"),
        ({"code": 3}, "ended with 3"),
        ({"err": "Traceback (most recent call last):\nKeyError: 1\n"}, "traceback: KeyError: 1"),
        ({"err": "error: a\nb\n"}, "in 1 lines"),
        ({"err": ""}, "in 0 lines"),
        ({"code": 0, "out": "\x1b[31m"}, "control characters"),
    ],
)
def test_a_broken_promise_is_named(fuzz, changes, said):
    found = fuzz.broken(fuzz.Case("report", ("report", "out"), ()), ended(fuzz, **changes), [])
    assert (said in "; ".join(found)) if said else not found


def test_a_changed_sentinel_is_noticed(fuzz, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "key").write_text("PRIVATE")
    (tmp_path / "a" / "link").symlink_to("/dev/zero")
    before = fuzz.digest(tmp_path / "a")
    assert before == fuzz.digest(tmp_path / "a")
    (tmp_path / "a" / "key").write_text("PRIVATf")
    assert before != fuzz.digest(tmp_path / "a")


def test_a_case_is_made_again_from_its_seed(fuzz, tmp_path):
    import mutations

    results = []
    for number in range(2):
        place = tmp_path / str(number)
        place.mkdir()
        for name, text in (
            ("suite.json", '{"plan": [1, {"a": 2}]}'),
            ("records.csv", "a,b\n1,2\n"),
        ):
            (place / name).write_text(text)
        rng = Random("1:2")
        for name in ("suite.json", "records.csv"):
            mutations.one_file(rng, place / name, tmp_path)
        results.append(fuzz.digest(place))
    assert results[0] == results[1]


def test_the_script_says_how_it_is_called():
    script = [sys.executable, BENCHMARKS / "fuzz.py", "--help"]
    shown = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    assert "--minutes" in shown and "--replay" in shown
