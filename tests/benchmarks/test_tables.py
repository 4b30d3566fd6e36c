"""Tables in the READMEs of reports are what the command beside them prints."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMAND = re.compile(r"^python (benchmarks/\w+_table\.py reports/.*)$", re.MULTILINE)
COMMANDS = [
    (readme.relative_to(ROOT), found)
    for readme in sorted((ROOT / "reports").glob("*/README.md"))
    for found in COMMAND.findall(readme.read_text())
    if found.count("reports/") <= 2  # of three folders a README shows a table of its own
]


def test_there_are_such_tables() -> None:
    assert len(COMMANDS) >= 4


@pytest.mark.parametrize(("readme", "command"), COMMANDS)
def test_every_row_is_printed_by_the_command_beside_it(
    readme: Path,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    script, *folders = shlex.split(command)
    monkeypatch.setattr(sys, "argv", [script, *folders])
    runpy.run_path(script, run_name="__main__")
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    # Dividers are written in more than one way.
    rows = [line for line in printed if re.search(r"\w", line)]
    lines = readme.read_text().splitlines()
    assert rows and not [row for row in rows if row not in lines]
