"""Models and datasets of one's own, beside methods and metrics, in every place that names them."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from unlearn_bench.conformance import others
from unlearn_bench.core.errors import DataError, ModelError, PluginError, UnknownNameError
from unlearn_bench.data import datasets
from unlearn_bench.execution import identity
from unlearn_bench.measure import metrics
from unlearn_bench.measure.outputs import Evaluation
from unlearn_bench.plugins import metric, parts, registry
from unlearn_bench.plugins.metric import MetricInfo
from unlearn_bench.results.facts import facts_of, known_metrics, with_primary
from unlearn_bench.suite.config import expand
from unlearn_bench.suite.spec import ModelSpec, Suite
from unlearn_bench.training import models

FOUR = Path(__file__).parents[2] / "docs" / "examples" / "four_kinds.py"
SUITE = """\
datasets: my_scans
models: my_net
scenarios: class:low
methods: my_method
recipe: {epochs: 4, batch_size: 32, lr: 1.0e-2}
relearn_steps: 4
primary: [my_metric, forget_accuracy]
"""
Write = Callable[[str, str], Path]


@dataclass(frozen=True)
class Made:
    out: Path
    suite: Path
    home: Path
    printed: str


@pytest.fixture(scope="module")
def made(_server, tmp_path_factory: pytest.TempPathFactory) -> Made:
    place = tmp_path_factory.mktemp("four")
    suite, home = place / "mine.yaml", place / "home"
    suite.write_text(SUITE)
    given = ("run", suite, "--model", "my_net", "--dataset", "my_scans", "--plugin", FOUR)
    env = {"UNLEARN_BENCH_HOME": str(home)}
    ended = _server(*given, "--out", place / "out", env=env)
    assert ended.code == 0, ended.err
    return Made(place / "out", suite, home, ended.out)


def build(name: str, **changes: object) -> nn.Module:
    given = {"channels": 3, "image_size": (32, 32), "num_classes": 5, "seed": 0} | changes
    return models.build(ModelSpec(name=name), **given)


def test_one_file_of_four_kinds_gives_a_full_report(made: Made) -> None:
    assert len(FOUR.read_text().splitlines()) <= 60
    rows = list(csv.DictReader((made.out / "records.csv").open()))
    own = {row["method"]: row for row in rows if row["metric"] == "my_metric"}
    assert own.keys() >= {"retrain", "original", "my_method"}
    assert {(row["dataset"], row["model"]) for row in rows} == {("my_scans", "my_net")}
    # The network learned the three heights, and was not the same without the lowest.
    values = {(row["method"], row["metric"]): row["value"] for row in rows}
    assert float(values["retrain", "test_retain_accuracy"]) > 0.9
    assert float(values["retrain", "forget_accuracy"]) == 0
    for name in ("report.html", "report.md"):
        page = (made.out / name).read_text()
        assert "my_net" in page and "my_scans" in page and "Worst loss" in page
    stored = json.loads((made.out / "suite.json").read_text())
    assert stored["origin"]["plugins"].keys() == {"four_kinds.py"}
    assert stored["origin"]["inputs"]["my_scans"]["classes"] == ["high", "middle", "low"]
    assert "--plugin plugins/four_kinds.py" in stored["origin"]["reproduce"]
    assert (made.out / "plugins" / "four_kinds.py").read_text() == FOUR.read_text()


def test_a_suite_may_choose_what_decides_and_the_page_says_so(made: Made) -> None:
    stored = json.loads((made.out / "suite.json").read_text())
    assert stored["suite"]["primary"] == ["my_metric", "forget_accuracy"]
    facts = facts_of(stored)
    roles = {name: info.role for name, info in facts.metrics.items()}
    assert {name for name, role in roles.items() if role == "primary"} == set(facts.chosen)
    assert roles["test_retain_accuracy"] == "secondary"
    for name in ("report.html", "report.md"):
        assert "The suite itself chose the metrics that decide" in (made.out / name).read_text()


@pytest.mark.heavy
def test_workers_and_isolated_calls_know_the_plug_ins(
    made: Made, cli, home: Path, tmp_path: Path
) -> None:
    shutil.copytree(made.home, home)
    isolated = tmp_path / "isolated.yaml"
    finetune = "{name: finetune, params: {epochs: 1}}"
    isolated.write_text(SUITE.replace("my_method", finetune) + "isolate: true\n")
    ended = cli("run", isolated, "--plugin", FOUR, "--workers", 2, "--out", tmp_path / "out")
    assert ended.code == 0, ended.err + ended.out


def test_check_says_which_kinds_a_file_holds_and_checks_each(cli) -> None:
    ended = cli("check", "--plugin", FOUR)
    assert ended.code == 0, ended.out
    lines = ended.out.splitlines()
    assert (
        "four_kinds.py: method my_method; model my_net; dataset my_scans; metric my_metric" in lines
    )
    assert {"model my_net", "dataset my_scans", "metric my_metric"} <= set(lines)


def test_listings_name_what_plug_ins_bring(cli) -> None:
    for what, name in (("models", "my_net"), ("datasets", "my_scans"), ("metrics", "my_metric")):
        ended = cli("list", what, "my_*", "--names", "--plugin", FOUR)
        assert ended.out.split() == [name], ended.err
    assert "torchvision:resnet18" in cli("list", "models", "torchvision:resnet1*", "--names").out


def test_a_mistyped_name_suggests_a_plug_ins(cli) -> None:
    given = ("run", "--plugin", FOUR, "--methods", "retrain", "--forget", "class:0")
    for flags, close in (
        (("--dataset", "my_scan", "--model", "my_net"), "my_scans"),
        (("--dataset", "my_scans", "--model", "my_nets"), "my_net"),
    ):
        assert f"did you mean '{close}'?" in cli(*given, *flags).error


def identities() -> dict[str, object]:
    asked = {"name": "s", "datasets": "my_scans", "models": "my_net", "scenarios": "class:0"}
    suite = Suite.model_validate(asked | {"methods": "retrain"})
    spec = expand(suite, device="cpu").runs[0]
    known = identity.Identities(lambda _: "data", lambda _: "")
    return {name: getattr(known, name)(spec) for name in ("original", "unlearned", "key")}


@pytest.mark.usefixtures("own_registry")
def test_the_code_of_a_plug_in_is_part_of_every_key(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    found = []
    for width in (32, 33):
        file.write_text(FOUR.read_text().replace("32", str(width)))
        registry.load_plugin(file)
        found.append(identities())
        for key in [key for key in parts.REGISTERED if key[1].startswith("my_")]:
            del parts.REGISTERED[key]
    assert all(found[0][name] != found[1][name] for name in found[0])
    assert found[0]["original"].keys() >= {"model_code", "dataset_code"}


HEAD = "import torch\nfrom torch import nn\nfrom unlearn_bench.api import *\n\n"


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('@model("a b")\ndef f(channels, image_size, num_classes): ...', "cannot be named 'a b'"),
        ('@model("m")\ndef f(channels): ...', r"signature must be \(channels, image_size, num_"),
        ('@dataset("d", augment="flip")\ndef f(root): ...', "augment='flip' is not one of"),
        ('@dataset("d")\ndef f(): ...', r"signature must be \(root\)"),
        ('@metric("x", ideals="0")\ndef f(seen): ...', "unexpected keyword argument 'ideals'"),
        ('@metric("forget_accuracy")\ndef f(seen): ...', "has a metric named 'forget_accuracy'"),
    ],
)
def test_a_wrong_declaration_is_refused(body: str, message: str, write: Write) -> None:
    with pytest.raises(PluginError, match=message):
        registry.load_plugin(write("mine.py", HEAD + body))


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("1", "returned int; return unlearn_bench.api.Data"),
        ("1 / 0", "failed: ZeroDivisionError"),
        ("Data(train=torch.zeros(3))", r"no pair as train; write train=\(images, labels\)"),
        ("Data(train=(torch.zeros(4, 1, 2, 2), torch.arange(4)))", "float32 .*; give uint8"),
        ("Data(train=(torch.zeros(4, 1, 2, 2).byte(), torch.rand(4)))", "no labels of train"),
        ("Data(train=(X, Y), mean=[0.5, 0.5], std=[1, 1])", "give 1 numbers each"),
        ("Data(train=(X, Y), test=(torch.zeros(2, 1, 3, 3).byte(), Y[:2]))", "to one size"),
        ("Data(train=(X, Y + 1), classes=['a', 'b'])", "label 2 .* is out of range"),
    ],
)
def test_data_that_cannot_be_used_are_refused(returned: str, message: str, write: Write) -> None:
    values = "X, Y = torch.zeros(8, 1, 2, 2).byte(), torch.arange(8) % 2\n"
    body = f'@dataset("mine")\ndef mine(root):\n    return {returned}\n'
    registry.load_plugin(write("mine.py", HEAD + values + body))
    with pytest.raises(DataError, match=message):
        datasets.load("mine")


@pytest.mark.usefixtures("own_registry")
def test_a_dataset_may_know_its_constants_and_need_no_test_part(write: Write) -> None:
    body = (
        '@dataset("mine", augment="crop")\ndef mine(root):\n'
        "    x, y = torch.arange(40).view(10, 1, 2, 2).byte(), torch.arange(10) % 2\n"
        "    return Data(train=(x, y), mean=[0.5], std=[0.25])\n"
    )
    registry.load_plugin(write("mine.py", HEAD + body))
    data = datasets.load("mine")
    assert (data.mean, data.std, data.classes) == ((0.5,), (0.25,), ("0", "1"))
    assert (len(data.train.labels), len(data.test.labels)) == (8, 2)


GROUPED = """
@dataset("mine")
def mine(root):
    x, y = torch.arange(40).view(10, 1, 2, 2).byte(), torch.arange(10) %% 2
    ward = ["AB"[i // 5] for i in range(10)]
    return Data(train=(x, y), test=%s, groups={"ward": %s}, finer="ward")
"""


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize(
    ("test", "ward", "training", "tested"),
    [
        ("(x[:4], y[:4])", "(ward, torch.tensor([1, 2, 1, 2]))", [*"AAAAABBBBB"], [*"1212"]),
        ("(x[:4], y[:4])", "ward", [*"AAAAABBBBB"], None),
        ("None", "ward", [*"AAAAABBB"], [*"BB"]),
    ],
)
def test_groups_of_a_dataset_can_be_forgotten(
    write: Write, test: str, ward: str, training: list[str], tested: list[str] | None
) -> None:
    registry.load_plugin(write("mine.py", HEAD + GROUPED % (test, ward)))
    data = datasets.load("mine")
    known = data.attributes
    assert known.train["ward"]() == training
    assert (known.test["ward"]() if known.test else None) == tested
    assert known.group("ward", "B")[0].tolist() == [value == "B" for value in training]
    assert known.subclass("A")[0].tolist() == [value == "A" for value in training]
    if test == "None":  # indices count what the plug-in gave
        assert data.train.numbers is not None and data.train.numbers.tolist() == [*range(8)]


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize(
    ("test", "ward", "message"),
    [
        ("None", "ward[:3]", "gives 3 values of group 'ward' for 10 training images; give one"),
        ("(x[:4], y[:4])", "(ward, ward)", "10 values of group 'ward' for 4 test images"),
    ],
)
def test_groups_have_a_value_for_every_image(
    write: Write, test: str, ward: str, message: str
) -> None:
    registry.load_plugin(write("mine.py", HEAD + GROUPED % (test, ward)))
    with pytest.raises(DataError, match=message):
        datasets.load("mine")


@pytest.mark.usefixtures("own_registry")
def test_names_that_are_taken_are_refused(write: Write) -> None:
    body = (
        '@model("resnet18")\ndef f(channels, image_size, num_classes):\n    return nn.Flatten()\n'
    )
    body += '@dataset("digits")\ndef g(root):\n    return None\n'
    registry.load_plugin(write("mine.py", HEAD + body))
    with pytest.raises(ModelError, match="names a model 'resnet18', as timm does"):
        build("resnet18")
    with pytest.raises(DataError, match="names a dataset 'digits', and that name is taken"):
        datasets.load("digits")
    with pytest.raises(PluginError, match="two models are named 'resnet18'"):
        registry.load_plugin(write("other.py", HEAD + body))


@pytest.mark.usefixtures("own_registry")
def test_what_a_network_or_metric_does_wrong_is_found(write: Write) -> None:
    body = (
        "SHARED = nn.Linear(3072, 7)\n"
        '@model("shared")\ndef shared(channels, image_size, num_classes):\n'
        "    return nn.Sequential(nn.Flatten(), SHARED)\n"
        '@metric("random")\ndef random(seen):\n    "Anything."\n    return float(torch.rand(()))\n'
        '@metric("needs")\ndef needs(seen):\n'
        '    "Loss of G."\n    return float(seen.reference["forget"].nll().mean())\n'
    )
    registry.load_plugin(write("mine.py", HEAD + body))

    def failed(findings) -> set[str]:
        return {finding.check for finding in findings if finding.status == "failed"}

    assert failed(others.examine_model(parts.REGISTERED["model", "shared"])) == {
        "draws its weights"
    }
    assert failed(others.examine_metric(metrics.ENTRIES["random"])) == {"repeats"}
    assert failed(others.examine_metric(metrics.ENTRIES["needs"])) == {"does without retraining"}


@pytest.mark.usefixtures("own_registry")
def test_a_metric_in_short_is_declared_like_any_other() -> None:
    @metrics.metric("short", split="forget", ideal="0", unit="score")
    def short(seen: Evaluation) -> float:
        """What it is."""
        return 1.5

    info = metric.REGISTERED["short"].info
    assert info == MetricInfo("short", "What it is.", ideal="0", unit="score", splits=("forget",))
    evaluation = others._evaluation()
    (record,) = metrics.compute_entry(metrics.ENTRIES["short"], evaluation)
    assert (record.metric, record.split, record.value) == ("short", "forget", 1.5)
    assert short(evaluation) == 1.5


def test_a_primary_metric_must_be_held_against_retraining() -> None:
    known = known_metrics()
    with pytest.raises(UnknownNameError, match="did you mean 'forget_accuracy'"):
        with_primary(known, ["forget_acuracy"])
    by_class = next(name for name, info in known.items() if info.by_class)
    with pytest.raises(Exception, match=f"primary: {by_class} cannot decide a verdict"):
        with_primary(known, [by_class])


@pytest.mark.parametrize("name", ["resnet18", "vit_b_16", "mobilenet_v3_small", "squeezenet1_0"])
def test_torchvisions_networks_fit_themselves_to_the_data(name: str) -> None:
    if name == "vit_b_16":
        model = build(f"torchvision:{name}")
    else:
        model = build(f"torchvision:{name}", channels=1, image_size=(28, 28))
    shape = (2, 3, 32, 32) if name == "vit_b_16" else (2, 1, 28, 28)
    assert model(torch.zeros(shape)).shape == (2, 5)
    with pytest.raises(UnknownNameError, match="did you mean 'resnet18'"):
        build("torchvision:resnet_18")
