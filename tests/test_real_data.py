"""The tool on real images, through the command line, as a stranger would use it."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

DATA = Path(__file__).parents[1].parent / "shared" / "data"
needs = {
    name: pytest.mark.skipif(
        not (DATA / folder).exists(), reason=f"real {name} not found in ../shared/data"
    )
    for name, folder in {"MNIST": "MNIST/raw", "CIFAR-10": "cifar10"}.items()
}


def records_of(out: Path) -> pd.DataFrame:
    assert (out / "report.html").stat().st_size > 10_000
    records = pd.read_csv(out / "records.csv")
    assert set(records["status"]) <= {"ok", "unresolved", "not_applicable"}
    return records


def run(out: Path, *arguments: str) -> pd.DataFrame:
    command = [
        sys.executable,
        "-m",
        "unlearn_bench",
        "run",
        *arguments,
        "--data-root",
        str(DATA),
        "--out",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return records_of(out)


def value(records: pd.DataFrame, method: str, metric: str) -> float:
    rows = records[(records["method"] == method) & (records["metric"] == metric)]
    return float(rows["value"].mean())


def first_of_mnist(place: Path, train: int, test: int) -> Path:
    """Write a folder with the first images of MNIST, in files as it has them."""
    raw = place / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", train), ("t10k", test)):
        for kind, size, header in (("images-idx3", 28 * 28, 16), ("labels-idx1", 1, 8)):
            name = f"{part}-{kind}-ubyte"
            whole = (DATA / "MNIST" / "raw" / name).read_bytes()
            length = count.to_bytes(4, "big")
            cut = whole[:4] + length + whole[8 : header + count * size]
            (raw / name).write_bytes(cut)
    return place


EIGHT = """\
datasets: mnist
models: lenet
scenarios: class:8
methods: pbu
threads: 1
relearn_steps: 4
recipe: {epochs: 6, batch_size: 32, lr: 2.0e-3}
"""


@needs["MNIST"]
@pytest.mark.thorough
def test_lenet_forgets_an_eight_of_real_mnist(cli, write, tmp_path):
    data = first_of_mnist(tmp_path / "data", train=2000, test=1000)
    suite, out = write("eight.yaml", EIGHT), tmp_path / "out"
    ended = cli("run", suite, "--workers", 1, "--data-root", data, "--out", out)
    assert ended.code == 0, ended.err
    records = records_of(out)
    assert value(records, "original", "test_forget_accuracy") > 0.8
    assert value(records, "original", "test_retain_accuracy") > 0.9
    assert value(records, "retrain", "test_forget_accuracy") == 0
    assert value(records, "pbu", "test_forget_accuracy") < 0.05
    assert value(records, "pbu", "test_retain_accuracy") > 0.85
    assert value(records, "pbu", "time_ratio_to_retrain") > 0


@pytest.mark.heavy
@needs["CIFAR-10"]
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("model", ["vit_tiny_patch16_224", "mobilenetv3_small_050"])
def test_transformers_and_depthwise_nets_run_on_real_cifar10(tmp_path, model):
    records = run(
        tmp_path,
        "--dataset",
        "cifar10",
        "--model",
        model,
        "--epochs",
        "2",
        "--forget",
        "class:8",
        "--methods",
        "all",
        "--seeds",
        "1",
        "--set",
        "finetune.epochs=1",
        "--set",
        "random_label.epochs=1",
    )
    assert value(records, "original", "test_retain_accuracy") > 0.25
    assert value(records, "retrain", "test_forget_accuracy") == 0


@pytest.mark.heavy
@needs["MNIST"]
@pytest.mark.timeout(3000)
def test_pbu_on_resnet18_forgets_and_keeps_the_rest(tmp_path):
    records = run(tmp_path, "mnist-pbu", "--forget", "class:8", "--seeds", "1", "--methods", "pbu")
    assert value(records, "original", "test_retain_accuracy") >= 0.985
    assert value(records, "original", "test_forget_accuracy") >= 0.97
    assert value(records, "retrain", "test_forget_accuracy") == 0
    assert value(records, "retrain", "test_retain_accuracy") >= 0.985
    assert value(records, "pbu", "test_forget_accuracy") <= 0.02
    assert value(records, "pbu", "test_retain_accuracy") >= 0.97
