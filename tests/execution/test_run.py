"""One run: what a method gets, what it may give back, and what is kept of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from unlearn_bench.core.errors import DataError, MethodError, ModelError
from unlearn_bench.data.images import Dataset, Part, TensorImages
from unlearn_bench.execution import task as tasks
from unlearn_bench.execution.failures import RunFailedError
from unlearn_bench.execution.given import check_classifies
from unlearn_bench.execution.judge import Judge
from unlearn_bench.execution.models import TRAINING, Trio
from unlearn_bench.execution.returned import check_model, stored_log
from unlearn_bench.execution.run import Runner
from unlearn_bench.measure import evaluate
from unlearn_bench.plugins import registry
from unlearn_bench.store.store import Store
from unlearn_bench.suite.config import expand
from unlearn_bench.suite.spec import ModelSpec, RunSpec, Suite
from unlearn_bench.toolkit.context import MAX_LOG_ENTRIES
from unlearn_bench.training import models

Write = Callable[[str, str], Path]

pytestmark = pytest.mark.usefixtures("own_registry")

# Enough for digits to be told apart.
TRAINED = {"epochs": 4, "lr": 4e-3, "batch_size": 64}

HEAD = "import torch\nfrom torch import nn\nfrom unlearn_bench.api import *\n\n"


def silent(text: str) -> None:
    pass


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One store for this file: the original of the tiny suite is trained once."""
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def harness(shared: Store) -> Runner:
    return Runner(shared, torch.device("cpu"))


def spec_of(
    method: str,
    *,
    original: Path | None = None,
    params: dict[str, Any] | None = None,
    **changes: Any,
) -> RunSpec:
    values = {
        "name": "s",
        "datasets": "digits",
        "models": "resnet4",
        "scenarios": "class:8",
        "methods": method,
        "threads": 1,
        "params": {method: params or {}},
        "recipe": {"epochs": 1, "lr": 4e-3},
        "relearn_steps": 4,
    }
    plan = expand(Suite.model_validate(values | changes), device="cpu", original=original)
    return next(spec for spec in plan.runs if spec.method == method)


@pytest.fixture
def spec_for(write: Write) -> Callable[..., RunSpec]:
    """Register a method with the given body and return a run of it."""

    def make(body: str, access: str = "Access.BOTH", **changes: Any) -> RunSpec:
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        decorator = f'@method("mine", access={access})\n'
        head = "def mine(model, ctx, *, a: float = 1.0):\n"
        registry.load_plugin(write("mine.py", HEAD + decorator + head + lines))
        return spec_of("mine", **changes)

    return make


@pytest.fixture
def unjudged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs measure nothing, which takes longest: for tests of what comes before."""

    def judge(self: Judge, spec: RunSpec, task: Any, made: Trio) -> dict[str, Any]:
        return {"log": tuple(made.unlearned.notes["log"]), "error": made.missing, "records": ()}

    monkeypatch.setattr(Judge, "judge", judge)


def values(result: Any) -> dict[tuple[str, str], float | None]:
    return {(record.metric, record.split): record.value for record in result.records}


def test_a_run_is_measured_and_its_costs_are_kept(
    harness: Runner, spec_for: Callable[..., RunSpec]
) -> None:
    spec = spec_for(
        "for x, y in ctx.forget.batches(): ctx.log(n=len(x))\n"
        "for x, y in ctx.retain.batches(): pass\nreturn model",
        recipe=TRAINED,
    )
    steps: list[str] = []
    result = harness.run(spec, steps.append)
    found = values(result)
    # Nothing was unlearned: four epochs of training show on all four sets, by their own labels.
    data, original = harness.dataset(spec), harness.original(spec, silent)
    model = harness.task(spec).load(original.tensors)
    sizes = harness.check_split(spec)
    for split, part in (
        ("forget", data.train),
        ("retain", data.train),
        ("test_forget", data.test),
        ("test_retain", data.test),
    ):
        chosen = getattr(sizes, split)
        logits = evaluate.logits(model, data, part, torch.device("cpu"), chosen)
        right = (logits.argmax(1) == part.labels[chosen]).double().mean()
        accuracy = found[f"{split}_accuracy", split]
        assert accuracy == pytest.approx(float(right)) and accuracy > 0.7, split
    assert ("mia_loss_auc", "forget+test_forget") in found
    assert found["examples_touched", "forget"] == len(sizes.forget)
    assert found["examples_touched", "retain"] == len(sizes.retain)
    assert (found["wall_seconds", ""] or 0) > 0
    assert sum(entry["n"] for entry in result.log) == len(sizes.forget)
    assert (result.status, result.method, result.scenario, result.seed) == (
        "ok",
        "mine",
        "class:8",
        0,
    )
    assert result.params == {"a": 1.0} and result.environment["threads"] == 1
    assert result.key == harness.key(spec)
    assert "original" in steps[0] and {"mine", "evaluate"} <= set(steps)


def test_doing_nothing_gives_the_original(
    harness: Runner, spec_for: Callable[..., RunSpec]
) -> None:
    nothing = harness.run(spec_for("return model"), silent)
    original = harness.run(spec_of("original"), silent)
    accuracies = [
        {k: v for k, v in values(r).items() if k[0].endswith("accuracy")}
        for r in (nothing, original)
    ]
    assert accuracies[0] == accuracies[1]


def test_a_method_gets_a_private_copy_in_eval_mode(
    harness: Runner, shared: Store, spec_for: Callable[..., RunSpec]
) -> None:
    before = values(harness.run(spec_of("original"), silent))
    spoil = "assert not model.training\nfor p in model.parameters(): p.data.zero_()\nreturn model"
    harness.run(spec_for(spoil), silent)
    fresh = Runner(shared, torch.device("cpu"))
    after = values(fresh.run(spec_of("original"), silent))
    assert after["retain_accuracy", "retain"] == before["retain_accuracy", "retain"]


@pytest.mark.usefixtures("unjudged")
def test_a_new_model_begins_as_the_recipe_does_or_from_scratch(
    harness: Runner, spec_for: Callable[..., RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    built = models.build

    def build(spec: ModelSpec, **options: Any) -> nn.Module:
        model = built(spec.model_copy(update={"pretrained": False}), **options)
        if spec.pretrained:  # stands in for weights that would be downloaded
            nn.init.constant_(model.get_submodule("conv1.0").weight, 0.5)
        return model

    monkeypatch.setattr(models, "build", build)
    body = """
begun = [bool((m.conv1[0].weight == 0.5).all())
         for m in (ctx.new_model(), ctx.new_model(pretrained=False))]
if begun != [True, False]:
    raise MethodError(str(begun))
return model
"""
    harness.run(spec_for(body, models={"name": "test_resnet", "pretrained": True}), silent)


def test_what_is_stored_is_not_computed_again(
    harness: Runner,
    shared: Store,
    spec_for: Callable[..., RunSpec],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = spec_for("return model")
    first = harness.run(spec, silent)

    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(tasks, "train", never)
    monkeypatch.setattr(evaluate, "logits", never)
    monkeypatch.setattr(tasks.Unlearning, "run", never)
    again = Runner(shared, torch.device("cpu")).run(spec, silent)
    assert again.key == first.key and again.log == first.log
    measured = [
        {k: v for k, v in values(r).items() if k[0] != "wall_seconds_evaluate"}
        for r in (first, again)
    ]
    assert measured[0] == measured[1]


def test_an_edited_method_gets_another_key(
    harness: Runner, spec_for: Callable[..., RunSpec]
) -> None:
    key = harness.key(spec_for("return model"))
    assert harness.key(spec_for("return model")) == key
    assert harness.key(spec_for("return model  # thought over")) != key


def test_parameters_scenario_and_seed_are_part_of_the_key(harness: Runner) -> None:
    keys = [
        harness.key(spec_of("finetune", **changes))
        for changes in (
            {},
            {"params": {"lr": 0.5}},
            {"scenarios": "class:1"},
            {"validation": 0.2},
            {"recipe": {"epochs": 2}},
            {"image_size": 16},
            {"threads": 2},
        )
    ]
    assert len(set(keys)) == len(keys)
    labelled = {"methods": {"name": "finetune", "label": "other"}}
    assert harness.key(spec_of("finetune", **labelled)) == keys[0]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise RuntimeError('no luck\\nat all')", "RuntimeError: no luck"),
        ("raise MethodError('no luck')", "no luck"),
        ("raise SystemExit('bye')", "SystemExit"),
        ("return None", "the method returned NoneType, not a model; end it with `return model`"),
        ("return model.state_dict()", "the method returned OrderedDict, not a model"),
        ("return nn.Linear(2, 2)", "keep the architecture"),
        (
            "model.classifier.bias.data.fill_(float('nan'))\nreturn model",
            "classifier.bias holds NaN or infinity",
        ),
        (
            "model.classifier.bias.data[0] = float('inf')\nreturn model",
            "classifier.bias holds NaN or infinity",
        ),
        ("return model.double()", "came back as torch.float64"),
        (
            "ctx.log(loss=torch.zeros(3))\nreturn model",
            r"ctx.log\(loss=...\) was given a Tensor of shape \[3\]; log single numbers",
        ),
        ("ctx.log(loss='low')\nreturn model", r"ctx.log\(loss=...\) was given a str"),
        ("torch.zeros(2, 3) @ torch.zeros(2, 3)", "RuntimeError: "),
        ("ctx.test", "AttributeError"),
    ],
)
def test_a_method_that_fails_fails_its_run_with_one_line(
    body: str, reason: str, harness: Runner, spec_for: Callable[..., RunSpec]
) -> None:
    with pytest.raises(RunFailedError, match=reason) as caught:
        harness.run(spec_for(body), silent)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize(
    "place",
    [
        "unlearn_bench.execution.inputs.on_device",
        "timm.create_model",
        "copy.deepcopy",
        "torch.nn.Module.to",
        "unlearn_bench.store.store.save",
    ],
)
def test_memory_that_runs_out_anywhere_fails_the_run_with_advice(
    place: str, shared: Store, spec_for: Callable[..., RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_for(f"return model  # {place}")
    harness = Runner(shared, torch.device("cpu"))
    harness.original(spec_of("original"), silent)
    for size in (16, 32):  # the last two datasets are kept: this one is read again
        harness.dataset(spec_of("original", image_size=size))

    def full(*args: Any, **kwargs: Any) -> None:
        raise FULL

    with monkeypatch.context() as patch:
        patch.setattr(place, full)
        with pytest.raises(RunFailedError, match=r"2.00 GiB; the machine's memory is too small"):
            harness.run(spec, silent)
        # What is recorded of the failure needs no memory of that kind.
        assert harness.result(spec, "failed", error="e").hashes["data"]


def test_a_model_that_memory_does_not_even_build_is_refused_before_anything_runs(
    harness: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **options: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("timm.create_model", full)
    with pytest.raises(ModelError, match="MemoryError: the machine's memory is too small"):
        harness.check_model(spec_of("original"))


@pytest.mark.usefixtures("unjudged")
def test_what_failed_is_not_tried_again_but_what_is_in_the_store_is_used(
    harness: Runner, spec_for: Callable[..., RunSpec], shared: Store, tmp_path: Path
) -> None:
    spec, retrain = spec_for("return model"), spec_of("retrain")
    failed = {harness.original_key(spec): "too long", harness.key(retrain): "too dear"}
    harness.run(retrain, silent)
    harness.remember(failed)
    assert harness.run(spec, silent).error == ""

    empty = Runner(Store(tmp_path / "empty"), torch.device("cpu"))
    empty.remember(failed)
    for _ in range(2):
        with pytest.raises(RunFailedError, match="^training the original failed: too long$"):
            empty.run(spec, silent)
    assert empty.failed == failed
    other = Runner(Store(tmp_path / "empty"), torch.device("cpu"))
    other.remember({other.key(retrain): "too dear"})
    assert other.run(spec, silent).error == "retraining failed: too dear"


def test_whatever_an_error_says_is_kept_as_text_that_any_file_takes(
    harness: Runner, spec_for: Callable[..., RunSpec]
) -> None:
    spec = spec_for("raise OSError('no \\udcff.bin \\x1b[2J or ünïcödé\\r')")
    with pytest.raises(RunFailedError) as caught:
        harness.run(spec, silent)
    assert str(caught.value) == r"OSError: no \udcff.bin \x1b[2J or ünïcödé"
    assert stored_log([{"a\udcff": 1.0}]) == [{"step": 0.0, r"a\udcff": 1.0}]


@pytest.mark.parametrize(
    ("access", "split", "flag"),
    [
        ("Access.FORGET", "retain", "RETAIN"),
        ("Access.RETAIN", "forget", "FORGET"),
        ("Access.BOTH", "validation", "VALIDATION"),
        ("Access.NONE", "forget", "FORGET"),
    ],
)
def test_an_undeclared_read_is_refused_with_what_to_declare(
    access: str, split: str, flag: str, harness: Runner, spec_for: Callable[..., RunSpec]
) -> None:
    spec = spec_for(f"len(ctx.{split})\nreturn model", access)
    with pytest.raises(RunFailedError) as caught:
        harness.run(spec, silent)
    message = str(caught.value)
    assert f"method 'mine' read the {split} split but declares only" in message
    assert f"add Access.{flag} to access=" in message


@pytest.mark.usefixtures("unjudged")
def test_a_share_of_the_retain_set_is_fixed_by_the_seed(
    harness: Runner, spec_for: Callable[..., RunSpec]
) -> None:
    access = "Access(retain=True, retain_fraction=0.1)"
    body = "ctx.log(n=len(ctx.retain), total=ctx.retain.indices.sum())\nreturn model"
    spec = spec_for(body, access)
    [entry] = harness.run(spec, silent).log
    assert entry["n"] == round(0.1 * len(harness.check_split(spec).retain))
    [again] = harness.run(spec_for(body + "  # edited", access), silent).log
    assert again == entry


LOGGED = """\
log = ctx.training_log
size = sum(float(c.square().sum()) for c in log.change.values())
ctx.log(hits=log.hits, steps=log.steps, size=size)
for name, p in model.named_parameters(): p.data.sub_(log.change[name].float())
return model"""


@pytest.mark.usefixtures("unjudged")
def test_the_training_log_holds_the_steps_of_the_forgotten(
    harness: Runner, spec_for: Callable[..., RunSpec]
) -> None:
    spec = spec_for(LOGGED, "Access.LOG")
    steps: list[str] = []
    harness.original(spec_of("finetune"), silent)
    [entry] = harness.run(spec, steps.append).log
    indices = harness.check_split(spec)
    batches = -(-len(indices.train) // spec.recipe.batch_size)
    # Every batch of 128 holds one of the forgotten class: nothing is left but the start.
    assert entry["hits"] == entry["steps"] == batches
    # A run ended in the midst of it did not fail for want of an original.
    logging = [step for step in steps if step.startswith("record training log")]
    assert len(logging) > 1
    assert not any(step.startswith(TRAINING) for step in steps[steps.index(logging[0]) :])

    task = harness.task(spec)
    unlearned = harness.models.of(spec, task, silent).unlearned
    for name, initial in task.new_original().named_parameters():
        assert torch.allclose(unlearned.tensors[name], initial, atol=1e-5)

    trained_on = f"indices:{indices.train[0]}"
    [one] = harness.run(spec_for(LOGGED, "Access.LOG", scenarios=trained_on), silent).log
    assert (one["hits"], one["steps"]) == (1, batches)
    assert one["size"] is not None and entry["size"] is not None
    assert 0 < one["size"] < entry["size"]


@pytest.mark.usefixtures("unjudged")
def test_who_trains_the_original_and_wants_its_log_records_it_on_the_way(
    spec_for: Callable[..., RunSpec], tmp_path: Path
) -> None:
    spec = spec_for(LOGGED, "Access.LOG")
    steps: list[str] = []
    first = Runner(Store(tmp_path / "first"), torch.device("cpu"))
    [at_once] = first.run(spec, steps.append).log
    assert any(step.startswith(TRAINING) for step in steps)
    assert not any(step.startswith("record training log") for step in steps)
    later = Runner(Store(tmp_path / "later"), torch.device("cpu"))
    later.original(spec_of("finetune"), silent)
    [recorded] = later.run(spec, steps.append).log
    assert steps[-1] == "evaluate" and "record training log" in steps
    assert recorded == pytest.approx(at_once)


@pytest.mark.usefixtures("unjudged")
def test_examples_named_to_be_forgotten_were_trained_on(
    harness: Runner, spec_for: Callable[..., RunSpec]
) -> None:
    usual = spec_for(LOGGED, "Access.LOG")
    held_out = harness.check_split(usual).validation[0]
    spec = spec_for(LOGGED, "Access.LOG", scenarios=f"indices:{held_out}")
    assert spec.training_identity() != usual.training_identity()
    [entry] = harness.run(spec, silent).log
    assert entry["hits"] == 1


@pytest.mark.usefixtures("unjudged")
def test_the_training_log_is_recorded_once(
    harness: Runner, spec_for: Callable[..., RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    [first] = harness.run(spec_for(LOGGED, "Access.LOG"), silent).log
    monkeypatch.setattr(tasks, "train", None)  # nothing may be trained
    steps: list[str] = []
    [again] = harness.run(spec_for("pass\n" + LOGGED, "Access.LOG"), steps.append).log
    assert again == pytest.approx(first) and "record training log" not in steps


def test_a_training_that_cannot_be_repeated_has_no_log(
    harness: Runner, spec_for: Callable[..., RunSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_for(LOGGED, "Access.LOG", recipe={"epochs": 1, "lr": 3e-3})
    harness.original(spec_of("finetune", recipe={"epochs": 1, "lr": 3e-3}), silent)
    trained = tasks.train

    def jittery(model: nn.Module, *args: Any, **kwargs: Any) -> None:
        trained(model, *args, **kwargs)
        model.classifier.bias.data[0] += 1e-6  # type: ignore[index, operator, union-attr]

    monkeypatch.setattr(tasks, "train", jittery)
    with pytest.raises(
        RunFailedError, match=r"weights other than the original's \(in classifier\.bias\)"
    ):
        harness.run(spec, silent)


def test_gradients_switched_off_fail_the_run_and_are_on_again_for_the_next(
    harness: Runner, spec_for: Callable[..., RunSpec]
) -> None:
    with pytest.raises(RunFailedError, match="gradients enabled: True became False"):
        harness.run(spec_for("torch.set_grad_enabled(False)\nreturn model"), silent)
    assert torch.is_grad_enabled()


def test_the_data_that_a_process_holds_are_counted_once(harness: Runner) -> None:
    small, large, larger = (
        spec_of("original", **size)
        for size in (
            {},
            {"image_size": 16},
            {"image_size": 32},
        )
    )
    data = harness.dataset(small)
    [eight, sixteen] = [harness.data_bytes([spec, spec]) for spec in (small, large)]
    assert eight == (len(data.train.labels) + len(data.test.labels)) * 8 * 8
    assert sixteen == 4 * eight
    # The last two datasets are kept: two of three at most.
    assert harness.data_bytes([larger, small, large]) == 16 * eight + 4 * eight


def test_classes_that_do_not_exist_are_found_before_anything_runs(harness: Runner) -> None:
    with pytest.raises(DataError, match="no class 12 to forget"):
        harness.check_split(spec_of("original", scenarios="class:12"))


# The user's own weights.


@pytest.fixture
def weights(harness: Runner, tmp_path: Path) -> dict[str, Tensor]:
    spec = spec_of("original", recipe=TRAINED)
    return dict(harness.original(spec, silent).tensors)


def saved(weights: dict[str, Tensor], tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_file(weights, path)
    return path


def test_given_weights_are_the_original(
    weights: dict[str, Tensor], harness: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "train", None)  # nothing may be trained
    spec = spec_of("original", original=saved(weights, tmp_path))
    harness.check_model(spec)
    assert (values(harness.run(spec, silent))["retain_accuracy", "retain"] or 0) > 0.8


def test_an_unlearned_model_is_judged_and_what_it_cost_is_not_known(
    weights: dict[str, Tensor], harness: Runner, tmp_path: Path
) -> None:
    original, after = saved(weights, tmp_path), tmp_path / "after.safetensors"
    save_file(
        weights | {"classifier.bias": weights["classifier.bias"] - 100 * torch.eye(10)[8]}, after
    )
    suite = Suite.model_validate(
        {
            "name": "s",
            "datasets": "digits",
            "models": "resnet4",
            "scenarios": "class:8",
            "methods": "original",
            "threads": 1,
            "recipe": {"epochs": 1, "lr": 4e-3},
            "relearn_steps": 4,
        }
    )
    plan = expand(suite, device="cpu", original=original, unlearned=[after])
    (spec,) = (spec for spec in plan.runs if spec.unlearned is not None)
    harness.check_model(spec)
    result = harness.run(spec, silent)
    assert (result.method, result.kind) == ("after", "method")
    found = values(result)
    assert found["forget_accuracy", "forget"] == 0
    assert (found["retain_accuracy", "retain"] or 0) > 0.8
    assert found["wall_seconds_evaluate", ""] and "relearn_time" in str(found)
    costs = ("wall_seconds", "cpu_seconds", "peak_bytes", "touched", "forward_ex", "precompute")
    assert not [m for m, _ in found if m.startswith(costs) and m != "wall_seconds_evaluate"]
    after.write_bytes(original.read_bytes()[:-4] + b"\xff\xff\xff\x7f")
    with pytest.raises(ModelError, match=r"after.safetensors does not fit .* NaN"):
        harness.check_model(spec)


def test_given_weights_are_judged_under_the_constants_that_are_given(
    weights: dict[str, Tensor], harness: Runner, tmp_path: Path
) -> None:
    path = saved(weights, tmp_path)
    own, other = (
        spec_of("original", original=path, normalize=normalize)
        for normalize in (None, {"mean": 0.6, "std": 0.5})
    )
    assert harness.given_accuracy(own) > 0.8
    # Equal weights: what was seen of them under other constants must not be taken for this.
    seen = [values(harness.run(spec, silent))["retain_accuracy", "retain"] for spec in (own, other)]
    assert harness.given_accuracy(other) < harness.given_accuracy(own) - 0.05
    assert (seen[1] or 0) < (seen[0] or 0) - 0.05


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda w: w | {"classifier.weight": w["classifier.weight"][:5].clone()},
            "classifier.weight is .*, expected",
        ),
        (
            lambda w: {k: v for k, v in w.items() if k != "classifier.bias"},
            "classifier.bias is missing",
        ),
        (lambda w: w | {"extra": torch.zeros(1)}, "extra is unknown"),
        (
            lambda w: w | {"classifier.bias": w["classifier.bias"] * float("nan")},
            "classifier.bias holds NaN",
        ),
    ],
)
def test_given_weights_that_do_not_fit_are_refused_at_once(
    change: Any, reason: str, weights: dict[str, Tensor], harness: Runner, tmp_path: Path
) -> None:
    spec = spec_of("original", original=saved(change(weights), tmp_path))
    with pytest.raises(ModelError, match=f"does not fit this model: .*{reason}"):
        harness.check_model(spec)


def test_given_weights_that_classify_other_data_are_refused(
    weights: dict[str, Tensor], harness: Runner, tmp_path: Path
) -> None:
    shuffled = weights | {
        "classifier.weight": weights["classifier.weight"].roll(3, 0),
        "classifier.bias": weights["classifier.bias"].roll(3),
    }
    spec = spec_of("original", original=saved(shuffled, tmp_path))
    harness.check_model(spec)
    with pytest.raises(ModelError, match="little more than chance; they may expect other data"):
        harness.run(spec, silent)


@pytest.mark.parametrize(
    ("classes", "right", "accepted"),
    [
        (2, 0.8, True),
        (2, 0.52, False),
        (3, 0.6, True),
        (3, 0.35, False),
        (10, 0.25, True),
        (10, 0.12, False),
        (100, 0.05, True),
        (100, 0.015, False),
    ],
)
def test_better_than_chance_depends_on_the_number_of_classes(
    classes: int, right: float, accepted: bool
) -> None:
    # Images of one pixel, which is the answer that is given; the true one is always 0.
    answers = torch.zeros(1000, dtype=torch.uint8)
    answers[round(right * 1000) :] = 1
    part = Part(TensorImages(answers.view(-1, 1, 1, 1)), torch.zeros(1000, dtype=torch.long))
    data = Dataset("mine", part, part, tuple(map(str, range(classes))), (0.0,), (1 / 255,), "")
    model, cpu = Says(classes), torch.device("cpu")
    if accepted:
        assert check_classifies(model, data, cpu) == pytest.approx(right)
    else:
        with pytest.raises(ModelError, match="little more than chance"):
            check_classifies(model, data, cpu)


class Says(nn.Module):
    """Takes the number that an image consists of for its class."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(x.flatten(1)[:, 0].round().long(), self.classes).float()


# What comes back from a method, and its log.


def test_a_model_of_the_same_architecture_is_accepted() -> None:
    check_model(nn.Linear(2, 3), nn.Linear(2, 3).state_dict())


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        (nn.Linear(2, 4), r"bias came back as torch.float32 \[4\], expected torch.float32 \[3\]"),
        (nn.Linear(2, 3, bias=False), "lacks the tensor bias"),
        (nn.Bilinear(2, 2, 3), r"weight came back as"),
        (nn.Sequential(nn.Linear(2, 3)), "has an additional tensor 0.bias"),
        (nn.Linear, "returned type, not a model"),
    ],
)
def test_a_model_of_another_architecture_is_refused(returned: object, reason: str) -> None:
    with pytest.raises(MethodError, match=reason):
        check_model(returned, nn.Linear(2, 3).state_dict())


def test_a_log_becomes_numbers_and_what_json_cannot_say_none() -> None:
    entries: list[dict[str, Any]] = [{"a": torch.tensor(0.5), "b": 2}, {"a": float("nan")}]
    assert stored_log(entries) == [{"step": 0.0, "a": 0.5, "b": 2.0}, {"step": 1.0, "a": None}]
    assert stored_log([]) == []


def test_a_long_log_is_thinned_evenly_and_keeps_its_end() -> None:
    count = 3 * MAX_LOG_ENTRIES + 2
    log = stored_log([{"n": n} for n in range(count)])
    assert len(log) <= MAX_LOG_ENTRIES + 1
    assert [entry["n"] for entry in (log[0], log[1], log[-1])] == [0, 4, count - 1]
