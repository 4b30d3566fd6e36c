"""What a registered method is: its function, access, parameters, and what `check` must know.

A method is a function ``(model, ctx, *, hyper: T = default) -> model``. Its keyword-only
arguments are its configuration: names, types, ranges and defaults are read from the signature,
their meaning from the docstring's ``Args`` section.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model, field_validator

from unlearn_bench.core.errors import ParameterError, PluginError, suggestion
from unlearn_bench.core.keys import code_hash, content_key
from unlearn_bench.core.truth import refuse_truth
from unlearn_bench.plugins import PLUGIN_MODULE
from unlearn_bench.plugins.access import Access
from unlearn_bench.plugins.tunable import Dimension, derive_space

# "given" is the stand-in for models that come unlearned: listed nowhere, run for a file only.
Kind = Literal["method", "reference", "control", "given"]
GIVEN = "unlearned"
# What a scenario can be, as methods declare it in ``forgets=``, and in words.
Scope = Literal[
    "class",
    "classes",
    "random",
    "part",
    "subclass",
    "group",
    "memorised",
    "confused",
    "poisoned",
]
SCOPE_NAMES: Mapping[Scope, str] = {
    "class": "one whole class",
    "classes": "several classes",
    "random": "examples of any class",
    "part": "a part of a class",
    "subclass": "a fine class inside a coarse one",
    "group": "a group of examples",
    "memorised": "examples by how far they are memorised",
    "confused": "examples with swapped labels",
    "poisoned": "examples with a trigger",
}
SCOPES: tuple[Scope, ...] = tuple(SCOPE_NAMES)
# Logits [N, C] and the forgotten classes to logits [N, C]; typed loosely to keep torch out.
OutputFilter = Callable[[Any, tuple[int, ...]], Any]


# Where a default comes from: a sentence at the end of a parameter's meaning begins with one.
ORIGINS = ("Paper", "Official code", "Re-implementation", "Common practice", "Ours")
_ORIGIN = re.compile(rf"(?:^|(?<=\.\s)|(?<=\.\)\s))({'|'.join(ORIGINS)})\b")


@dataclass(frozen=True)
class Parameter:
    """One hyper-parameter, as `unlearn-bench show METHOD` prints it.

    Attributes:
        name: As `--set` names it.
        type: Type and range in words.
        default: Its default.
        meaning: From the docstring, the origin of the default included.
    """

    name: str
    type: str
    default: Any
    meaning: str

    @property
    def origins(self) -> list[str]:
        """The tags among ``ORIGINS`` that begin a sentence of the meaning."""
        return _ORIGIN.findall(self.meaning)

    @property
    def origin(self) -> str:
        """Where the default comes from; empty where the docstring does not say."""
        return self.origins[-1] if self.origins else ""

    @property
    def explanation(self) -> str:
        """The meaning without a last sentence that only names the origin."""
        return (
            self.meaning.removesuffix(f"{self.origin}.").rstrip() if self.origin else self.meaning
        )


@dataclass(frozen=True)
class Probe:
    """A value with which `unlearn-bench check` tests that a parameter has an effect.

    Attributes:
        value: A value other than the default.
        given: Further parameters of both runs, for a parameter that matters only with them.
    """

    value: Any
    given: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """What `unlearn-bench check` needs to know about a method.

    Attributes:
        quick: Parameters for a fast run, such as fewer passes.
        probes: For a parameter, a value or a :class:`Probe` that must change the weights; by
            default a neighbouring value is chosen.
        speed_only: Parameters that affect only speed and memory, such as a chunk size; `check`
            verifies this.
        one_shot: Set this if the data are read for statistics only, without training passes:
            their order must then not matter.
        may_rest: Why the weights may stay unchanged in some scenario or model; without it, a run
            that moves no weight fails.
    """

    quick: Mapping[str, Any] = field(default_factory=dict)
    probes: Mapping[str, Any] = field(default_factory=dict)
    speed_only: tuple[str, ...] = ()
    one_shot: bool = False
    may_rest: str = ""


NO_CHECK = Check()


@dataclass(frozen=True)
class Method:
    """A registered method.

    Attributes:
        name: Unique name.
        function: ``(model, ctx, **params) -> model``.
        access: Data it may read.
        source: Where it is published, such as ``arXiv:2403.16246``.
        kind: ``method``; ``reference`` for retraining; ``control`` for what only tests the
            evaluation; ``given`` for the stand-in of models that come unlearned.
        file: The file that defines it; its hash is part of every result's key.
        outputs: Of a control that hides something behind its outputs: what turns the model's
            logits [N, C], float64, and the forgotten classes into the logits that metrics see.
        family: What it works by, such as ``relabelling``.
        year: Of the publication.
        forgets: Kinds of scenarios it is made for; it is left out of the others.
        check: What `unlearn-bench check` needs to know.
        fake: Of a control whose weights still hold what it hides: what does not tell it from
            retraining is fooled, and says so in the report.
        keeps_state: Whether it keeps something from one request of a stream to the next.
    """

    name: str
    function: Callable[..., Any]
    access: Access
    source: str
    kind: Kind
    file: Path
    outputs: OutputFilter | None = None
    family: str = ""
    year: int | None = None
    forgets: tuple[Scope, ...] = SCOPES
    check: Check = NO_CHECK
    fake: bool = False
    keeps_state: bool = False

    @property
    def place(self) -> str:
        """File and function, for messages."""
        return f"{self.file} ({self.function.__qualname__})"

    @property
    def is_plugin(self) -> bool:
        """Whether it comes from a file given by ``--plugin``, not from an installed package."""
        return self.function.__module__.startswith(PLUGIN_MODULE)

    @cached_property
    def code_key(self) -> str:
        """Hash of the defining file's code: results of an earlier version are never reused."""
        return content_key(code_hash(self.file))

    @property
    def running_code(self) -> str:
        """Hash of the code of the file whose function is called, whatever :attr:`file` says."""
        code = getattr(self.function, "__code__", None)
        if code is None or Path(code.co_filename).resolve() == self.file:
            return self.code_key
        try:
            return content_key(code_hash(Path(code.co_filename)))
        except (OSError, SyntaxError):
            return "unknown"

    @cached_property
    def schema(self) -> type[BaseModel]:
        """The pydantic model of the hyper-parameters."""
        hints = get_type_hints(self.function, include_extras=True)
        fields: dict[str, Any] = {
            name: (hints[name], parameter.default)
            for name, parameter in inspect.signature(self.function).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        config = ConfigDict(
            extra="forbid", allow_inf_nan=False, protected_namespaces=(), validate_default=True
        )
        numbers: Any = field_validator("*", mode="before")(refuse_truth)
        return create_model(
            self.name, __config__=config, __validators__={"numbers": numbers}, **fields
        )

    @property
    def summary(self) -> str:
        """First line of the module's docstring, or of the function's."""
        module = inspect.getmodule(self.function)
        text = (module and inspect.getdoc(module)) or inspect.getdoc(self.function) or ""
        return text.partition("\n")[0].rstrip(".")

    def parameters(self) -> list[Parameter]:
        """Return the hyper-parameters with defaults and meaning, in order."""
        from docstring_parser import parse  # a tenth of a second that only `show` should pay

        documented = parse(self.function.__doc__ or "").params
        meanings = {entry.arg_name: entry.description or "" for entry in documented}
        allowed = self.schema.model_json_schema()["properties"]
        return [
            Parameter(
                name,
                _in_words(allowed[name]),
                field.default,
                " ".join(meanings.get(name, "").split()),
            )
            for name, field in self.schema.model_fields.items()
        ]

    @cached_property
    def space(self) -> tuple[Dimension, ...]:
        """What the hyper-parameters are searched over when the method is tuned.

        Raises:
            PluginError: If a declared range cannot be searched.
        """
        allowed = self.schema.model_json_schema()["properties"] if self.schema.model_fields else {}
        try:
            return derive_space(self.schema.model_fields, allowed, self.check.speed_only)
        except PluginError as error:
            raise PluginError(f"method {self.name!r}: {error}") from error

    def resolve(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Check hyper-parameters and fill in the defaults.

        Raises:
            ParameterError: For an unknown name, a wrong type or a value out of range; one line
                that names every fault.
        """
        try:
            return self.schema.model_validate(dict(given)).model_dump(mode="json")
        except ValidationError as error:
            raise ParameterError("; ".join(map(self._fault, error.errors()))) from None

    def _fault(self, fault: Any) -> str:
        name = ".".join(str(part) for part in fault["loc"]) or "parameters"
        if fault["type"] == "extra_forbidden":
            allowed = list(self.schema.model_fields)
            return (
                f"{self.name} has no parameter {name!r}{suggestion(name, allowed)} "
                f"(it has: {', '.join(allowed) or 'none'})"
            )
        reason = fault["msg"].removeprefix("Value error, ")
        return f"{self.name}.{name}={fault['input']!r}: {reason[:1].lower()}{reason[1:]}"


def _in_words(allowed: Mapping[str, Any]) -> str:
    """Say a JSON schema's type and range, such as ``number > 0 or null``."""
    if "anyOf" in allowed:
        return " or ".join(map(_in_words, allowed["anyOf"]))
    if "enum" in allowed:
        return " | ".join(map(str, allowed["enum"]))
    bounds = {">": "exclusiveMinimum", ">=": "minimum", "<": "exclusiveMaximum", "<=": "maximum"}
    limits = [f"{sign} {allowed[key]:g}" for sign, key in bounds.items() if key in allowed]
    return " ".join([str(allowed.get("type", "any")), ", ".join(limits)]).strip()


def first_line(function: Callable[..., Any]) -> int:
    """Return the line on which a function begins, 1 where that is unknown."""
    code = getattr(function, "__code__", None)
    return code.co_firstlineno if code else 1


def checked(method: Method) -> Method:
    """Return a method that can be used as it is declared, its quick parameters filled in.

    Raises:
        PluginError: With what is wrong; it does not say where, as the decorator knows that.
    """
    _check_name_and_access(method.name, method.access)
    _check_signature(method.name, method.function)
    if method.outputs is not None and method.kind != "control":
        raise PluginError(
            f"method {method.name!r}: outputs= hides what the weights still hold, which is not "
            'unlearning; change the weights, or declare kind="control"'
        )
    if method.fake and method.kind != "control":
        raise PluginError(
            f"method {method.name!r}: fake=True says that nothing is forgotten, so it is not an "
            'unlearning method; declare kind="control"'
        )
    if method.keeps_state and method.kind != "method":
        raise PluginError(
            f"method {method.name!r}: keeps_state=True is for methods; a {method.kind} starts from "
            "nothing at every request"
        )
    _check_scopes(method.name, method.forgets)
    _check_defaults(method)
    _check_sharded(method)
    _check_surrogates(method)
    quick = _allowed(method, "quick", method.check.quick)
    fake = method.fake or method.outputs is not None
    method = replace(method, fake=fake, check=replace(method.check, quick=quick))
    _check_probes(method)
    _ = method.space  # a range that cannot be searched is found at once, not while tuning
    return method


def _check_name_and_access(name: str, access: object) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_+-]*", name) or name == "all":
        raise PluginError(
            f"a method cannot be named {name!r}: --methods and --set could not address it; use "
            "letters, digits, _, + and -, and not `all`"
        )
    if not isinstance(access, Access):
        raise PluginError(
            f"method {name!r}: access={access!r} is not one of Access.FORGET, "
            "Access.RETAIN, Access.BOTH, Access.NONE"
        )


def _check_sharded(method: Method) -> None:
    if not method.access.checkpoints:
        return
    missing = {"shards", "slices"} - set(method.schema.model_fields)
    if missing:
        raise PluginError(
            f"method {method.name!r}: Access.CHECKPOINTS needs the parameters shards and slices, "
            f"by which its original is trained; add {' and '.join(sorted(missing))}"
        )
    if method.access.log:
        raise PluginError(
            f"method {method.name!r}: an original trained in shards has no training log; "
            "leave out Access.LOG or Access.CHECKPOINTS"
        )


def _check_surrogates(method: Method) -> None:
    if method.access.surrogate and "surrogates" not in method.schema.model_fields:
        raise PluginError(
            f"method {method.name!r}: Access.SURROGATE needs the parameter surrogates, how many "
            "images it is handed; add surrogates: PositiveInt = 1000"
        )


def _check_scopes(name: str, forgets: tuple[str, ...]) -> None:
    unknown = sorted(set(forgets) - set(SCOPES))
    if unknown or not forgets:
        raise PluginError(
            f"method {name!r}: forgets={forgets!r} must name some of {', '.join(SCOPES)}"
        )


def _check_defaults(entry: Method) -> None:
    """Find out at once, and not in the middle of a suite, that a parameter cannot be used."""
    try:
        entry.resolve({})
    except ParameterError as error:
        raise PluginError(f"a default is not allowed by its own type: {error}") from error
    except Exception as error:  # whatever a type hint that is not meant for values raises
        reason = str(error).partition("\n")[0]
        raise PluginError(
            f"method {entry.name!r}: parameters must be numbers, texts or lists of them: {reason}"
        ) from error


def _allowed(entry: Method, what: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as their types read them, such as a set as a list."""
    try:
        resolved = entry.resolve(given)
    except ParameterError as error:
        raise PluginError(f"method {entry.name!r}: {what}: {error}") from error
    return {name: resolved[name] for name in given}


def _check_probes(entry: Method) -> None:
    for name, declared in entry.check.probes.items():
        probe = declared if isinstance(declared, Probe) else Probe(declared)
        _allowed(
            entry, f"probes[{name!r}]", {**entry.check.quick, **probe.given, name: probe.value}
        )
    if not set(entry.check.speed_only) <= set(entry.schema.model_fields):
        raise PluginError(
            f"method {entry.name!r}: speed_only={entry.check.speed_only!r} names no parameter; "
            'write a single one with a comma: speed_only=("batch_size",)'
        )


def _check_signature(name: str, function: Callable[..., Any]) -> None:
    parameters = list(inspect.signature(function).parameters.values())
    wanted = "(model, ctx, *, hyper: T = default)"
    positional = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
    if len(positional) != 2 or any(p.kind is not p.POSITIONAL_OR_KEYWORD for p in positional):
        extra = [p.name for p in positional[2:] if p.kind is p.POSITIONAL_OR_KEYWORD]
        advice = f"; write * before {extra[0]!r}" if extra else ""
        raise PluginError(f"method {name!r}: the signature must be {wanted}{advice}")
    for parameter in parameters[2:]:
        if parameter.default is parameter.empty or parameter.annotation is parameter.empty:
            raise PluginError(
                f"method {name!r}: parameter {parameter.name!r} needs a type and a default: "
                f"{wanted}"
            )
