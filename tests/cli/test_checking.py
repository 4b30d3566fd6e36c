"""`check --all`: every registered method, a table at the end, exit code 1 if any fails."""

from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from unlearn_bench import conformance
from unlearn_bench.cli.app import app
from unlearn_bench.conformance import Finding
from unlearn_bench.plugins import registry


@pytest.fixture
def check(monkeypatch):
    """Run ``check`` with registered methods and the findings that each comes to."""

    def run(*argv, **outcomes):
        entries = {name: SimpleNamespace(name=name) for name in outcomes}
        monkeypatch.setattr(registry, "methods", lambda: entries)
        monkeypatch.setattr(registry, "get", entries.__getitem__)
        monkeypatch.setattr(
            conformance,
            "examine",
            lambda entry: (
                Finding(f"check {i}", status, "seen", "why", 0.1)
                for i, status in enumerate(outcomes[entry.name])
            ),
        )
        ended = CliRunner().invoke(app, ["check", *argv])
        return ended.exit_code, ended.output.splitlines()

    return run


def rows(lines):
    """The cells of the table by method."""
    start = next(i for i, line in enumerate(lines) if line.split()[:2] == ["method", "passed"])
    cells = [line.split() for line in lines[start + 2 :] if len(line.split()) == 4]
    return {name: (passed, failed) for name, passed, failed, _seconds in cells}


def test_every_registered_method_has_a_row_and_code_0_says_that_all_passed(check):
    code, lines = check("--all", "-q", first=["passed", "skipped"], second=["passed", "passed"])
    assert code == 0
    assert rows(lines) == {"first": ("1", "0"), "second": ("2", "0")}


def test_one_failure_ends_with_code_1_after_the_others_were_checked_too(check):
    code, lines = check("--all", first=["failed", "passed"], second=["passed"])
    assert code == 1
    assert rows(lines) == {"first": ("1", "1"), "second": ("1", "0")}
    assert lines[-1] == "failed: first"


def test_a_name_beside_all_is_refused(check):
    code, _ = check("first", "--all", first=["passed"])
    assert code != 0


def test_only_a_failed_check_says_why_it_matters(check):
    _, lines = check("first", first=["passed", "failed", "skipped"])
    assert [line.split()[0] for line in lines if "(why)" in line] == ["FAILED"]


def test_checks_that_need_a_run_are_one_line_when_the_method_does_not_run(check, monkeypatch):
    monkeypatch.setattr(conformance, "NO_RUN", "seen")  # as the fixture's findings have it
    _, lines = check("first", first=["skipped"] * 20)
    assert lines[1].split() == "n/a 20 other checks need a method that runs".split()
    assert lines[2].split() == "0 passed, 0 failed, 20 skipped".split()


def test_a_single_method_needs_no_table(check):
    code, lines = check("first", first=["passed"], second=["failed"])
    assert code == 0 and not any("seconds" in line for line in lines)
