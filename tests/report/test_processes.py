"""Figures by several processes: the same bytes, and one line where a process is killed."""

import os
import subprocess
import sys
from dataclasses import replace

import matplotlib
import pytest

from unlearn_bench.analysis.table import sections
from unlearn_bench.core.errors import OutputError
from unlearn_bench.report import figures
from unlearn_bench.report.figures import processes
from unlearn_bench.results import curves
from unlearn_bench.results.ratios import with_time_ratios
from unlearn_bench.results.records import table, write_records

MUCH = processes.FEWEST_LINES


@pytest.fixture
def two_settings(invented):
    """The realistic runs in two scenarios."""
    runs = invented()
    others = [replace(run, scenario="class:1", key=f"f{run.key[1:]}") for run in runs]
    return [*runs, *others]


@pytest.fixture
def several(monkeypatch):
    """Two processes, however little is drawn on however few cores."""
    monkeypatch.setattr(processes, "FEWEST_LINES", 1)
    monkeypatch.setattr(processes, "cores", lambda: 2)


def drawn(runs):
    return figures.draw(sections(with_time_ratios(table(runs))), curves.table(runs))


def test_several_processes_draw_the_same_bytes(two_settings, several, monkeypatch):
    # As a notebook may have set it: what the report leaves open follows the caller's style.
    with matplotlib.rc_context({"lines.solid_capstyle": "round", "hatch.linewidth": 3.0}):
        by_two = drawn(two_settings)
        monkeypatch.setattr(processes, "FEWEST_LINES", MUCH)
        by_one = drawn(two_settings)
    assert len(by_one) == 3 and by_two == by_one


def test_only_much_is_drawn_by_other_processes(several, monkeypatch):
    monkeypatch.setattr(processes, "FEWEST_LINES", MUCH)
    own, asked = os.getpid(), "__import__('os').getpid()"
    assert processes.side_by_side(eval, [asked, asked], MUCH - 1) == [own, own]
    assert processes.side_by_side(eval, [asked], MUCH) == [own]
    assert own not in processes.side_by_side(eval, [asked, asked], MUCH)


def test_one_core_draws_in_one_process():
    asked = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "from unlearn_bench.report.figures.processes import cores; print(cores())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "1"


def test_a_killed_process_is_told_in_one_line(several):
    with pytest.raises(OutputError, match="^a process that drew figures was killed.*$") as raised:
        processes.side_by_side(os._exit, [1, 1], MUCH)
    assert "LOKY_MAX_CPU_COUNT=1" in str(raised.value) and "\n" not in str(raised.value)


def test_a_script_without_a_main_guard_runs_once(two_settings, tmp_path):
    write_records(tmp_path, two_settings)
    script = tmp_path / "mine.py"
    script.write_text(
        "from pathlib import Path\n"
        "from unlearn_bench.report import write_report\n"
        "from unlearn_bench.report.figures import processes\n"
        "processes.FEWEST_LINES, processes.cores = 1, lambda: 2\n"
        "print('begun')\n"
        "print(write_report(Path(__file__).parent).name)\n"
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert ended.stdout.split() == ["begun", "report.html"], ended.stderr
    assert not ended.stderr
