"""The Python library: what a notebook does with it, on a network of one's own and on a ViT."""

import copy
import resource
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

import unlearn_bench as ub
from unlearn_bench.core.errors import (
    DataError,
    MethodError,
    ModelError,
    ParameterError,
    UnknownNameError,
    UserError,
)
from unlearn_bench.data.datasets import load
from unlearn_bench.execution.run import Runner
from unlearn_bench.results.records import Record
from unlearn_bench.store.store import Store
from unlearn_bench.suite.config import expand
from unlearn_bench.suite.spec import Suite
from unlearn_bench.toolkit.anatomy import heads
from unlearn_bench.training import models

FEW = {"relearn_steps": 4}


class Net(nn.Module):
    """Nothing of timm's."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU())
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def vit() -> nn.Module:
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=8, patch_size=4, in_chans=1, num_classes=10, depth=1
    )


@dataclass
class Trained:
    """A network of one's own, its data, and a network trained without class 8."""

    original: nn.Module
    retrained: nn.Module
    build: Callable[[], nn.Module]
    forget: TensorDataset
    retain: TensorDataset
    test: TensorDataset

    @property
    def sets(self) -> dict[str, Any]:
        return {"forget": self.forget, "retain": self.retain, "test": self.test}


def fit(model: nn.Module, data: TensorDataset) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        for x, y in DataLoader(data, 64, shuffle=True, generator=generator):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model.eval()


def normalised(part: Any) -> tuple[Tensor, Tensor]:
    return part.images.data.float().div(255).sub(0.3).div(0.4), part.labels


def train(build: Callable[[], nn.Module], examples: int, test_examples: int) -> Trained:
    torch.manual_seed(0)
    digits = load("digits")
    (x, y), (test_x, test_y) = normalised(digits.train), normalised(digits.test)
    x, y = x[:examples], y[:examples]
    forget, retain = (TensorDataset(x[which], y[which]) for which in (y == 8, y != 8))
    test = TensorDataset(test_x[:test_examples], test_y[:test_examples])
    original, retrained = fit(build(), TensorDataset(x, y)), fit(build(), retain)
    return Trained(original, retrained, build, forget, retain, test)


@pytest.fixture(scope="module")
def own() -> Trained:
    """A network of one's own."""
    return train(Net, 500, 360)


@pytest.fixture(scope="module")
def judged(own: Trained) -> Any:
    """What is made of it once, for tests that look: the unlearned model and its scores."""
    return unlearned_and_judged(own)


def unlearned_and_judged(given: Trained) -> Any:
    forget, retain = given.forget, given.retain
    result = ub.unlearn(
        given.original, "neg_grad_plus", forget=forget, retain=retain, params={"epochs": 1}
    )
    models = {"unlearned": result, "original": given.original}
    retrained = [given.retrained, given.retrained]
    return result, ub.evaluate(**models, retrained=retrained, **given.sets, **FEW)


def state(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(model.state_dict())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_the_package_is_imported_without_torch_and_offers_the_library() -> None:
    code = "import sys, unlearn_bench as ub; print('torch' in sys.modules, 'pandas' in sys.modules)"
    code += "; print(set(ub.__all__) <= set(dir(ub)), ub.Recipe(epochs=3).epochs)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True", "3"]
    for name in ub.__all__:
        assert getattr(ub, name) is not None
    with pytest.raises(AttributeError, match="unlern"):
        ub.unlern  # noqa: B018


def test_a_model_is_unlearned_and_the_given_one_left_as_it_was(own: Trained) -> None:
    before, draw = state(own.original), torch.random.get_rng_state()
    given = {"forget": own.forget, "retain": own.retain, "params": {"epochs": 1}}
    result = ub.unlearn(own.original, "neg_grad_plus", **given)
    assert same(state(own.original), before)
    assert torch.equal(torch.random.get_rng_state(), draw)
    assert not same(state(result.model), before)
    assert type(result.model) is Net and not result.model.training
    assert result.cost.seconds > 0 and result.cost.examples["forget"] >= len(own.forget)
    assert result.seed == 0 and result.scenario == "class:8"
    assert len(result.to_frame()) == len(result.log) > 0
    assert "neg_grad_plus" in result._repr_html_() and "neg_grad_plus" in repr(result)


@pytest.mark.parametrize("network", ["own", "vit"])
def test_models_are_judged_side_by_side(network: str, own: Trained, judged: Any) -> None:
    either = own if network == "own" else train(vit, 200, 120)
    result, scores = judged if network == "own" else unlearned_and_judged(either)
    frame = scores.to_frame()
    assert set(frame.columns) == {
        "retrain",
        "retrain_other_seed",
        "original",
        "neg_grad_plus",
        "missing",
    }
    with torch.no_grad():
        x, y = either.forget.tensors
        for name, model in (("original", either.original), ("neg_grad_plus", result.model)):
            right = float((model(x).argmax(1) == y).double().mean())
            assert frame.loc["forget_accuracy", name] == pytest.approx(right)
    assert scores["forget_accuracy"] == frame.loc["forget_accuracy", "neg_grad_plus"]
    assert frame.loc["forget_accuracy", "original"] > frame.loc["forget_accuracy", "retrain"] == 0
    # The images are normalised already: probes that work on pixels must still meet the model.
    assert frame.loc["input_recovery", "original"] > 0.3
    assert scores.verdict.verdict == "no verdict" and scores.verdict.missing == ("a second seed",)
    assert scores["wall_seconds"] > 0 and "Forget" in scores._repr_html_()
    assert set(scores.records["metric"]) >= {"mia_loss_auc", "wall_seconds", "zrf"}
    with pytest.raises(UnknownNameError, match="did you mean 'mia_loss_auc'"):
        scores["mia_los_auc"]


def test_a_class_is_forgotten_by_its_examples_alone(own: Trained) -> None:
    result = ub.unlearn(own.original, "pbu", forget=own.forget, num_classes=10)
    assert result.forget_classes == (8,)
    with torch.no_grad():
        x, y = own.forget.tensors
        right = [float((m(x).argmax(1) == y).double().mean()) for m in (own.original, result.model)]
    assert right[1] < right[0] / 2


def test_what_is_drawn_comes_from_the_seed(own: Trained) -> None:
    given = {"forget": own.forget, "retain": own.retain, "params": {"epochs": 1}}
    first, again, other = (
        state(ub.unlearn(own.original, "salun", **given, seed=seed).model) for seed in (0, 0, 1)
    )
    assert same(first, again) and not same(first, other)


def test_scores_of_several_seeds_add_up_to_a_verdict(judged: Any) -> None:
    _, first = judged
    second = replace(first, results=tuple(replace(r, seed=1) for r in first.results))
    scores = first + second
    assert scores.verdict.seeds == 2
    assert scores["forget_accuracy"] == first["forget_accuracy"]
    with pytest.raises(ParameterError, match="seed="):
        scores + scores


def test_a_fresh_model_is_built_or_asked_for(own: Trained) -> None:
    given = {"retain": own.retain, "forget": own.forget, "recipe": ub.Recipe(epochs=1)}
    with pytest.raises(ParameterError, match="'retrain' needs .* Net: give build="):
        ub.unlearn(own.original, "retrain", **given)
    with pytest.raises(ModelError, match=r"another architecture .* tensor body\.1\.weight"):
        ub.unlearn(own.original, "retrain", **given, build=lambda: nn.Linear(64, 10))
    result = ub.unlearn(own.original, "retrain", **given, build=Net)
    assert not same(state(result.model), state(own.original))
    given.pop("recipe")
    with pytest.raises(ParameterError, match="'retrain' trains by .* give recipe="):
        ub.unlearn(own.original, "retrain", **given, build=Net)


def test_methods_find_the_classifier_of_a_network_of_ones_own(own: Trained) -> None:
    assert heads(own.original) == [own.original.head]
    with pytest.raises(MethodError, match="not in a linear layer"):
        heads(nn.Conv2d(1, 2, 3))


def test_a_model_of_timms_builds_itself() -> None:
    x, y = torch.randn(8, 3, 32, 32), torch.arange(8) % 4
    model = timm.create_model("test_resnet", num_classes=4)
    given = {"forget": (x[:2], y[:2]), "retain": (x[2:], y[2:]), "recipe": ub.Recipe(epochs=1)}
    result = ub.unlearn(model, "retrain", **given)
    assert not same(state(result.model), state(model))
    model.bn1 = nn.Identity()  # no longer what its name says
    with pytest.raises(ParameterError, match="give build="):
        ub.unlearn(model, "retrain", **given)


def test_without_a_retrained_model_what_compares_with_it_is_not_measured() -> None:
    x, y = torch.randn(60, 1, 8, 8), torch.arange(60) % 10
    given = {"forget": (x[:20], y[:20]), "retain": (x[20:40], y[20:40]), "test": (x[40:], y[40:])}
    with pytest.warns(UserWarning, match="little more than chance"):
        scores = ub.evaluate(unlearned=Net(), original=Net(), **given, **FEW)
    with pytest.raises(DataError, match="not measured: no retrained model is given"):
        scores["probe_leak"]
    with pytest.raises(DataError, match="zrf was not measured: .* give build="):
        scores["zrf"]


# A suite's run, and the same through the library.
SUITE = {
    "name": "s",
    "datasets": "digits",
    "models": "resnet4",
    "methods": [{"name": "salun", "params": {"epochs": 1}}],
    "threads": 1,
    "recipe": {"epochs": 2, "lr": 4e-3, "augment": "none"},
    "relearn_steps": 4,
}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Results depend on the number of threads in their last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("forget", ["class:8", "random:0.1"])
def test_the_library_gives_what_a_suite_gives(forget: str, home: Path) -> None:
    plan = expand(Suite.model_validate(SUITE | {"scenarios": forget}), device="cpu")
    spec = next(spec for spec in plan.runs if spec.method == "salun")
    runner = Runner(Store(home), torch.device("cpu"))
    task = runner.task(spec)
    made = runner.models.of(spec, task, lambda _: None)

    original, data, at = task.load(made.original.tensors), task.data, task.indices
    whole = TensorDataset(data.train.images.data, data.train.labels)
    given = {"mean": data.mean, "std": data.std, "device": "cpu", "scenario": forget}
    given |= {
        "forget": Subset(whole, at.forget.tolist()),
        "retain": Subset(whole, at.retain.tolist()),
    }
    result = ub.unlearn(original, "salun", params={"epochs": 1}, **given)
    assert same(state(result.model), made.unlearned.tensors)
    given["build"] = "resnet4"
    retrained = ub.unlearn(original, "retrain", recipe=ub.Recipe(**SUITE["recipe"]), **given)
    assert made.retrained and same(state(retrained.model), made.retrained.tensors)
    if forget == "class:8":  # judging takes longest, and does not ask how models were made
        by_suite = runner.judge.judge(spec, task, made)["records"]
        test = data.test.images.data, data.test.labels
        scores = ub.evaluate(
            unlearned=result, original=original, retrained=retrained, test=test, **given, **FEW
        )
        found, expected = (untimed(r) for r in (scores.results[0].records, by_suite))
        assert found == expected and len(found) > 40


def untimed(records: Iterable[Record]) -> list[Record]:
    return [r for r in records if "seconds" not in r.metric and r.metric != "peak_bytes"]


def test_splits_of_a_named_dataset_are_those_of_a_suite() -> None:
    found = ub.splits("digits", "class:8", seed=3)
    assert found.scenario == "class:8" and set(found.forget.labels.tolist()) == {8}
    assert 8 not in found.retain.labels and 8 in found.test.labels
    model = models.build(
        models.ModelSpec(name="resnet4"), channels=1, image_size=(8, 8), num_classes=10, seed=0
    )
    result = ub.unlearn(
        model, "finetune", forget=found.forget, retain=found.retain, params={"epochs": 1}
    )
    assert result.forget_classes == (8,) and result.scenario == "class:8"
    with pytest.raises(UserError, match="what to forget"):
        ub.splits("digits", "klass:8")


class Pairs(Dataset[tuple[Tensor, int]]):
    """A dataset as people write one."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.x[index], int(self.y[index])


def test_every_form_of_examples_gives_the_same_model() -> None:
    torch.manual_seed(0)
    x, y = torch.rand(60, 1, 8, 8), torch.arange(60) % 10
    pixels = (255 * x).round().byte()
    x = pixels / 255
    keep, go = torch.arange(20, 60), torch.arange(20)
    whole, model = Pairs(x, y), Net()
    forms: list[dict[str, Any]] = [
        {"forget": (x[go], y[go]), "retain": (x[keep], y[keep])},
        {"forget": Subset(whole, go.tolist()), "retain": Subset(whole, keep.tolist())},
        {
            "forget": Pairs(x[go], y[go]),
            "retain": DataLoader(Pairs(x[keep], y[keep]), 7, shuffle=True),
        },
        {
            "forget": [x[go].numpy(), y[go].numpy()],
            "retain": DataLoader(TensorDataset(x[keep], y[keep]), 9),
        },
    ]
    found = [state(ub.unlearn(model, "finetune", **form, mean=0, std=1).model) for form in forms]
    assert all(same(found[0], other) for other in found[1:])
    as_pixels = {"forget": (pixels[go], y[go]), "retain": (pixels[keep], y[keep])}
    other = state(ub.unlearn(model, "finetune", **as_pixels, mean=0.0, std=(1.0,)).model)
    assert all(torch.allclose(found[0][name], other[name], atol=1e-5) for name in other)


X, Y = torch.randn(6, 1, 8, 8), torch.arange(6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "pbuu"}, "no method named 'pbuu'; did you mean 'pbu'"),
        ({"method": "amnesiac"}, "use unlearn_bench.run"),
        ({"method": "sisa"}, "an original trained in shards, .*: use unlearn_bench.run"),
        ({"method": "unlearned"}, "give it to unlearn_bench.evaluate"),
        ({"retain": None}, "'finetune' reads .*retain: give retain="),
        ({"params": {"epoch": 1}}, "no parameter 'epoch'; did you mean 'epochs'"),
        ({"forget": {"x": X}}, "forget: dict holds no examples; give a Dataset"),
        ({"forget": (X[:0], Y[:0])}, "forget holds no examples"),
        ({"forget": (X[:, 0], Y)}, r"forget: images of shape \[6, 8, 8\]; give \[N, C, H, W\]"),
        ({"forget": (X.int(), Y)}, "forget: images of torch.int32; give normalised floats"),
        ({"forget": (X / 0, Y)}, "forget: an image holds NaN or infinity"),
        ({"forget": (X, Y.float())}, "forget: labels of shape .* give class numbers"),
        ({"forget": (X, Y[:5])}, "forget: 6 images but 5 labels"),
        ({"retain": (X, Y + 8)}, "retain: label 13 is out of range; the model gives 10 logits"),
        ({"retain": (X[..., :4], Y)}, "retain: images of 1 x 8 x 4, those of forget"),
        ({"retain": (X.byte(), Y), "forget": (X.byte(), Y)}, "give mean= and std="),
        ({"retain": (X.byte(), Y)}, "retain is prepared in another way than forget"),
        ({"mean": 0.5}, "give mean= and std= together"),
        ({"mean": (1.0, 1.0), "std": 1.0}, "mean has 2 values, the images have 1 channels"),
        ({"mean": 0.0, "std": 0.0}, "std=0.0: give numbers above 0"),
        ({"num_classes": 5}, "num_classes=5, but model gives 10 logits"),
        ({"forget_classes": [0]}, r"forget_classes=\[0\]: forget holds"),
        ({"device": "gpu"}, "device='gpu': not a device"),
        ({"model": "resnet18"}, "model is a str; give a torch.nn.Module"),
        ({"model": nn.Conv2d(1, 2, 3)}, r"model returns \[2, 2, 6, 6\] for 2 images"),
        ({"model": nn.Linear(3, 4)}, "model cannot take these 1 x 8 x 8 images"),
    ],
)
def test_a_wrong_argument_is_named_with_what_to_do(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "model": Net(),
        "method": "finetune",
        "forget": (X, Y),
        "retain": (X, Y),
    }
    given |= change
    model, method = given.pop("model"), given.pop("method")
    with pytest.raises(UserError, match=message) as caught:
        ub.unlearn(model, method, **given)
    assert "\n" not in str(caught.value)


def test_parts_of_one_dataset_may_not_overlap() -> None:
    whole = TensorDataset(X, Y)
    with pytest.raises(DataError, match="forget and retain share example 2"):
        ub.unlearn(Net(), "finetune", forget=Subset(whole, [1, 2]), retain=Subset(whole, [2, 3]))


def test_a_method_that_returns_nonsense_is_refused() -> None:
    with pytest.raises(MethodError, match="the loss is nan: lower"):
        ub.unlearn(
            Net(),
            "gradient_ascent",
            forget=(1e36 * X, Y),  # at 1e30 one random network in 25 ends without NaN
            params={"lr": 1e5, "epochs": 5},
            retain=(X, Y),
        )


def test_a_suite_is_run_read_and_compared(trained: Path, tmp_path: Path, tiny: Path) -> None:
    said: list[str] = []
    run = ub.run(
        tiny, methods=["finetune"], params={"finetune": {"epochs": 1}}, progress=said.append
    )
    folder = run.folder
    assert {"retrain", "finetune"} <= set(run.records["method"]) and not len(run.failed)
    assert set(run.verdicts["method"]) >= {"finetune", "original"}
    assert any("finetune: done" in line for line in said)
    assert "finetune" in run._repr_html_()
    read = ub.load(folder)
    assert read.records.equals(run.records)
    compared = ub.compare(run, read)
    assert compared.worse == () and len(compared.to_frame()) and compared._repr_html_()
    del run, read
    assert not folder.exists()
    with pytest.raises(UserError, match="holds no records.csv"):
        ub.load(tmp_path)


def test_methods_metrics_and_fisher_are_at_hand(own: Trained) -> None:
    methods, metrics = ub.methods(), ub.metrics()
    assert methods.loc["pbu", "kind"] == "method" and "unlearned" not in methods.index
    assert metrics.loc["forget_accuracy", "role"] == "primary"
    found = ub.fisher_diagonal(own.original, DataLoader(own.forget, 64), kind="empirical")
    assert set(found) == {name for name, _ in own.original.named_parameters()}


FIVE = Path(__file__).with_name("five_snippets.py")


@pytest.mark.thorough
@pytest.mark.parametrize("network", ["own", "vit"])
def test_the_five_snippets_of_a_notebook_run(network: str, own: Trained, home: Path) -> None:
    given = own if network == "own" else train(vit, 200, 120)
    cells = runpy.run_path(str(FIVE))
    before = state(given.original)
    result = cells["unlearn"](given.original, given.forget, given.retain)
    assert same(state(given.original), before) and not same(state(result.model), before)
    scores = cells["judge"](result, given.original, given.retrained, *given.sets.values())
    assert 0 <= scores["mia_loss_auc"] <= 1
    names = {name for name, _ in given.original.named_parameters()}
    assert cells["parts"](given.original, given.forget) == names


@pytest.mark.thorough
def test_a_suite_of_a_notebook_is_run_and_read(trained: Path, tiny: Path) -> None:
    cells = runpy.run_path(str(FIVE))
    run = cells["run_suite"](str(tiny))
    assert len(run.records) and cells["read"](run.folder, run) == []


def test_importing_the_package_takes_next_to_no_time() -> None:
    def seconds(code: str) -> float:
        """CPU seconds of a fresh interpreter: those on the clock depend on who else computes."""
        taken = []
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, "-c", code], check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(taken)

    assert seconds("import unlearn_bench") - seconds("pass") < 0.05


@pytest.mark.thorough
def test_a_users_code_passes_strict_type_checks() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", str(FIVE)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stdout
