"""From files and flags to what an audit looks at; references are trained where none is given."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from unlearn_bench.audit.examine import Reference, Subject
from unlearn_bench.core.errors import ConfigError
from unlearn_bench.execution.identity import RETRAIN
from unlearn_bench.execution.run import Runner
from unlearn_bench.plugins.method import GIVEN
from unlearn_bench.store.memory import artifact
from unlearn_bench.store.store import Artifact
from unlearn_bench.suite.config import Plan, expand
from unlearn_bench.suite.given import weights_file
from unlearn_bench.suite.recipe import Recipe
from unlearn_bench.suite.spec import OTHER_RETRAIN, USUAL_REFERENCES, RunSpec, Suite
from unlearn_bench.suite.yaml_source import YamlSource, describe
from unlearn_bench.training.weights import load_weights

# Trained where no reference is given: two to compare with, and one that is held out.
TRAINED = 3
# Almost everything is the original's training set: nobody says what else was held out.
HELD_OUT = 1e-6


@dataclass(frozen=True)
class Asked:
    """What the command is asked.

    Attributes:
        original: File of the weights before unlearning.
        unlearned: And of those after it.
        model: The architecture, as a suite names it.
        dataset: The data.
        forget: Who was to be forgotten.
        retrained: Files of references.
        controls: References to train here.
        recipe: How.
        options: Of the suite: image size, normalisation.
        seed: Determines what is drawn.
        subject: Whose data, in words.
        requested: Date of the request.
    """

    original: Path
    unlearned: Path
    model: dict[str, Any]
    dataset: str
    forget: str
    retrained: Sequence[Path] = ()
    controls: int = TRAINED
    recipe: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    subject: str = ""
    requested: str = ""


def read_recipe(file: Path | None, epochs: int | None) -> dict[str, Any]:
    """Return the fields of a recipe that a file and a flag give.

    Raises:
        ConfigError: If the file is no mapping.
    """
    found: dict[str, Any] = {}
    if file is not None:
        value = YamlSource(file).value
        if not isinstance(value, dict):
            raise ConfigError(
                f"{file}: a recipe is a mapping of keys such as epochs, lr, optimizer"
            )
        found = {str(key): setting for key, setting in value.items()}
    return found | ({} if epochs is None else {"epochs": epochs})


def plan_for(asked: Asked, device: str) -> Plan:
    """Return the runs that an audit is made of: the unlearned model, and references.

    Raises:
        UserError: If a file, the model, the data or the recipe cannot be used.
    """
    if not asked.retrained and asked.controls < 1:
        raise ConfigError("--controls 0: an audit needs a reference; give --retrained FILE or more")
    described = {
        "name": "audit",
        "datasets": [asked.dataset],
        "models": [asked.model],
        "scenarios": [asked.forget],
        "methods": [RETRAIN],
        "references": max(USUAL_REFERENCES, asked.controls),
        "recipe": asked.recipe,
        "validation": HELD_OUT,
        **asked.options,
    }
    keys: dict[str, Sequence[str]] = {"recipe": list(Recipe.model_fields)}
    try:
        suite = Suite.model_validate(described)
    except ValidationError as error:
        raise ConfigError(describe(error, keys, None)) from None
    return expand(suite, device=device, original=asked.original, unlearned=(asked.unlearned,))


def subject_of(asked: Asked, plan: Plan, runner: Runner, step: Callable[[str], None]) -> Subject:
    """Return what is audited, its references trained unless the store holds them.

    Raises:
        UserError: If weights do not fit.
        RunFailedError: If a reference cannot be trained.
    """
    spec = next(run for run in plan.runs if run.method == GIVEN)
    runner.check_split(spec)
    runner.check_model(spec)
    task = runner.task(spec)
    original = runner.models.original(spec, task, step)
    references = [_given(runner, spec, file, number) for number, file in enumerate(asked.retrained)]
    ways = [run for run in plan.runs if run.method in (RETRAIN, OTHER_RETRAIN)]
    start = time.perf_counter()
    for number, way in enumerate(ways[: asked.controls], len(references)):
        name = f"reference {number + 1}"
        step(f"train {name}")
        made = runner.models.unlearned(way, task, original, step)
        references.append(Reference(name, made, "trained by this command, by the recipe below"))
    spent = {"training references": time.perf_counter() - start} if asked.controls else {}
    unlearned = runner.models.unlearned(spec, task, original, step)
    _refuse_copies(references, {"original": original, "unlearned": unlearned})
    return Subject(
        spec,
        original,
        unlearned,
        references,
        asked.subject,
        asked.requested,
        {what: round(seconds, 2) for what, seconds in spent.items()},
    )


def _refuse_copies(references: Sequence[Reference], models: Mapping[str, Artifact]) -> None:
    """Refuse references that are another model over again: compared with itself none differs.

    Raises:
        ConfigError: Names both.
    """
    seen = {weights.sha256: f"--{name}" for name, weights in models.items()}
    for reference in references:
        if other := seen.get(reference.weights.sha256):
            raise ConfigError(
                f"{reference.name} has the very weights of {other}; a reference is trained "
                "without the forgotten examples, by a run of its own"
            )
        seen[reference.weights.sha256] = reference.name


def _given(runner: Runner, spec: RunSpec, file: Path, number: int) -> Reference:
    """Read a reference of the user's."""
    known = weights_file("--retrained", file)
    model = runner.task(spec).build(seed=0)
    for note in load_weights(model, file):
        runner.notify(note)
    made_by = "given by the person who ran the audit; taken as it is"
    return Reference(f"reference {number + 1}", artifact(model.state_dict()), made_by, known.sha256)
