"""The command line as a user meets it; above all, when the user has made a mistake."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from unlearn_bench import __version__
from unlearn_bench.core import locks
from unlearn_bench.plugins import registry

Write = Callable[[str, str], Path]

TINY_METHODS = "methods: {name: finetune, params: {epochs: 1}}\n"


# Mistakes in what is asked for: found before anything runs, told in one line, exit code 2.


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--methods finetun", "no method named 'finetun'; did you mean 'finetune'?"),
        ("--methods ,", "methods: "),
        ("--model resnet8", "no model named 'resnet8'; did you mean 'resnet9'?"),
        ("--dataset cifar-10", "no dataset named 'cifar-10'; did you mean 'cifar10'?"),
        ("--stem smal", "should be 'auto', 'small' or 'standard' (given: 'smal')"),
        ("--set finetune.epoch=1", "finetune has no parameter 'epoch'; did you mean 'epochs'?"),
        ("--set finetune.lr=fast", "finetune.lr='fast': input should be a valid number"),
        ("--set finetune.lr=-1", "finetune.lr=-1: input should be greater than 0"),
        ("--set finetune.lr=.inf", "finetune.lr=inf: input should be a finite number"),
        ("--set finetun.lr=1", "'finetun' is not among the methods of this suite; did you mean"),
        ("--set pbu.lr=1", "'pbu' is not among the methods of this suite"),
        ("--set finetune", "--set finetune: write --set METHOD.PARAMETER=VALUE"),
        ("--set finetune.lr={", "--set finetune.lr={: '{' is not a YAML value"),
        ("--forget 8", "'8' does not say what to forget; write class:8, classes:1,2"),
        ("--forget class:12", "no class 12 to forget (classes are 0 to 9: 0, 1, 2"),
        ("--forget class:cat", "no class 'cat' to forget"),
        ("--forget classes:0,1,2,3,4,5,6,7,8,9", "nothing is left to retain; forget fewer"),
        ("--forget random:0.00001", "random:1e-05: the forget set is empty"),
        ("--forget random:2", "random:2: 2 is not a fraction between 0 and 1"),
        ("--forget indices:99999", "forget index 99999 does not exist: the training part has"),
        ("--forget indices:none.txt", "cannot read the indices in none.txt: No such file"),
        ("--forget class:1 --forget class:1", "class:1 is named twice"),
        ("--seeds 0", "--seeds"),
        ("--seeds many", "--seeds"),
        ("--epochs 0", "--epochs"),
        ("--image-size 0", "--image-size"),
        ("--epoch 1", "No such option: --epoch"),
        ("--device gpu", "--device gpu: not a device; use auto, cpu, cuda or cuda:N"),
        ("--device cuda:99", "--device cuda:99: "),
        ("--mean 0.5", "--std is missing: give --mean and --std together, or neither"),
        ("--mean 0.5 --std half", "--std half: give one number or one per channel"),
        ("--mean 0.5 --std 0", "normalize.std.0: input should be greater than 0"),
        ("--mean 0.5,0.5,0.5 --std 1", "normalize.mean has 3 values, the images of digits have 1"),
        ("--original none.safetensors", "--original: no file "),
        ("--plugin none.py", "no plug-in file "),
        ("--dataset mnist --data-root none", "none: expected MNIST/raw/"),
        ("--dataset parquet:none", "no train-*.parquet in none"),
        ("--dataset imagefolder:none", "none"),
        ("--dataset parquet:", "names no path; write parquet:PATH"),
    ],
)
def test_a_mistake_in_a_flag_is_told_in_one_line(
    flags: str, message: str, cli: Any, tiny: Path, tmp_path: Path
) -> None:
    (tmp_path / "work").mkdir()
    ended = cli("run", tiny, *flags.split(), cwd=tmp_path / "work")
    assert message in ended.error
    assert ended.code == 2
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["run", "digts"], "no suite named 'digts'; did you mean 'digits'?"),
        (["run", "none.yaml"], "cannot read the suite none.yaml: No such file"),
        (["run", "--dataset", "cifar 10"], "no dataset named 'cifar 10'; did you mean 'cifar10'?"),
        (["rum"], "No such command 'rum'"),
        (["list", "method"], "no list named 'method'; did you mean 'methods'?"),
        (["list"], "Missing argument"),
        (["show", "finetun"], "no method or metric named 'finetun'; did you mean 'finetune'?"),
        (["report", "none"], "none holds no records.csv; give the folder that"),
    ],
)
def test_a_mistaken_command_is_told_in_one_line(argv: list[str], message: str, cli: Any) -> None:
    ended = cli(*argv)
    assert message in ended.error
    assert ended.code == 2


def test_a_mistake_in_a_suite_or_a_flag_is_told_without_loading_torch(tiny: Path) -> None:
    tiny.write_text(tiny.read_text() + "epoch: 1\n")
    commands = [
        ["run", "digts"],
        ["run", str(tiny)],
        ["run", "digits", "--forget", "8"],
        ["tune", "digits", "--set", "finetune"],
    ]
    code = (
        "import sys\n"
        "from unlearn_bench.cli import main\n"
        f"for command in {commands!r}:\n"
        "    sys.argv = ['unlearn-bench', *command]\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit as end:\n"
        "        print(end.code, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["2 False"] * len(commands), done.stderr
    assert done.stderr.count("error: ") == len(commands)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("epoch: 1\n", "9:1", "epoch: unknown key"),
        ("seed: 3\n", "9:1", "seed: unknown key; did you mean 'seeds'?"),
        ("seeds: two\n", "9:1", "seeds: write a number of seeds"),
        ("seeds: 1\nseeds: 2\n", "10:1", "the key 'seeds' is given twice, first in line 9"),
        ("params: {finetune: 3}\n", "9:10", "params.finetune: input should be a mapping"),
        ("params: [finetune\n", "10:1", "expected ',' or ']'"),
        ("validation: .inf\n", "9:1", "validation: input should be "),
        ("x: &a [*a]\n", "9:4", "an alias inside of what it stands for"),
        ("1: 2\n", "1:1", "keys should be strings (given: 1)"),
    ],
)
def test_a_mistake_in_a_suite_is_told_with_file_line_and_column(
    text: str, place: str, message: str, cli: Any, tiny: Path
) -> None:
    tiny.write_text(tiny.read_text() + text)
    ended = cli("run", tiny)
    assert f"{tiny}:{place}: " in ended.error
    assert message in ended.error
    assert ended.code == 2


def test_an_infinite_learning_rate_is_refused(cli: Any, tiny: Path) -> None:
    tiny.write_text(tiny.read_text().replace("2.0e-2", ".inf"))
    assert "recipe.lr: input should be a finite number" in cli("run", tiny).error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ndef f(:\n", "plug.py:2: invalid syntax"),
        ("x = 1\n", "plug.py registers nothing; decorate a function"),
        ("x = 1\nraise ValueError('no')\n", "plug.py:2: ValueError: no"),
        ("import sys\nsys.exit(0)\n", "plug.py:2: SystemExit"),
        (
            "from unlearn_bench.api import *\n"
            "@method('finetune', access=Access.NONE)\ndef f(model, ctx): ...\n",
            "two methods are named 'finetune': ",
        ),
    ],
)
def test_a_mistake_in_a_plug_in_is_told_with_file_and_line(
    text: str, message: str, cli: Any, tiny: Path, write: Write
) -> None:
    for argv in (["run", tiny], ["list", "methods"], ["show", "pbu"]):
        ended = cli(*argv, "--plugin", write("plug.py", text))
        assert message in ended.error
        assert ended.code == 2


def test_a_traceback_is_shown_on_demand_only(cli: Any, tiny: Path, write: Write) -> None:
    plug = write("plug.py", "1 / 0\n")
    assert "Traceback" not in cli("run", tiny, "--plugin", plug).err
    ended = cli("run", tiny, "--plugin", plug, "--debug")
    assert "Traceback" in ended.err and "ZeroDivisionError" in ended.err


# Methods that misbehave: their run fails, the others finish, exit code 1.

CULPRITS = """\
import torch
from torch import nn
from unlearn_bench.api import Access, method

@method("nan", access=Access.NONE)
def nan(model, ctx):
    next(model.parameters()).data.fill_(float("nan"))
    return model

@method("wrong_object", access=Access.NONE)
def wrong_object(model, ctx):
    return "model"

@method("other_shape", access=Access.NONE)
def other_shape(model, ctx):
    model.classifier = nn.Linear(32, 3)
    return model

@method("raising", access=Access.NONE)
def raising(model, ctx):
    raise RuntimeError("no\\nluck")

@method("leaving", access=Access.NONE)
def leaving(model, ctx):
    raise SystemExit(7)

@method("prying", access=Access.RETAIN)
def prying(model, ctx):
    return model if len(ctx.forget) else None

@method("talking", access=Access.NONE)
def talking(model, ctx):
    ctx.log(losses=torch.ones(3))
    return model

@method("honest", access=Access.FORGET)
def honest(model, ctx):
    for p in model.parameters():
        p.data.mul_(0.5)
    return model
"""

REASONS = {
    "nan": "holds NaN or infinity; lower the learning rate",
    "wrong_object": "the method returned str, not a model; end it with `return model`",
    "other_shape": r"classifier.bias came back as torch.float32 \[3\], expected .* \[10\]",
    "raising": "^RuntimeError: no$",
    "leaving": "^SystemExit: 7$",
    "prying": "method 'prying' read the forget split but declares only retain; add Access.FORGET",
    "talking": r"ctx.log\(losses=...\) was given a Tensor of shape \[3\]; log single numbers",
}


# Retraining and the controls, which every suite runs.
ALWAYS = sum(entry.kind != "method" for entry in registry.methods().values())


def test_methods_that_misbehave_fail_alone(
    cli: Any, tiny: Path, trained: Path, write: Write, tmp_path: Path
) -> None:
    culprits = write("culprits.py", CULPRITS)
    argv = [
        "run",
        tiny,
        "--plugin",
        culprits,
        "--out",
        tmp_path / "out",
        "--methods",
        ",".join([*REASONS, "honest"]),
    ]
    ended = cli(*argv)
    assert ended.code == 1 and ended.err == ""
    assert f"7 of {len(REASONS) + 1 + ALWAYS} runs failed; the same command retries" in ended.out
    assert "Traceback" not in ended.out
    records = pd.read_csv(tmp_path / "out" / "records.csv", keep_default_na=False)
    failed = records[records["status"] == "failed"].set_index("method")["error"]
    assert set(failed.index) == set(REASONS)
    for name, reason in REASONS.items():
        assert re.search(reason, failed[name]), failed[name]
        assert f"{name}: {failed[name]}" in ended.out
    finished = set(records.loc[records["metric"] == "forget_accuracy", "method"])
    always = {name for name, entry in registry.methods().items() if entry.kind != "method"}
    assert finished == {*always, "honest"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(name in page for name in [*REASONS, "honest"])

    # Mended, only what had failed is run again.
    culprits.write_text(CULPRITS.replace('raise RuntimeError("no\\nluck")', "return model"))
    again = cli(*argv)
    assert again.code == 1 and f"6 of {len(REASONS) + 1 + ALWAYS} runs failed" in again.out
    kept = [line for line in again.out.splitlines() if "was there already" in line]
    assert {line.split(" · ")[-1].split()[0] for line in kept} == always


# The user's own weights.


@pytest.fixture
def weights(finished: Any) -> dict[str, torch.Tensor]:
    """Weights of the tiny suite's original."""
    for spec in (finished.home / "artifacts" / "original").glob("*/spec.json"):
        return dict(load_file(spec.with_name("tensors.safetensors")))
    raise AssertionError("the suite left no original")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda w: w | {"classifier.bias": torch.zeros(7)},
            "classifier.bias is [7], expected [10]; give the --model",
        ),
        (lambda w: {"weight": torch.zeros(2)}, "more; give the --model, --stem and --dataset"),
        (
            lambda w: w | {"classifier.bias": torch.full((10,), torch.nan)},
            "classifier.bias holds NaN or infinity",
        ),
        (
            lambda w: (
                w | {"classifier.weight": torch.zeros(10, 32), "classifier.bias": torch.zeros(10)}
            ),
            "of the digits test images, little more than chance; they may expect other data",
        ),
    ],
)
def test_weights_of_ones_own_that_do_not_fit_are_refused(
    change: Any, message: str, weights: Any, cli: Any, tiny: Path, tmp_path: Path
) -> None:
    save_file(change(weights), tmp_path / "own.safetensors")
    ended = cli("run", tiny, "--original", tmp_path / "own.safetensors", "--out", tmp_path / "out")
    assert message in ended.error
    assert ended.code == 2


def test_what_is_no_file_of_weights_is_refused(cli: Any, tiny: Path, write: Write) -> None:
    own = write("own.safetensors", "PK this is a pickle")
    ended = cli("run", tiny, "--original", own)
    assert f"{own} is not a safetensors file, or it is truncated" in ended.error
    assert ended.code == 2


def test_the_right_weights_may_follow_the_wrong_ones_into_the_same_folder(
    weights: Any, cli: Any, tiny: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.safetensors"
    argv = ["run", tiny, "--methods", "original", "--original", own, "--out", tmp_path / "out"]
    save_file(
        weights | {"classifier.weight": torch.zeros(10, 32), "classifier.bias": torch.zeros(10)},
        own,
    )
    assert cli(*argv).code == 2
    save_file(weights, own)
    right = cli.until_a_result(*argv[:-2], out=tmp_path / "out")
    assert right.code == 130
    told = re.search(r"given weights classify (\S+)% of the digits test images", right.out)
    assert told and 20 < float(told[1]) < 100
    save_file(weights | {"classifier.bias": weights["classifier.bias"] + 0.01}, own)
    assert "holds the results of another suite (it differs in: original)" in cli(*argv).error


# The results folder and the store.


def test_a_place_that_cannot_be_written_is_refused(cli: Any, tiny: Path, write: Write) -> None:
    file = write("file", "in the way")
    for place in (file, file / "below", Path("/proc/none")):
        ended = cli("run", tiny, "--out", place)
        assert f"cannot write into {place}: " in ended.error
        assert ended.code == 2
    assert file.read_text() == "in the way"


def test_a_store_that_cannot_be_written_is_refused(
    cli: Any, tiny: Path, write: Write, tmp_path: Path
) -> None:
    file = write("file", "in the way")
    ended = cli("run", tiny, "--out", tmp_path / "out", env={"UNLEARN_BENCH_HOME": str(file)})
    assert str(file) in ended.error
    assert ended.code == 2


def test_a_full_disk_ends_with_one_line_and_the_same_command_goes_on(
    cli: Any, tiny: Path, home: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    # A model is larger than this, everything written before it is smaller.
    argv = ["run", tiny, "--methods", "original", "--out", out]
    ended = cli(*argv, file_limit=100_000)
    assert "cannot store an artifact in" in ended.error and "free space" in ended.error
    assert ended.code == 2
    assert [path for path in home.rglob("*") if path.name.startswith(".")] == []
    assert [path for path in out.rglob("*.tmp")] == []
    assert cli.until_a_result(*argv[:-2], out=out).code == 130


def test_a_second_process_on_the_same_folder_is_refused(
    cli: Any, tiny: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with locks.take(out / ".lock"):  # type: ignore[union-attr]
        ended = cli("run", tiny, "--out", out)
    assert f"another process is running a suite in {out}; wait for it or choose" in ended.error
    assert ended.code == 2


@pytest.fixture
def own(finished: Any, tmp_path: Path) -> Any:
    """A copy of the finished suite: a run writes beside its results, and other tests read them."""
    copied = replace(finished, out=tmp_path / "out", home=tmp_path / "home")
    for part in ("out", "home"):
        shutil.copytree(getattr(finished, part), getattr(copied, part))
    return copied


def rerun(cli: Any, finished: Any, *flags: object, **options: Any) -> Any:
    return cli(
        "run",
        finished.suite,
        "--methods",
        "finetune,scale_weights",
        "--set",
        "finetune.epochs=1",
        "--plugin",
        finished.plugin,
        "--out",
        finished.out,
        *flags,
        env={"UNLEARN_BENCH_HOME": str(finished.home)},
        **options,
    )


def snapshot(folder: Path) -> dict[str, bytes]:
    # suite.json notes when the suite was last started.
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "suite.json"]
    return {str(path): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("command", "known"),
    [(("fisher", "--kind"), "'true', 'empirical'"), (("tune", "--sampler"), "'tpe'")],
)
def test_a_word_that_a_flag_does_not_know_is_answered_with_those_it_knows(
    command: tuple[str, str], known: str, cli: Any
) -> None:
    ended = cli(*command, "nosuch")
    assert ended.code == 2
    assert f"Invalid value for '{command[1]}': 'nosuch' is not one of {known}" in ended.error


def test_a_finished_suite_is_not_run_again(cli: Any, own: Any) -> None:
    def state() -> dict[str, tuple[int, bytes]]:
        places = (own.out, own.home)
        files = [path for place in places for path in place.rglob("*") if path.is_file()]
        return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    before = state()
    ended = rerun(cli, own)
    assert ended.code == 0 and ended.out.count("was there already") == ALWAYS + 2
    assert state() == before  # no training, no report drawn again, no artifact even looked at
    (own.out / "report.html").unlink()
    rerun(cli, own, figures=True)
    assert state().keys() == before.keys()


@pytest.mark.parametrize(
    ("flags", "named"), [(["--seeds", "2"], "seeds"), (["--forget", "class:1"], "scenarios")]
)
def test_another_suite_is_refused_in_a_folder_that_is_taken(
    flags: list[str], named: str, cli: Any, own: Any
) -> None:
    before = snapshot(own.out)
    ended = rerun(cli, own, *flags)
    assert f"holds the results of another suite (it differs in: {named}); choose" in ended.error
    assert ended.code == 2 and snapshot(own.out) == before


def test_damaged_artifacts_are_told_and_built_again(
    cli: Any, tiny: Path, finished: Any, trained: Path, tmp_path: Path
) -> None:
    home = trained
    for name in ("original/*/tensors.safetensors", "logits/*/spec.json"):
        for damaged in (home / "artifacts").glob(name):
            data = bytearray(damaged.read_bytes())
            data[len(data) // 2] ^= 1
            damaged.write_bytes(data)
    ended = cli("run", tiny, "--methods", "original", "--out", tmp_path / "two")
    assert ended.code == 0
    notes = re.findall(
        r"note: damaged artifact \w+ \(.*?\): moved to .*? and built again",
        " ".join(ended.out.split()),
    )
    # One original, and the logits of every model that is looked at: fakes have the original's.
    looked_at = {"retrain", "original", "retrain_other_seed", "random_init"}
    assert len(notes) == len(list((home / "damaged").iterdir())) == 1 + len(looked_at)
    before, again = (
        found[~found["metric"].str.contains("seconds|bytes|time|break_even")]
        .set_index(["method", "metric", "split"])[["value", "low", "high", "status"]]
        .sort_index()
        for found in (
            pd.read_csv(place / "records.csv") for place in (finished.out, tmp_path / "two")
        )
    )
    assert len(again) > 50 and before.loc[again.index].equals(again)


# What a user sees when all goes well.


def test_a_plug_in_appears_in_the_records_and_the_report(finished: Any) -> None:
    records = pd.read_csv(finished.out / "records.csv")
    always = {name for name, entry in registry.methods().items() if entry.kind != "method"}
    assert set(records["method"]) == {*always, "finetune", "scale_weights"}
    row = records[(records["method"] == "scale_weights") & (records["metric"] == "forget_accuracy")]
    assert row["split"].tolist() == ["forget"] and row["status"].tolist() == ["ok"]
    assert json.loads(row["params"].iloc[0]) == {"factor": 0.5}
    wanted = {
        "method",
        "dataset",
        "model",
        "scenario",
        "seed",
        "metric",
        "split",
        "value",
        "status",
    }
    assert wanted <= set(records.columns)
    assert "scale_weights" in (finished.out / "report.html").read_text()
    assert "scale_weights" in (finished.out / "report.md").read_text()
    assert list((finished.out / "figures").glob("*.svg"))


def test_a_run_says_what_it_does_and_where_the_report_is(finished: Any) -> None:
    lines = finished.ended.out.splitlines()
    assert lines[0].startswith(f"suite tiny: {ALWAYS + 2} runs on the CPU")
    steps = [line for line in lines if line.startswith("[")]
    shown = [line.split(" · ")[-1].split()[0] for line in steps]
    assert shown[0] == "retrain" and shown[-2:] == ["finetune", "scale_weights"]
    assert len(shown) == ALWAYS + 2
    assert all(re.search(r"\d s$", line) for line in steps)
    assert lines[-1] == f"report: {finished.out / 'report.html'}"
    assert finished.ended.err == ""


def test_the_report_can_be_written_again(cli: Any, own: Any) -> None:
    page = own.out / "report.html"
    before = page.read_bytes()
    page.unlink()
    ended = cli("report", own.out, figures=True)
    assert ended.code == 0 and ended.out.splitlines()[-1] == f"report: {page}"
    assert page.read_bytes() == before


def test_paths_and_labels_with_brackets_are_printed_as_they_are(
    cli: Any, tiny: Path, trained: Path, tmp_path: Path
) -> None:
    label = "{name: original, label: '[/b] [x]'}"
    tiny.write_text(tiny.read_text().replace(TINY_METHODS, f"methods: {label}\n"))
    out = tmp_path / "a[/b]c"
    ended = cli("run", tiny, "--out", out, env={"COLUMNS": "200"})
    assert ended.code == 0 and ended.err == ""
    assert str(out) in "".join(ended.out.splitlines()[:2])
    assert re.search(r"^ *\[/b\] \[x\] ", ended.out, re.MULTILINE)  # its row of the table


def test_listings_and_descriptions(cli: Any, plugin: Path) -> None:
    wide = {"COLUMNS": "200"}
    methods = cli("list", "methods", "--plugin", plugin, env=wide).out
    assert {"pbu", "retrain", "scale_weights"} <= {line.split()[0] for line in methods.splitlines()}
    resnets = cli("list", "models", "resnet1*").out.split()
    assert "resnet18" in resnets and "lenet" not in resnets
    shown = cli("show", "scale_weights", "--plugin", plugin, env=wide).out
    assert re.search(r"factor +number +0\.5 +What every weight is multiplied by\.", shown)
    assert "reads  forget" in shown and f"file  {plugin}" in shown
    assert "number > 0" in cli("show", "finetune", env=wide).out


def test_bare_names_are_for_scripts(cli: Any, plugin: Path) -> None:
    names = cli("list", "methods", "--names", "--access", "forget", "--plugin", plugin).out
    assert {"pbu", "gradient_ascent", "scale_weights"} <= set(names.split("\n"))
    assert "random_label" not in names and " " not in names and "name" not in names.split()
    assert cli("list", "metrics", "--names", "forget_acc*").out == "forget_accuracy\n"
    assert cli("list", "suites", "--names", "nothing*").out == ""
    assert cli("list", "suites", "nothing*").out == "none\n"


# `check`: exit code 0 if all is well, 1 if a check fails, 2 if it was asked wrongly.


def test_a_sound_plug_in_passes_its_check(cli: Any) -> None:
    shrink = Path(__file__).parents[2] / "docs" / "examples" / "shrink.py"
    ended = cli("check", "shrink", "--plugin", shrink)
    assert ended.code == 0 and ended.err == "", ended.out
    lines = ended.out.splitlines()
    assert lines[0] == "shrink" and "0 failed" in lines[-1]
    assert any(x.startswith("  passed weights move: ") for x in lines)
    assert any("only through" in x or "another class" in x for x in lines)


def test_a_plug_in_that_fails_a_check_ends_with_code_1(cli: Any, write: Write) -> None:
    bad = write("mine.py", PLUGIN_HEAD + "    ctx.retain\n    return model\n")
    ended = cli("check", "--plugin", bad)
    assert ended.code == 1 and "Traceback" not in ended.out + ended.err
    line = next(x for x in ended.out.splitlines() if "declared data only" in x)
    assert line.startswith("  FAILED") and "add Access.RETAIN to access=" in line
    assert ended.out.splitlines()[-1] == "failed: mine"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "check which method? Give a name, --all, or --plugin FILE"),
        (["pbu", "--all"], "check pbu or --all? Give one of them"),
        (["pbuu"], "no method named 'pbuu'; did you mean 'pbu'?"),
        (["pbu", "--plugin", "none.py"], "no plug-in file"),
    ],
)
def test_a_mistaken_check_is_told_in_one_line(argv: list[str], message: str, cli: Any) -> None:
    ended = cli("check", *argv)
    assert message in ended.error and ended.code == 2


PLUGIN_HEAD = """\
from unlearn_bench.api import *
@method("mine", access=Access.FORGET)
def mine(model, ctx):
"""


def test_help_and_version(cli: Any) -> None:
    assert cli("--version").out == f"unlearn-bench {__version__}\n"
    ended = cli("run", "--help")
    assert ended.code == 0
    for flag in (
        "--methods",
        "--model",
        "--dataset",
        "--data-root",
        "--forget",
        "--seeds",
        "--epochs",
        "--device",
        "--out",
        "--plugin",
        "--set",
        "--original",
        "--download",
    ):
        assert flag in ended.out
    bare = cli()
    assert "Usage: unlearn-bench" in bare.out + bare.err and "error:" not in bare.err


@pytest.mark.parametrize(
    "line",
    [
        "run loop.yaml --dry-run",
        "run digits --dry-run --original loop.safetensors",
        "run digits --dry-run --plugin loop.py",
        "run digits --dry-run --params loop.yaml",
        "run digits --dry-run --dataset imagefolder:loop.yaml",
        "run digits --dry-run --forget indices:loop.yaml",
        "run digits --methods finetune --seeds 1 --out loop.yaml",
        "report loop.yaml",
        "site loop.yaml --out loop.yaml",
        "site a=REPORT --out loop.yaml",
        "status loop.yaml",
        "check --plugin loop.py",
        "list methods --plugin loop.py",
    ],
)
def test_a_link_to_itself_is_an_error_of_one_line(cli: Any, tmp_path: Path, line: str) -> None:
    for name in ("loop.yaml", "loop.py", "loop.safetensors"):
        (tmp_path / name).symlink_to(name)
    report = Path(__file__).parents[2] / "reports" / "controls"
    line = line.replace("loop.", f"{tmp_path}/loop.").replace("REPORT", str(report))
    ended = cli(*line.split())
    (mistake,) = [text for text in ended.err.splitlines() if text.startswith("error: ")]
    assert "loop" in mistake and ended.code in (1, 2) and "Traceback" not in ended.err


# Packages of third parties.


def install(folder: Path, name: str, code: str) -> None:
    """Lay down a package as pip would, with an entry point for its methods."""
    (folder / f"{name}.py").write_text(code)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[unlearn_bench.methods]\n{name} = {name}\n")


def test_installed_packages_add_methods_and_a_broken_one_is_left_out(
    cli: Any, tmp_path: Path, plugin: Path
) -> None:
    install(tmp_path, "good_methods", plugin.read_text())
    install(tmp_path, "bad_methods", "import no_such_module\n")
    ended = cli("list", "methods", packages=tmp_path)
    assert ended.code == 0
    names = {line.split()[0] for line in ended.out.splitlines()}
    assert {"pbu", "retrain", "scale_weights"} <= names
    warning = "plug-in package 'bad_methods' cannot be loaded and is skipped: No module named"
    assert warning in " ".join(ended.err.split())
    assert "Traceback" not in ended.err
