"""A method's call as it travels to a process of its own and back: JSON and safetensors, no pickle.

There goes what the method's access allows and nothing else; back come weights, a log and costs.
Who answers ran the method's code and may say anything: an answer is read like a stranger's file.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import safetensors.torch
import torch
from pydantic import Field, NonNegativeInt
from torch import Tensor

from unlearn_bench.core.errors import MethodError, RefusedError, one_line
from unlearn_bench.core.reading import JSON_BYTES, parse_json, read_bytes
from unlearn_bench.data.images import Dataset, HandedOut, Part
from unlearn_bench.data.splits import Indices
from unlearn_bench.execution.task import Task
from unlearn_bench.plugins.access import SPLITS
from unlearn_bench.plugins.method import Method
from unlearn_bench.plugins.parts import parts
from unlearn_bench.results.checks import LARGEST
from unlearn_bench.suite.forget import Spec
from unlearn_bench.suite.recipe import Recipe
from unlearn_bench.suite.spec import ModelSpec
from unlearn_bench.toolkit.checkpoints import Checkpoints, Restart
from unlearn_bench.toolkit.context import MAX_LOG_ENTRIES, TrainingLog
from unlearn_bench.toolkit.state import MAX_TENSOR_BYTES, State

FACTS, TENSORS = "call.json", "call.safetensors"
# Of the method and of the model, where they come from plug-ins.
PLUGINS = ("plugin.py", "model.py")
# Of surrogate images, among the tensors, where there are any.
SURROGATES = "surrogates"
ANSWER, WEIGHTS, STATE = "answer.json", "answer.safetensors", "state.safetensors"
SLACK = 1 << 20  # bytes of a weights file beside the weights: names and places

Finite = Annotated[float, Field(ge=0, le=LARGEST)]


@dataclass(frozen=True)
class Call:
    """What a method is handed.

    Attributes:
        task: With no more examples than it declares.
        method: As registered, its whole retain split being the declared share.
        params: All hyper-parameters.
        original: Weights of what the method starts from: O, or of a stream what it left before.
        training_log: For methods that declare it.
        given: Weights of the user's own, where these stand in for the method's work.
        limit: Seconds after which it is ended.
        threads: CPU threads.
        draw: Which of several runs that differ in the method's random numbers alone.
        state: What the method left at the last request of a stream, if it keeps any.
        checkpoints: Of the original's shards, for methods that declare them.
        surrogates: Images of the surrogate data that the run names.
        stream: Whether a later request may ask for what the method leaves.
    """

    task: Task
    method: Method
    params: Mapping[str, Any]
    original: Mapping[str, Tensor]
    training_log: TrainingLog | None
    given: Mapping[str, Tensor] | None
    limit: float | None
    threads: int
    draw: int
    state: State | None = None
    checkpoints: Checkpoints | None = None
    surrogates: Tensor | None = None
    stream: bool = True

    def write(self, folder: Path) -> None:
        """Write the call into a folder; the texts of plug-ins travel with it."""
        task = self.task.handed_to(self.method, self.draw)
        state = self.state or State()
        data, log = task.data, self.training_log
        members = torch.cat([getattr(task.indices, name) for name in SPLITS])
        tensors = {
            "members": members,
            "images": data.train.images.fetch(members),
            "labels": data.train.labels[members],
            **{f"split.{name}": getattr(task.indices, name) for name in SPLITS},
            **{f"original.{name}": tensor for name, tensor in self.original.items()},
            **{f"log.{name}": tensor for name, tensor in (log.change if log else {}).items()},
            **{f"given.{name}": tensor for name, tensor in (self.given or {}).items()},
            **{f"state.{name}": tensor for name, tensor in state.tensors.items()},
            **_of_shards(self.checkpoints),
            **({} if self.surrogates is None else {SURROGATES: self.surrogates}),
        }
        facts = {
            "method": self.method.name,
            "params": dict(self.params),
            "model": task.model.model_dump(mode="json"),
            "recipe": task.recipe.model_dump(mode="json"),
            "scenario": task.scenario,
            "seed": task.seed,
            "device": str(task.device),
            "threads": self.threads,
            "limit": self.limit,
            "draw": self.draw,
            "log": [log.hits, log.steps] if log else None,
            "given": self.given is not None,
            "state": state.plain,
            "stream": self.stream,
            "checkpoints": self.checkpoints
            and [self.checkpoints.seed, *([r.shard, r.slice] for r in self.checkpoints)],
            "forget_classes": task.indices.forget_classes,
            "dataset": {
                "name": data.name,
                "classes": data.classes,
                "mean": data.mean,
                "std": data.std,
                "length": len(data.train.labels),
            },
        }
        # Cloned: tied weights and splits of one tensor share storage, which safetensors refuses.
        packed = {name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}
        safetensors.torch.save_file(packed, folder / TENSORS)
        (folder / FACTS).write_text(json.dumps(facts, allow_nan=False))
        own = parts("model").get(task.model.name)
        files = [of.file if of is not None and of.is_plugin else None for of in (self.method, own)]
        for name, file in zip(PLUGINS, dict.fromkeys(files), strict=False):
            if file is not None:
                (folder / name).write_bytes(file.read_bytes())


def read_task(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Task:
    """Return the task of a call that :meth:`Call.write` wrote.

    Args:
        facts: Content of :data:`FACTS`.
        tensors: Content of :data:`TENSORS`.
    """
    about, device = facts["dataset"], torch.device(facts["device"])
    members, length = tensors["members"], about["length"]
    places = torch.full((length,), -1, dtype=torch.long)
    places[members] = torch.arange(len(members))
    labels = torch.full((length,), -1, dtype=torch.long)
    labels[members] = tensors["labels"]
    train = Part(HandedOut(tensors["images"].to(device), places.to(device)), labels)
    data = Dataset(
        about["name"],
        train,
        Part(train.images, labels[:0]),
        tuple(about["classes"]),
        tuple(about["mean"]),
        tuple(about["std"]),
        fingerprint="",
    )
    nothing = members[:0]
    splits: dict[str, Any] = {name: tensors[f"split.{name}"] for name in SPLITS}
    indices = Indices(
        **splits,
        test_forget=nothing,
        test_retain=nothing,
        forget_classes=tuple(facts["forget_classes"]),
    )
    model, recipe = ModelSpec.model_validate(facts["model"]), Recipe.model_validate(facts["recipe"])
    return Task(data, indices, model, recipe, facts["scenario"], facts["seed"], device)


def _of_shards(checkpoints: Checkpoints | None) -> dict[str, Tensor]:
    return {
        f"shard{restart.shard}.{name}": tensor
        for restart in checkpoints or ()
        for name, tensor in restart.weights.items()
    }


def read_checkpoints(
    facts: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device
) -> Checkpoints | None:
    """Return the checkpoints of a call, on the device; None where it has none."""
    if facts["checkpoints"] is None:
        return None
    seed, *restarts = facts["checkpoints"]
    on_device = {name: tensor.to(device) for name, tensor in below("shard", tensors).items()}
    return Checkpoints(
        tuple(Restart(n, first, below(f"{n}.", on_device)) for n, first in restarts), seed
    )


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def with_all_handed_over(method: Method) -> Method:
    """Return a method that is handed the share of R which it declares, as the whole of R."""
    return replace(method, access=replace(method.access, retain_fraction=1.0))


class Spent(Spec):
    """Seconds of one phase."""

    wall: Finite
    cpu: Finite
    gpu: Finite | None


class Cost(Spec):
    """What a method took, as its process says."""

    seconds: dict[str, Spent]
    peak_bytes: NonNegativeInt | None
    examples: dict[str, NonNegativeInt]
    passes: dict[str, NonNegativeInt]


class Answer(Spec):
    """What a method's process says beside the weights.

    Attributes:
        failed: Why there are none.
        trace: Of what the method raised.
        cost: As :meth:`Costs.notes` says it; there unless it failed.
        log: As :func:`stored_log` says it.
        halved: What was done in halved batches.
        state: Of what the method leaves for its next request, what is no tensor.
    """

    failed: str | None = None
    trace: str = ""
    cost: Cost | None = None
    log: Annotated[
        list[dict[str, Annotated[float, Field(ge=-LARGEST, le=LARGEST)] | None]],
        Field(max_length=MAX_LOG_ENTRIES + 2),
    ] = []
    halved: dict[str, NonNegativeInt] = {}
    state: dict[str, Any] | None = None


def read_answer(folder: Path) -> Answer:
    """Return what a method's process wrote into its folder.

    Raises:
        MethodError: If it is no answer.
    """
    try:
        stored = parse_json(read_bytes(folder / ANSWER, JSON_BYTES, links=False), ANSWER)
        return Answer.model_validate(stored)
    except (OSError, RefusedError, ValueError) as error:
        raise MethodError(
            f"the method's process left no answer that can be read: {one_line(str(error))}"
        ) from None


def read_weights(folder: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that a method's process wrote; what they are is for others to check.

    Args:
        folder: Of the call.
        expected: State of the original, for the size.

    Raises:
        MethodError: If they cannot be read.
    """
    most = 2 * sum(tensor.nbytes for tensor in expected.values()) + SLACK
    return _read_tensors(folder / WEIGHTS, most, "weights")


def read_state(folder: Path, answer: Answer) -> State | None:
    """Return what a method leaves for its next request; None where it keeps nothing.

    Raises:
        MethodError: If it cannot be read, or is nothing that can be kept.
    """
    if answer.state is None:
        return None
    tensors = _read_tensors(folder / STATE, MAX_TENSOR_BYTES + SLACK, "state")
    state = State()
    state.update(answer.state)  # value by value: what cannot be kept is refused
    state.update(tensors)
    return state


def _read_tensors(path: Path, most: int, what: str) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(read_bytes(path, most, links=False))
    except (OSError, RefusedError, safetensors.SafetensorError) as error:
        raise MethodError(
            f"the method's process left no {what} that can be read: {one_line(str(error))}"
        ) from None
