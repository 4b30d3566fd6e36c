"""What a report says of its own making, from what the harness wrote down."""

import html
import json
import os
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from unlearn_bench.core.keys import file_hash
from unlearn_bench.execution import origin
from unlearn_bench.execution.origin import reproduce
from unlearn_bench.report import write_report
from unlearn_bench.report.provenance import Made, read_report, weights_csv
from unlearn_bench.results.records import read_records, read_suite
from unlearn_bench.suite.config import expand, load_suite

ORIGIN = {
    "commit": {"id": "c0ffee", "modified": True},
    "packages": {"numpy": "2.4"},
    "suite_file": {"name": "trial.yaml", "sha256": "ab" * 32},
    "data": {"digits": "d1" * 32},
    "inputs": {
        "digits": {
            "normalization": "(x/255 - (0.3)) / (0.4), measured on the training images",
            "classes": ["cat", "dog"],
        },
    },
    "method_files": {"pbu": "12" * 32},
    "plugins": {},
    "not_asked": ["salun"],
    "reproduce": "unlearn-bench run suite.yaml --out reproduced",
}


def facts(place: Path) -> dict[str, str]:
    return dict(read_report(place).provenance.facts)


def test_every_fact_of_the_suite_is_told(folder, realistic):
    found = facts(folder(realistic(), origin=ORIGIN))
    assert found["Code"] == "commit c0ffee, with local changes"
    assert found["Suite file"] == "trial.yaml, SHA-256 " + "ab" * 32
    assert "torch 2.15" in found["Versions"] and "numpy 2.4" in found["Versions"]
    assert found["Data"] == "digits " + "d1" * 6
    assert found["Method files"] == "pbu " + "12" * 6
    assert found["Methods not asked for"] == "salun"
    assert "Plug-in files" not in found
    assert found["Inputs"] == "(x/255 - (0.3)) / (0.4), measured on the training images"
    assert found["Classes, from 0"] == "cat, dog"


def test_a_folder_of_an_older_version_tells_what_it_has(folder, realistic):
    found = facts(folder(realistic()))
    assert {"Suite", "Versions", "Hardware", "Seeds"} == set(found)


@pytest.mark.usefixtures("no_figures")
def test_page_and_markdown_tell_the_same_facts(folder, realistic):
    place = write_report(folder(realistic(), origin=ORIGIN)).parent
    for file in ("report.html", "report.md"):
        text = (place / file).read_text()
        assert ORIGIN["reproduce"] in text and "c0ffee" in text and "salun" in text


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("given", ["../shared/data", "'/home/me/my data'"])
def test_a_data_root_of_an_earlier_version_is_left_to_the_reader(given, folder, realistic):
    origin = ORIGIN | {"reproduce": f"unlearn-bench run suite.yaml --data-root {given} --out x"}
    place = write_report(folder(realistic(), origin=origin)).parent
    for file in ("report.html", "report.md"):
        text = html.unescape((place / file).read_text())
        assert "(with DATA_ROOT set to the folder of the data)" in text.replace("\\", "")
        assert '--data-root "${DATA_ROOT:?set it to the folder of the data}" --out x' in text
        assert given.strip("'") not in text


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is missing")
def test_the_reproduce_line_names_no_path_and_the_shell_says_what_is_not_set():
    plan = expand(load_suite("mnist-small"), device="cpu")
    line = reproduce(plan, data_root=Path("/somewhere/data"), download=False)
    assert "somewhere" not in line
    shell = ["bash", "-c", f"unlearn-bench() {{ printf '%s\\n' \"$@\"; }}\n{line}"]
    environment = {name: value for name, value in os.environ.items() if name != "DATA_ROOT"}
    unset = subprocess.run(shell, capture_output=True, text=True, env=environment)
    assert unset.returncode != 0
    assert "DATA_ROOT: set it to the folder of the data" in unset.stderr
    ended = subprocess.run(
        shell, capture_output=True, text=True, env=environment | {"DATA_ROOT": "/my data"}
    )
    assert "--data-root\n/my data\n" in ended.stdout


def test_the_reproduce_line_tells_files_of_one_name_apart_by_their_folders(tmp_path):
    paths = [tmp_path / name for name in ("a/model.safetensors", "b/model.safetensors", "c.pth")]
    files = {path.parent.name: SimpleNamespace(path=path, sha256=str(path)) for path in paths}
    plan = SimpleNamespace(
        runs=[
            SimpleNamespace(label=label, unlearned=file, original=None, device="cpu")
            for label, file in files.items()
        ],
        tuning={},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(origin, "plugin_files", lambda plan: {})
        line = reproduce(plan, data_root=None, download=False)
    words = shlex.split(line.replace(":?set it to the folder of the unlearned weights", ""))
    given = [word for word in words if word.startswith("${UNLEARNED}")]
    assert given == [
        f"${{UNLEARNED}}/{name}" for name in ("a/model.safetensors", "b/model.safetensors", "c.pth")
    ]


@pytest.mark.usefixtures("no_figures")
def test_runs_that_are_missing_are_named(folder, run):
    finished, missing = run("retrain", kind="reference", forget_accuracy=0.0), ("x", "y", "z")
    planned = {finished.key: ["digits", "resnet18", "class:8", "retrain", 0]}
    planned |= {key: ["digits", "resnet18", "class:8", "pbu", i] for i, key in enumerate(missing)}
    place = folder([finished], plan=list(planned), origin=ORIGIN | {"planned": planned})
    text = (write_report(place).parent / "report.md").read_text()
    assert "3 of 4 planned runs have no result" in text
    assert "Not run: pbu (digits · resnet18 · class:8, seeds 0, 1, 2)." in text


@pytest.mark.usefixtures("no_figures")
def test_methods_that_miss_the_same_seeds_are_named_together_and_seeds_in_order(folder, run):
    finished = run("retrain", kind="reference", forget_accuracy=0.0)
    planned = {finished.key: ["digits", "resnet18", "class:8", "retrain", 0]}
    for method, seeds in {"ssd": [10, 2, 9], "pbu": [9, 10, 2], "scrub": [3]}.items():
        planned |= {f"{method}{s}": ["digits", "resnet18", "class:8", method, s] for s in seeds}
    place = folder([finished], plan=list(planned), origin=ORIGIN | {"planned": planned})
    text = (write_report(place).parent / "report.md").read_text()
    together = "pbu, ssd (digits · resnet18 · class:8, seeds 2, 9, 10)"
    assert f"Not run: {together} and scrub (digits · resnet18 · class:8, seed 3)." in text


def test_every_machine_that_took_part_is_named(folder, run):
    runs = [run("pbu", seed, forget_accuracy=0.0) for seed in range(2)]
    place = folder(runs)
    (place / "runs").mkdir()
    for one, cpu in zip(runs, ("fast", "slow"), strict=True):
        stored = {
            "dataset": "digits",
            "model": "m",
            "scenario": "class:8",
            "method": "pbu",
            "seed": one.seed,
            "environment": {"cpu": cpu},
            "hashes": {"original": f"{cpu}0123456789"},
        }
        (place / "runs" / f"{one.key}.json").write_text(json.dumps(stored))
    found = facts(place)
    assert found["Hardware"] == "fast; slow"
    expected = "digits · m · seed 0 fast01234567, digits · m · seed 1 slow01234567"
    assert found["Original weights"] == expected


def test_a_folder_without_its_runs_is_written_again_the_same(finished, tmp_path, no_figures):
    place = tmp_path / "committed"
    shutil.copytree(finished.out, place)
    write_report(place)
    before = {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}
    shutil.rmtree(place / "runs")
    write_report(place)
    for name in ("report.html", "report.md", "report.tex", "weights.csv"):
        assert (place / name).read_bytes() == before[name], name
    assert b"Original weights" in before["report.md"]
    weights = pd.read_csv(place / "weights.csv")
    assert len(weights) == len(list((finished.out / "runs").glob("*.json")))
    assert weights["unlearned"].str.fullmatch("[0-9a-f]{64}").all()


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "run_key\nx\n", "\x00"])
def test_a_damaged_list_of_weights_is_no_reason_for_no_report(text, folder, realistic):
    place = folder(realistic(seeds=1))
    (place / "weights.csv").write_text(text)
    assert "Original weights" not in facts(place)


def test_a_run_writes_down_where_its_results_come_from(finished):
    origin = read_suite(finished.out)["origin"]
    assert origin["suite_file"] == {"name": "tiny.yaml", "sha256": file_hash(finished.suite)}
    assert origin["plugins"] == {"scale_weights.py": file_hash(finished.plugin)}
    assert origin["method_files"]["scale_weights"] == file_hash(finished.plugin)
    assert set(origin["data"]) == {"digits"} and "pbu" in origin["not_asked"]
    assert (finished.out / "plugins/scale_weights.py").read_bytes() == finished.plugin.read_bytes()
    hashes = [json.loads(p.read_text())["hashes"] for p in (finished.out / "runs").glob("*.json")]
    assert {frozenset(found) for found in hashes} == {
        frozenset({"data", "method_file", "original", "unlearned", "retrained"})
    }
    assert len({found["original"] for found in hashes}) == 1


@pytest.mark.thorough
def test_the_reproduce_line_makes_the_same_records_again(finished, cli, tmp_path, monkeypatch):

    there = tmp_path / "moved"
    shutil.copytree(finished.out, there)
    words = shlex.split(read_suite(there)["origin"]["reproduce"])
    name, _, home = words.pop(0).partition("=")
    assert words.pop(0) == "unlearn-bench"
    ended = cli(*words, cwd=there, env={name: home})
    assert ended.code == 0, ended.err
    assert not any("was there already" in line for line in ended.out.splitlines())
    before, again = read_records(finished.out), read_records(there / "reproduced")
    measured = [
        ~frame["metric"].str.contains("seconds|bytes|time_ratio|break_even")
        for frame in (before, again)
    ]
    pd.testing.assert_frame_equal(before[measured[0]], again[measured[1]])
    assert len(before[measured[0]]) > 50


@pytest.mark.parametrize("column", ["value", "low", "seed", "method", "error"])
def test_the_parquet_file_holds_the_same_records(finished, column):
    csv = read_records(finished.out)
    parquet = pd.read_parquet(finished.out / "records.parquet")
    assert list(parquet.columns) == list(csv.columns)
    left, right = parquet[column], csv[column]
    assert ((left == right) | (left.isna() & right.isna())).all()


def test_runs_that_were_isolated_and_not_are_told_apart(folder, run):
    methods = ("pbu", "finetune", "salun")
    place = folder([run(name, forget_accuracy=0.5) for name in methods])
    setting = ("digits", "resnet18", "class:8")
    known = [
        Made(f"digits-resnet18-class:8-{name}-0", *setting, name, "0", *[""] * 4)
        for name in methods
    ]
    (place / "weights.csv").write_text(weights_csv(known))
    assert "isolation" not in (place / "weights.csv").read_text()
    assert "Isolation" not in facts(place)
    alike = [replace(made, isolation="audit hook") for made in known]
    (place / "weights.csv").write_text(weights_csv(alike))
    assert facts(place)["Isolation"] == "audit hook"
    assert read_report(place).provenance.notes == ()
    apart = [*alike[:1], *(replace(made, isolation="process, no network") for made in known[1:])]
    (place / "weights.csv").write_text(weights_csv(apart))
    assert facts(place)["Isolation"] == "audit hook; process, no network"
    (note,) = read_report(place).provenance.notes
    assert note.startswith("methods were not isolated alike")
    assert note.endswith("audit hook: pbu; process, no network: finetune, salun")


@pytest.mark.parametrize(
    ("plugins", "isolation", "warned"),
    [
        ({"mine.py": "ab" * 32}, "audit hook", True),
        ({}, "audit hook", False),
        ({"mine.py": "ab" * 32}, "process, no network", False),
    ],
)
def test_plug_ins_that_were_not_isolated_are_named_as_a_limit(
    folder, run, plugins, isolation, warned
):
    place = folder([run("pbu", forget_accuracy=0.5)])
    stored = json.loads((place / "suite.json").read_text())
    stored["origin"] = stored.get("origin", {}) | {"plugins": plugins}
    (place / "suite.json").write_text(json.dumps(stored))
    made = Made(
        "digits-resnet18-class:8-pbu-0",
        *("digits", "resnet18", "class:8", "pbu", "0"),
        *[""] * 4,
        isolation=isolation,
    )
    (place / "weights.csv").write_text(weights_csv([made]))
    notes = " ".join(read_report(place).provenance.notes)
    assert ("--isolate closes this gap" in notes) == warned
