"""What reaches a terminal or a pipe: shown, not obeyed, and in the encoding that it has."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.table import Table
from rich.text import Text

from unlearn_bench.cli import app
from unlearn_bench.cli.app import SafeConsole, folder_or_file, say
from unlearn_bench.core.errors import ConfigError

HOSTILE = "\x1b[31mred\x07\u202e\x9b2J\r"


def printed(*things: Any, width: int = 80, **options: Any) -> str:
    console = SafeConsole()
    console.file, console.width = io.StringIO(), width
    console.print(*things, **options)
    return console.file.getvalue()


def hostile_table() -> Table:
    table = Table(HOSTILE, title=HOSTILE)
    table.add_row(HOSTILE)
    table.add_row(Text(HOSTILE))
    return table


@pytest.mark.parametrize("thing", [HOSTILE, Text(HOSTILE), hostile_table()])
def test_whatever_is_printed_holds_no_escape_sequence_of_others(thing) -> None:
    found = printed(thing)
    assert "\\x1b[31mred" in found and "\\u202e" in found
    assert all(c.isprintable() or c == "\n" for c in found)


def test_the_programs_own_styles_still_reach_a_terminal() -> None:
    console = SafeConsole()
    console._force_terminal = True
    with console.capture() as capture:
        console.print(Text("x\x1b[31m", style="bold"))
    assert "x\\x1b[31m" in capture.get()


def test_emoji_names_stay_text() -> None:
    assert printed("class:cat: and [bold]:x:[/bold]") == "class:cat: and :x:\n"


def test_plain_lines_are_shown_as_safely(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE + "\nb")
    assert capsys.readouterr().out == "\\x1b[31mred\\x07\\u202e\\x9b2J\\r\nb\n"
    say("a\tb")
    assert capsys.readouterr().out == "a\tb\n"


def one_class(folder: Path) -> Path:
    place = folder / "train" / "cat"
    place.mkdir(parents=True)
    for i in range(4):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(place / f"{i}.png")
    return folder


def test_errors_show_names_of_others_escaped_and_no_pictures(cli, tmp_path) -> None:
    flags = ["run", "--dry-run", "--model", "test_resnet", "--methods", "finetune"]
    ended = cli(*flags, "--dataset", f"imagefolder:{one_class(tmp_path)}", "--forget", "class:cat")
    assert ended.code == 2 and "has a single class, 'cat', so there is nothing" in ended.error
    ended = cli(*flags, "--dataset", f"x{HOSTILE}")
    assert ended.code == 2 and "\\x1b[31mred" in ended.err and "\x1b" not in ended.err


def test_an_error_that_quotes_a_long_text_stays_short(cli, write) -> None:
    tuned = write("tuned.yaml", f"format: {'x' * 100_000}\nsettings: []\n")
    ended = cli("run", "digits", "--dry-run", "--params", tuned)
    assert ended.code == 2 and len(ended.error) < 5_000
    assert "is of format 'xxx" in ended.error and "or tune again" in ended.error


@pytest.mark.parametrize("command", ["run", "report"])
def test_an_empty_out_is_refused(command, cli, tmp_path) -> None:
    ended = cli(command, *(["x", "y"] if command == "report" else []), "--out", "", cwd=tmp_path)
    assert ended.code == 2 and "--out: the path is empty" in ended.error
    assert not any(tmp_path.iterdir()) or {p.name for p in tmp_path.iterdir()} == {"home"}
    with pytest.raises(ConfigError):
        folder_or_file("  ")
    assert folder_or_file(".") == Path()


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"UNLEARN_BENCH_HOME": "~nobody-of-that-name"}, "UNLEARN_BENCH_HOME: ~nobody-of-that"),
        ({"UNLEARN_BENCH_HOME": "/proc/nowhere"}, ""),
    ],
)
def test_a_home_that_cannot_be_is_named(env, message, cli) -> None:
    ended = cli("cache", "ls", env=env)
    if message:
        assert ended.code == 2 and message in ended.error
    else:
        assert ended.code == 0


def test_a_lock_that_cannot_be_made_names_the_variable(cli, tiny, tmp_path) -> None:
    env = {"UNLEARN_BENCH_HOME": "/proc/nowhere"}
    ended = cli("run", tiny, "--out", tmp_path / "out", env=env)
    assert ended.code in (1, 2)
    assert "UNLEARN_BENCH_HOME" in ended.err + ended.out and "Traceback" not in ended.err


def run_main(arguments: list[str], env: dict[str, str], **streams: Any) -> Any:
    return subprocess.run(
        [sys.executable, "-m", "unlearn_bench", *arguments],
        env={**os.environ, **env},
        stderr=subprocess.PIPE,
        timeout=200,
        **streams,
    )


@pytest.mark.parametrize(
    "env",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
)
def test_output_that_is_not_utf_8_gets_replacements(env, folder, run) -> None:
    place = folder([run("retrain", kind="reference", error="Löwe–猫")], notes=["Löwe–猫"])
    done = run_main(["report", str(place)], {**env, "COLUMNS": "200"}, stdout=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Failed: retrain, seed 0: L" in done.stdout and done.stdout.isascii()
    assert "Löwe–猫" in (place / "report.md").read_text(encoding="utf-8")


def test_a_full_disk_ends_in_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        done = run_main(["list", "suites"], {}, stdout=full)
    line = b"error: cannot write the output: No space left on device\n"
    assert (done.returncode, done.stderr) == (2, line)


def test_a_reader_that_has_gone_ends_it_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    done = run_main(["list", "suites"], {}, stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


COMMANDS = [
    "status A",
    *(pytest.param(c, marks=pytest.mark.heavy) for c in ("report A", "report A B", "verify A")),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_about_results_end_in_order_whatever_becomes_of_their_output(
    command, invented, write_folder, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("A", "B"):
        (tmp_path / name).mkdir()
        write_folder(tmp_path / name, invented(seeds=1), notes=["Löwe 猫"])
    arguments = command.split()
    plain = run_main(arguments, {"PYTHONIOENCODING": "ascii"}, stdout=subprocess.PIPE)
    assert plain.stderr == b"" and plain.stdout.isascii() and plain.returncode in (0, 1, 4)
    with Path("/dev/full").open("wb") as full:
        done = run_main(arguments, {}, stdout=full)
    assert done.returncode == 2 and done.stderr.startswith(b"error: cannot write the output")
    read, write = os.pipe()
    os.close(read)
    done = run_main(arguments, {}, stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_an_error_of_a_file_is_no_error_of_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "some file")

    monkeypatch.setattr(app, "app", fail)
    with pytest.raises(OSError, match="some file"):
        app.main()
