"""What an audit says, as data: the content of ``audit.json``, from which the pages are printed."""

import importlib.resources
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from unlearn_bench.core.keys import content_key

SCHEMA = "audit.schema.json"

Fraction = Annotated[float, Field(ge=0, le=1)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Word = Literal["exposed", "not detected", "inconclusive", "refused"]


class Part(BaseModel):
    """A part of the statement; what it holds is said in the audit's schema."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Request(Part):
    """Who asked for what, and what the auditor could see."""

    subject: str = Field(description="Whose data, as the person who ran the audit states it.")
    requested: str = Field(description="Date of the request, as stated; empty if it is not.")
    audited: str = Field(description="When the audit was made, UTC.")
    scenario: str = Field(description="What was to be forgotten, as given.")
    examples: int = Field(description="Training examples to be forgotten.")
    by_class: dict[str, int] = Field(description="How many of each class.")
    forgotten_classes: list[str] = Field(description="Classes that are forgotten whole.")
    indices_sha256: Sha256 = Field(description="Of their indices, ascending, one a line.")
    held_out: int = Field(description="Training examples that were not looked at.")
    access: str = Field(description="What the auditor had access to.")


class Model(Part):
    """A model, and who made it."""

    role: Literal["original", "unlearned", "reference"]
    name: str
    sha256: Sha256 = Field(description="Of its tensors, as safetensors.")
    file_sha256: str = Field(description="Of the file that was given; empty if none was.")
    made_by: str


class Provenance(Part):
    """What went in."""

    models: list[Model]
    architecture: str
    data: str = Field(description="Name of the dataset.")
    data_fingerprint: str
    inputs: str = Field(description="How pixels become inputs.")
    recipe: dict[str, Any] | None = Field(description="Of references trained here.")
    software: dict[str, str]
    device: str
    seed: int


class AttackClass(Part):
    """A class of attacks, and what was run of it."""

    attack: str
    asks: str
    attacker_sees: str
    run: list[str] = Field(description="What was run; empty for nothing.")


class Finding(Part):
    """What one test found in one model."""

    model: str
    measure: Literal["membership", "class knowledge"]
    count: int
    of: int
    share: Fraction
    low: Fraction = Field(description="Lower end of the exact 95 % interval.")
    high: Fraction
    p_value: Fraction
    detected: bool


class Headline(Part):
    """The measures that were declared before anything was looked at."""

    declared: str
    word: Word
    sentence: str
    refused: list[str] = Field(description="Measures that were not taken, with the reason.")
    level: Fraction = Field(description="Of each test: 5 % divided by the measures taken.")
    members: int
    non_members: int
    smallest_effect: Fraction | None = Field(
        description="True positive rate found with a power of 80 %; null if none could be."
    )
    unlearned: list[Finding]


class Controls(Part):
    """What the same tests find where the answer is known."""

    positive: list[Finding] = Field(description="In the original, which they must detect.")
    works: bool = Field(description="Whether one does, so that silence can be evidence.")
    blind: list[str] = Field(description="Measures that do not: their silence is no evidence.")
    negative: list[Finding] = Field(description="In references, each held out in turn.")
    fakes: list[Finding] = Field(description="In models that only hide what they know.")
    false_alarms: int
    false_alarms_of: int
    false_alarms_low: Fraction = Field(description="Lower end of the exact 95 % interval.")
    false_alarms_high: Fraction
    note: str


class Example(Part):
    """A forgotten example that the attack is surest of."""

    index: int = Field(description="As the dataset counts it.")
    label: str
    score: float
    non_members_above: Fraction
    flagged: bool


class Retained(Part):
    """How retained training examples changed between original and unlearned model."""

    examples: int
    answers_changed: Fraction
    newly_wrong: Fraction
    largest_changes: list[int] = Field(description="Indices of the ten that changed most.")


class Utility(Part):
    """What the models are still good for, on unseen images."""

    model: str
    accuracy: Fraction
    by_class: dict[str, Fraction]
    calibration_error: Fraction


class Metric(Part):
    """A metric of the package, of the unlearned model."""

    name: str
    split: str
    value: float | None
    reason: str


class Statement(Part):
    """An audit of one unlearned model."""

    format: Literal[1] = 1
    request: Request
    headline: Headline
    controls: Controls
    attacks: list[AttackClass]
    most_exposed: list[Example]
    retained: Retained
    utility: list[Utility]
    metrics: list[Metric]
    seconds: dict[str, float] = Field(description="Wall time of what was made here.")
    provenance: Provenance
    limits: list[str]
    self_hash: str = Field(default="", description="Of all the rest, see `unlearn-bench verify`.")

    def sealed(self) -> "Statement":
        """Return the statement with its own hash."""
        return self.model_copy(update={"self_hash": self.computed_hash()})

    def computed_hash(self) -> str:
        """Return the hash of all but the hash itself."""
        return content_key(self.model_dump(mode="json", exclude={"self_hash"}))

    def as_json(self) -> str:
        """Return the content of ``audit.json``."""
        return json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n"


def schema() -> dict[str, Any]:
    """Return the JSON schema of :class:`Statement`."""
    return Statement.model_json_schema() | {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "unlearn-bench audit",
    }


def published_schema() -> str:
    """Return the text of the schema that comes with the package."""
    return (importlib.resources.files("unlearn_bench.audit") / SCHEMA).read_text("utf-8")
