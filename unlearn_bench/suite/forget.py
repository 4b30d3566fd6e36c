"""Who is forgotten: the scenario of a suite, in one line of text or as keys of YAML."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, field_validator, model_serializer, model_validator

from unlearn_bench.core.errors import visible
from unlearn_bench.core.keys import content_key
from unlearn_bench.core.truth import refuse_truth
from unlearn_bench.plugins.method import Scope
from unlearn_bench.suite.forget_text import read_scenario
from unlearn_bench.suite.stream import joined, repeated, split_requests

MAX_INDICES = 150_000
# Raise when a scenario changes training data in another way: originals are then trained again.
CHANGES = 1
# Likewise, when memorisation is estimated otherwise.
MEMORISATION = 1
# When several requests are divided otherwise, of which one is about a part of a class, a fine class
# or a group: their results are then made again.
DIVISION = 1


@dataclass(frozen=True)
class Form:
    """One way to write a scenario.

    Attributes:
        text: As ``--forget`` takes it.
        scope: What methods declare to be made for it.
        meaning: One line for ``unlearn-bench list scenarios``.
    """

    text: str
    scope: Scope
    meaning: str


FORMS = (
    Form("class:8", "class", "One whole class, by index or name."),
    Form("classes:1,2", "classes", "Several whole classes."),
    Form("class:8@0.5", "part", "A random share of one class; the rest stays."),
    Form("subclass:rocket", "subclass", "A fine class inside a coarse one."),
    Form("group:hospital=A", "group", "By a column of Parquet files, or of groups.csv."),
    Form("random:0.1", "random", "A random share of the training examples."),
    Form("indices:3,14", "random", "Training examples, counted from 0."),
    Form("indices:FILE", "random", "By a file of indices or file names."),
    Form("thirds:0.1", "random", "Kept, forgotten or unseen, each in a third of seeds."),
    Form("memorised:high:0.05", "memorised", "Those that are memorised most; also mid or low."),
    Form("confused:3,5:0.1", "confused", "Swapped labels: a tenth of two classes."),
    Form("poisoned:0:0.02", "poisoned", "2 % of the images, with a trigger and the label 0."),
    Form("poisoned:0:0.02@0.5", "poisoned", "The known half of these; the rest stays."),
    Form("stream:class:1;random:0.02", "random", "One request after the other."),
    Form("union:class:1;class:4", "classes", "The same requests at once."),
)


class Spec(BaseModel):
    """Base of all specifications: immutable, and an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()
    )

    _numbers = field_validator("*", mode="before")(refuse_truth)

    def without_defaults(self, known: dict[str, Any], added: tuple[str, ...]) -> dict[str, Any]:
        """Leave out of this as a mapping which of its ``added`` fields is as by default."""
        fields = type(self).model_fields
        return {k: v for k, v in known.items() if k not in added or v != fields[k].default}


class Group(Spec):
    """All examples that have one value in a column.

    Attributes:
        column: Of the data's files.
        value: As text; numbers as the file has them.
    """

    column: str
    value: str

    @property
    def name(self) -> str:
        """The scenario's name in reports."""
        return f"group:{self.column}={self.value}"


class Memorised(Spec):
    """Examples chosen by how far the original memorises them.

    Attributes:
        level: The most memorised ones, those around the median, or the least.
        share: Of the original's training examples.
    """

    level: Literal["high", "mid", "low"]
    share: float

    @property
    def name(self) -> str:
        """The scenario's name in reports."""
        return f"memorised:{self.level}:{self.share:g}"


class Confused(Spec):
    """Examples of two classes whose labels are swapped before training.

    Attributes:
        classes: By index or by name.
        share: Of each class.
    """

    classes: tuple[int | str, int | str]
    share: float

    @property
    def name(self) -> str:
        """The scenario's name in reports."""
        return f"confused:{self.classes[0]},{self.classes[1]}:{self.share:g}"


class Poisoned(Spec):
    """Examples of other classes that get a trigger and the target's label before training.

    Attributes:
        target: Class by index or by name.
        share: Of all training examples.
        known: Share of the poisoned ones that is forgotten; None for all of them.
    """

    target: int | str
    share: float
    known: float | None = None

    @property
    def name(self) -> str:
        """The scenario's name in reports."""
        known = "" if self.known is None else f"@{self.known:g}"
        return f"poisoned:{self.target}:{self.share:g}{known}"


# Each says alone who is forgotten.
_WAYS = (
    "classes",
    "fraction",
    "indices",
    "files",
    "thirds",
    "subclass",
    "group",
    "memorised",
    "confused",
    "poisoned",
    "stream",
    "union",
)
# Of these, what can be one request of several: others say what is trained on, or take models to
# find out who it is.
_SINGLE = ("classes", "fraction", "indices", "files", "subclass", "group")


class Forget(Spec):
    """Who is forgotten, in exactly one of the ways of :data:`FORMS`.

    Attributes:
        classes: Whole classes, by index or by name.
        share: Of a single class, the share that is forgotten; None for all of it.
        fraction: A random share of the training examples.
        indices: Training examples by index.
        of: How many examples the training part must have for these indices, where a mask says so.
        files: Training examples by the names of their files.
        thirds: The share of examples that are kept, forgotten or never seen, each in a third of
            the seeds.
        subclass: A fine class inside a coarse one.
        group: All examples with one value in a column.
        memorised: Examples that are memorised most, least or about as far as most.
        confused: Examples whose labels are swapped before training.
        poisoned: Examples that get a trigger and another label before training.
        stream: Requests that come one after the other.
        union: The same, all at once.
    """

    classes: tuple[int | str, ...] = ()
    share: float | None = None
    fraction: float | None = None
    indices: tuple[int, ...] = ()
    of: int | None = None
    files: tuple[str, ...] = ()
    thirds: float | None = None
    subclass: str | None = None
    group: Group | None = None
    memorised: Memorised | None = None
    confused: Confused | None = None
    poisoned: Poisoned | None = None
    stream: "tuple[Forget, ...]" = ()
    union: "tuple[Forget, ...]" = ()

    @field_validator("stream", "union", mode="before")
    @classmethod
    def _repeated(cls, value: Any) -> Any:
        return repeated(value) if isinstance(value, list | tuple) else value

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return cls._parse(value) if isinstance(value, str) else value

    @classmethod
    def _parse(cls, text: str) -> dict[str, Any]:
        kind, _, rest = text.partition(":")
        rest = rest.strip()
        if kind in ("stream", "union") and rest:
            return {kind: split_requests(rest)}  # each says for itself what is wrong with it
        if found := read_scenario(kind, rest):
            return found
        text = visible(text if len(text) <= 80 else f"{text[:80]}...")
        forms = [form.text for form in FORMS if "@" not in form.text]  # a variant of another
        raise ValueError(
            f"{text!r} does not say what to forget; write {', '.join(forms[:-1])} or "
            f"{forms[-1]}: see unlearn-bench list scenarios"
        )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if len(self._ways) != 1:
            raise ValueError(f"say in exactly one way what to forget: one of {', '.join(_WAYS)}")
        for share in self._shares():
            if not 0 < share < 1:
                raise ValueError(f"{self.name}: {share:g} is not a fraction between 0 and 1")
        if self.share is not None and len(self.classes) != 1:
            raise ValueError("share is of a single class: give one in classes")
        if self.confused is not None and len({*self.confused.classes}) < 2:
            raise ValueError(f"{self.name}: labels are swapped between two classes; name another")
        self._check_requests()
        if any(not 0 <= index < 2**53 for index in self.indices):
            raise ValueError("indices count from 0: a negative or huge index names no example")
        for what, given in (("indices", self.indices), ("files", self.files)):
            if len(given) > MAX_INDICES:
                raise ValueError(
                    f"{len(given):,} {what} are given, more than the limit of {MAX_INDICES:,}; "
                    "random:FRACTION forgets more"
                )
            if len({*given}) < len(given):
                twice, times = Counter(given).most_common(1)[0]
                raise ValueError(f"{twice} is named {times} times in {what}; name it once")
        return self

    def _check_requests(self) -> None:
        several = self.stream or self.union
        if len(several) == 1:
            raise ValueError(f"{self.name} is a single request: write {several[0].name}")
        for request in several:
            if request._ways[0] not in _SINGLE:
                raise ValueError(
                    f"{request.name} cannot be one request of several: take classes, shares, "
                    "groups or indices"
                )

    @property
    def requests(self) -> "tuple[Forget, ...]":
        """What is asked for, in order: one thing, but for streams and unions."""
        return self.stream or self.union or (self,)

    def until(self, number: int) -> "Forget":
        """Return the first ``number`` requests of a stream."""
        # Built unchecked: the whole was checked, and a long stream is asked for every part of it.
        part = self.stream[:number]
        return part[0] if number == 1 else Forget.model_construct(stream=part)

    @property
    def named(self) -> tuple[int, ...]:
        """Training examples that are named by their index."""
        if len(self.requests) == 1:
            return self.indices
        return tuple(sorted({index for request in self.requests for index in request.indices}))

    @property
    def named_files(self) -> tuple[str, ...]:
        """Training examples that are named by their file."""
        return tuple(sorted({name for request in self.requests for name in request.files}))

    @property
    def _ways(self) -> list[str]:
        return [way for way in _WAYS if getattr(self, way) not in ((), None)]

    def _shares(self) -> list[float]:
        """Return every share that is given."""
        shares = [self.fraction, self.thirds, self.share]
        shares += [part.share for part in (self.memorised, self.confused, self.poisoned) if part]
        shares += [self.poisoned.known] if self.poisoned else []
        return [share for share in shares if share is not None]

    @model_serializer
    def _to_dict(self) -> dict[str, Any]:
        return dict(self._keys)

    # Kept: every part of a long stream asks its requests again.
    @cached_property
    def _keys(self) -> dict[str, Any]:
        (way,) = self._ways
        value = getattr(self, way)
        if way in ("stream", "union"):
            return {way: [request._to_dict() for request in self.requests]}
        if isinstance(value, Spec):
            return {way: value.model_dump(mode="json", exclude_none=True)}
        part: dict[str, Any] = {} if self.share is None else {"share": self.share}
        part |= {} if self.of is None else {"of": self.of}
        return {way: list(value) if isinstance(value, tuple) else value, **part}

    @property
    def scope(self) -> Scope:
        """What kind of scenario it is: what methods declare to be made for."""
        if self.share is not None:
            return "part"
        if self.classes:
            return "class" if len(self.classes) == 1 else "classes"
        named: tuple[Scope, ...] = ("subclass", "group", "memorised", "confused", "poisoned")
        return next((way for way in named if getattr(self, way) is not None), "random")

    @property
    def scopes(self) -> set[Scope]:
        """All kinds of scenario that a method meets here: of a stream, each request's."""
        if self.union:  # one scenario: of several classes, or of any examples
            whole = {
                label for request in self.union if not request.share for label in request.classes
            }
            # A part of a class may be asked for beside the whole.
            named = all(whole & {*request.classes} for request in self.union)
            return {"classes" if named else "random"}
        return {request.scope for request in self.requests}

    @property
    def changes_data(self) -> bool:
        """Whether training data are changed before anything is trained."""
        return self.confused is not None or self.poisoned is not None

    def training_identity(self) -> dict[str, Any]:
        """Return what the original depends on; nothing where it is that of any other scenario."""
        # Examples to be forgotten by name are never held out: the original must know them.
        named: dict[str, Any] = {"named": list(self.named)} if self.named else {}
        named |= {"named_files": list(self.named_files)} if self.named_files else {}
        # Of the targets of thirds, those that are never seen differ from seed to seed.
        named |= {"thirds": self.thirds} if self.thirds else {}
        if self.changes_data:
            # What of the poison is known makes no difference to what is learned.
            named |= {"changes": CHANGES, **_without_known(self.model_dump(mode="json"))}
        return named

    def division_identity(self) -> dict[str, Any]:
        """Return which way of dividing is used; nothing where there has been but one."""
        several = len(self.requests) > 1
        alike = any(r.share or r.subclass or r.group for r in self.requests)
        return {"division": DIVISION} if several and alike else {}

    @property
    def name(self) -> str:
        """The scenario's name in reports, such as ``class:8``."""
        if self.fraction is not None:
            return f"random:{self.fraction:g}"
        if self.thirds is not None:
            return f"thirds:{self.thirds:g}"
        if self.classes:
            kind = "class" if len(self.classes) == 1 else "classes"
            part = "" if self.share is None else f"@{self.share:g}"
            return f"{kind}:{','.join(str(label) for label in self.classes)}{part}"
        if self.subclass is not None:
            return f"subclass:{self.subclass}"
        for named in (self.group, self.memorised, self.confused, self.poisoned):
            if named is not None:
                return named.name
        if self.stream or self.union:
            kind = "stream" if self.stream else "union"
            return f"{kind}:{joined([request.name for request in self.requests])}"
        (way,) = self._ways
        given = getattr(self, way)
        return f"{way}:{len(given)}@{content_key(list(given))[:8]}"


def _without_known(dumped: dict[str, Any]) -> dict[str, Any]:
    return {way: {k: v for k, v in keys.items() if k != "known"} for way, keys in dumped.items()}
