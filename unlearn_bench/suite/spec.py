"""What a suite asks for: frozen, validated specifications, free of torch.

A :class:`Suite` is what a user writes; :class:`RunSpec` is one cell of it, complete enough to
be run anywhere and to be hashed into the key of its result.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from unlearn_bench.core.blindness import SURROGATE
from unlearn_bench.suite.arguments import Argument, plain_arguments
from unlearn_bench.suite.forget import Forget, Spec
from unlearn_bench.suite.recipe import Recipe
from unlearn_bench.suite.seeds import Seeds
from unlearn_bench.suite.sharding import Sharding

# The reference is `retrain`; every suite has one more retraining, and may ask for further ones.
OTHER_RETRAIN = "retrain_other_seed"
USUAL_REFERENCES = 2
MAX_REFERENCES = 100
MAX_IMAGE_SIZE = 4096  # pixels
MAX_THREADS = 4096
MAX_NAME = 120  # characters of what stands in tables and figures


def _plain(text: str) -> str:
    """Refuse a text that a table or a terminal could not show as it is."""
    if not text.isprintable():
        raise ValueError(f"{text[:MAX_NAME]!r} holds characters that cannot be shown")
    return text


Name = Annotated[str, Field(max_length=MAX_NAME), AfterValidator(_plain)]
ColumnName = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
DatasetName = Annotated[str, Field(max_length=4096)]


def _listed(value: Any) -> Any:
    """Accept ``methods: all`` and ``methods: [..]`` alike."""
    return [value] if isinstance(value, str | dict | int | float) else value


Several = BeforeValidator(_listed)


class ModelSpec(Spec):
    """A timm architecture by name, and how it meets small images.

    Attributes:
        name: Any name of `unlearn-bench list models`.
        stem: ``standard`` keeps timm's stem, ``small`` removes its early down-sampling (for
            transformers: takes smaller patches), ``auto`` means small up to 64 pixels.
        pretrained: Start the original, and retraining too, from timm's published weights.
        small_maps: ``multiply`` computes convolutions of maps with one to four positions as matrix
            products: on images of 8 pixels a training step takes a quarter less time. Logits agree
            to rounding, which training amplifies: it is part of every key.
        args: Further arguments of the architecture's constructor in timm: numbers, switches and
            short names. What leads to files or addresses is refused, for timm reads weights there
            that can run code.
        sharding: Of an ensemble trained in shards, which methods such as ``sisa`` start from; a
            suite sets it through their parameters.
    """

    name: Name
    stem: Literal["auto", "small", "standard"] = "auto"
    pretrained: bool = False
    small_maps: Literal["convolve", "multiply"] = "convolve"
    args: Annotated[dict[str, Argument], AfterValidator(plain_arguments)] = {}
    sharding: Sharding | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_serializer(mode="wrap")
    def _to_dict(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what older results know nothing of, where it is as it was for them."""
        return self.without_defaults(whole(self), ("small_maps", "sharding"))

    @property
    def label(self) -> str:
        """The model's name in reports; options other than the defaults are named."""
        options = [] if self.stem == "auto" else [f"{self.stem} stem"]
        options += ["pre-trained"] if self.pretrained else []
        options += ["small maps multiplied"] if self.small_maps == "multiply" else []
        options += [f"{name}={value}" for name, value in self.args.items()]
        options += [self.sharding.text] if self.sharding else []
        return f"{self.name} ({', '.join(options)})" if options else self.name

    @property
    def whole(self) -> "ModelSpec":
        """The architecture as other methods train it: one model for all data."""
        return self.model_copy(update={"sharding": None})


class MethodSpec(Spec):
    """A method with the parameters a suite sets.

    Attributes:
        name: Any name of `unlearn-bench list methods`.
        label: Name in reports; lets one suite run a method under several settings.
        params: Hyper-parameters that differ from the method's defaults.
    """

    name: Name
    label: Name = ""
    params: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Scenario(Spec):
    """Who is forgotten, and parameters that methods take for this scenario only."""

    forget: Forget
    params: dict[str, dict[str, Any]] = {}

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, dict) and "stream" in value and "forget" not in value:
            rest = {key: given for key, given in value.items() if key != "stream"}
            return rest | {"forget": {"stream": value["stream"]}}
        return {"forget": value} if isinstance(value, str) else value


class Normalize(Spec):
    """Constants that inputs are normalised by: ``(x/255 - mean) / std``.

    Attributes:
        mean: Of pixels scaled to [0, 1]: one value, or one per channel.
        std: Likewise.
    """

    mean: Annotated[tuple[float, ...], Several, Field(min_length=1)]
    std: Annotated[tuple[PositiveFloat, ...], Several, Field(min_length=1)]


class OriginalFile(Spec):
    """Weights of the user's own: where they lie and what they hold."""

    path: Path
    sha256: str


# After how many steps a relearning probe gives up, unless a suite says otherwise.
RELEARN_STEPS = 500
_ADDED = (
    "normalize", "references", "relearn_steps", "params_from", "isolate", "primary", "label_column",
    "group_column", "image_column", "split_column", "skip_corrupt", "published", "surrogate_data",
)  # fmt: skip


class Suite(Spec):
    """A benchmark: methods x models x datasets x scenarios x seeds.

    Attributes:
        name: Names the results folder.
        description: One sentence for `unlearn-bench list suites` and the report.
        datasets: Names of `unlearn-bench list datasets`, or ``parquet:PATH``,
            ``imagefolder:PATH``.
        models: Architectures.
        scenarios: Who is forgotten.
        methods: Methods to compare; ``all`` stands for every registered one. Retraining and
            the controls are added to every suite.
        seeds: Number of seeds, each of which trains its own original; or ``originals`` and how
            often each method does its ``unlearning`` from every one of them.
        references: Retrained models per seed: ``retrain``, ``retrain_other_seed`` and, above two,
            further ones like it, which sharpen every method's verdict at once.
        recipe: How originals and retrained models are trained.
        image_size: Side in pixels to which images are resized; by default they are not.
        normalize: Constants of the inputs; by default the dataset's usual ones, or where it has
            none those of its training images.
        validation: Share of the training part set aside for stop rules and tuning.
        threads: CPU threads of every run; by default as many as the machine has cores. Fixed
            where figures should not depend on the machine.
        relearn_steps: After how many steps the relearning probes give up. Fewer make evaluation
            cheaper, and models that relearn late look alike.
        params: Hyper-parameters by method, for every scenario.
        params_from: File of tuned settings, as ``unlearn-bench tune`` writes it; ``params`` and
            what stands beside a method or scenario go before it. Relative to the suite's file.
        isolate: Whether methods are called in processes that reach neither store nor data.
        label_column: Of Parquet files that hold several labels, the one to learn.
        group_column: And the one that names the fine classes for ``subclass:NAME``.
        image_column: And the one that holds the images.
        split_column: And the one that says which part a row is in.
        skip_corrupt: Whether images that cannot be decoded are left out.
        primary: Names of the metrics that decide the verdict, plug-ins' included; by default the
            package's set. The report says that the suite chose them.
        surrogate_data: A dataset, named as in ``datasets``, whose training images methods with
            surrogate access read without labels, in place of images that they make themselves.
        published: Figures of a paper to show beside the results, as ``FILE#ENTRY``; the file is
            relative to the suite's.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=MAX_NAME)]
    description: str = ""
    datasets: Annotated[tuple[DatasetName, ...], Several, Field(min_length=1)]
    models: Annotated[tuple[ModelSpec, ...], Several, Field(min_length=1)]
    scenarios: Annotated[tuple[Scenario, ...], Several, Field(min_length=1)]
    methods: Annotated[tuple[MethodSpec, ...], Several, Field(min_length=1)] = (
        MethodSpec(name="all"),
    )
    seeds: Seeds = Seeds()
    references: Annotated[int, Field(ge=USUAL_REFERENCES, le=MAX_REFERENCES)] = USUAL_REFERENCES
    recipe: Recipe = Recipe()
    image_size: Annotated[PositiveInt, Field(le=MAX_IMAGE_SIZE)] | None = None
    normalize: Normalize | None = None
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    threads: Annotated[PositiveInt, Field(le=MAX_THREADS)] | None = None
    relearn_steps: PositiveInt = RELEARN_STEPS
    params: dict[str, dict[str, Any]] = {}
    params_from: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    isolate: bool = False
    label_column: ColumnName | None = None
    group_column: ColumnName | None = None
    image_column: ColumnName | None = None
    split_column: ColumnName | None = None
    skip_corrupt: bool = False
    primary: Annotated[tuple[Name, ...], Several] = ()
    published: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    surrogate_data: Annotated[DatasetName, Field(min_length=1)] | None = None

    @field_validator("datasets", "models", "scenarios")
    @classmethod
    def _no_repeats(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        seen: set[str] = set()
        for value in values:
            # Compared as text, which has a hash: a list of each with each would take hours.
            plain = value.model_dump(mode="json") if isinstance(value, Spec) else value
            text = json.dumps(plain, sort_keys=True)
            if text in seen:
                name = value.forget.name if isinstance(value, Scenario) else value
                name = name.label if isinstance(name, ModelSpec) else name
                raise ValueError(f"{name} is named twice; leave one out")
            seen.add(text)
        return values

    @field_validator("models")
    @classmethod
    def _shards_are_a_methods_own(cls, models: tuple[ModelSpec, ...]) -> tuple[ModelSpec, ...]:
        if any(model.sharding for model in models):
            raise ValueError(
                "sharding cannot be set for a model: only methods such as sisa start from an "
                "ensemble of shards; set their parameters shards and slices"
            )
        return models

    @model_serializer(mode="wrap")
    def _to_dict(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what older results know nothing of, where it is as it was for them."""
        return self.without_defaults(whole(self), _ADDED)


class Surrogate(Spec):
    """Which surrogate forget set stands in for the scenario's while a method is tuned.

    Attributes:
        number: From 0.
        of: How many there are.
    """

    number: int
    of: int


class RunSpec(Spec):
    """One run: one method forgets one scenario from one model under one seed.

    Attributes:
        method: Registered name.
        label: Name in reports; not part of the key.
        params: All hyper-parameters, defaults included.
        device: ``cpu`` or ``cuda``: results differ in the last digits and times entirely.
        original: The user's weights to start from, instead of training them.
        normalize: Constants of the inputs, where the suite gives any.
        unlearned: The user's unlearned weights, where these are judged instead of a method.
        relearn_steps: After how many steps the relearning probes give up.
        surrogate: Set while a method is tuned: what it forgets in place of ``forget``.
        limit: Seconds of unlearning after which a run of tuning is ended; not part of the key.
        draw: Which of several runs that differ in the method's random numbers alone: of several
            unlearnings from one original, or of several retrainings.
        isolate: Whether the method is called in a process of its own, as the key says.
        request: Which request of a stream it is about, from 1; 0 where ``forget`` is no stream.
        label_column: As of the suite; the data's fingerprint covers the labels.
        group_column: As of the suite.
        image_column: As of the suite; the fingerprint covers the choice, as it does the next.
        split_column: As of the suite.
        skip_corrupt: As of the suite; the fingerprint covers which images are left.
        surrogate_data: As of the suite, if the method has access to it; the key has its digest.
    """

    dataset: str
    image_size: int | None
    model: ModelSpec
    forget: Forget
    recipe: Recipe
    validation: float
    threads: int | None
    seed: int
    method: str
    label: str
    params: dict[str, Any]
    device: str
    original: OriginalFile | None = None
    normalize: Normalize | None = None
    unlearned: OriginalFile | None = None
    relearn_steps: int = RELEARN_STEPS
    surrogate: Surrogate | None = None
    limit: float | None = None
    draw: int = 0
    isolate: bool = False
    request: int = 0
    label_column: str | None = None
    group_column: str | None = None
    image_column: str | None = None
    split_column: str | None = None
    skip_corrupt: bool = False
    surrogate_data: str | None = None

    @property
    def asked(self) -> Forget:
        """Who was to be forgotten so far: of a stream, the requests up to this run's."""
        return self.forget.until(self.request) if self.request else self.forget

    @property
    def scenario(self) -> str:
        """Who is forgotten, in words."""
        if self.surrogate is None:
            return self.forget.name
        return f"{self.forget.name} surrogate {self.surrogate.number + 1}"

    @property
    def place(self) -> str:
        """Who is forgotten, in words; of a stream also which request it is."""
        if not self.request:
            return self.scenario
        return f"{self.scenario}, request {self.request} of {len(self.forget.stream)}"

    def surrogate_identity(self) -> dict[str, Any]:
        """Return what tells a surrogate from the scenario; nothing where nothing is tuned."""
        return {SURROGATE: self.surrogate.model_dump()} if self.surrogate else {}

    def evaluation_identity(self) -> dict[str, Any]:
        """Return what changes how models are judged; nothing where that is as it always was."""
        usual = self.relearn_steps == RELEARN_STEPS
        steps: dict[str, Any] = {} if usual else {"relearn_steps": self.relearn_steps}
        # Models depend on the requests so far; what is said of them, on where they stand.
        stream = {"of": self.forget.model_dump(mode="json"), "request": self.request}
        return steps | (stream if self.request else {})

    def input_identity(self) -> dict[str, Any]:
        """Return what determines the inputs beside the data; nothing where nothing is given."""
        return {"normalize": self.normalize.model_dump(mode="json")} if self.normalize else {}

    def training_identity(self) -> dict[str, Any]:
        """Return what determines the original model, apart from the data themselves."""
        return (
            self.forget.training_identity()
            | self.model_dump(
                mode="json",
                include={
                    "dataset",
                    "image_size",
                    "model",
                    "recipe",
                    "validation",
                    "threads",
                    "seed",
                    "device",
                },
            )
            | {"original": self.original and self.original.sha256}
            | self.input_identity()
        )

    def identity(self) -> dict[str, Any]:
        """Return what determines the unlearned model, apart from data and method code."""
        given: dict[str, Any] = {"unlearned": self.unlearned.sha256} if self.unlearned else {}
        given |= {"draw": self.draw} if self.draw else {}
        given |= {"group_column": self.group_column} if self.group_column else {}
        return (
            self.training_identity()
            | self.model_dump(mode="json", include={"method", "params"})
            | {"forget": self.asked.model_dump(mode="json")}
            | self.asked.division_identity()
            | given
            | self.surrogate_identity()
            | ({"isolated": True} if self.isolate else {})
        )
