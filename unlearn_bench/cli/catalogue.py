"""What `unlearn-bench list` and `show` print, as plain rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unlearn_bench.core.errors import ConfigError, UnknownNameError, suggestion, unknown_name
from unlearn_bench.plugins import registry
from unlearn_bench.plugins.access import SPLITS, Access
from unlearn_bench.plugins.method import SCOPE_NAMES, SCOPES, Kind, Method
from unlearn_bench.plugins.metric import Direction, MetricInfo, Role
from unlearn_bench.plugins.parts import parts

PARAMETER_COLUMNS = ("name", "type", "default", "origin", "meaning")
BETTER: dict[Direction, str] = {
    "retrain": "closer to retraining's value",
    "less": "less",
    "none": "neither higher nor lower",
}
IN_THE_VERDICT: dict[Role, str] = {
    "primary": "primary: it decides",
    "secondary": "no; tested for power and against fakes",
    "legacy": "no; in an appendix, tested against fakes",
    "": "no",
}


@dataclass(frozen=True)
class Listing:
    """A table of texts; the first column holds the names."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def _methods(*kinds: Kind) -> Listing:
    rows = [
        (name, str(entry.access), entry.family, str(entry.year or ""), entry.source, entry.summary)
        for name, entry in registry.methods().items()
        if entry.kind in kinds
    ]
    return Listing(("name", "reads", "family", "year", "source", "what it does"), rows)


def _models() -> Listing:
    from unlearn_bench.training import models

    rows = [(name, models.summary(name)) for name in models.names()]
    return Listing(("name", "what it is, where timm lacks it"), rows)


def _datasets() -> Listing:
    from unlearn_bench.data import datasets

    rows = [(name, source.description) for name, source in datasets.SOURCES.items()]
    rows += [(name, part.summary) for name, part in parts("dataset").items()]
    return Listing(("name", "what it is"), rows)


def _metrics() -> Listing:
    rows = [(m.name, m.ideal, m.cost, m.definition) for m in _known_metrics().values()]
    return Listing(("name", "ideal", "cost", "definition"), rows)


def _known_metrics() -> dict[str, MetricInfo]:
    """Return the metrics of single runs by name, then those of streams and of many models."""
    from unlearn_bench.population.metrics import MANY
    from unlearn_bench.results.facts import known_metrics
    from unlearn_bench.results.stream import STREAM

    return {**known_metrics(), **STREAM, **MANY}


def _scenarios() -> Listing:
    from unlearn_bench.suite.forget import FORMS

    return Listing(("name", "who is forgotten"), [(form.text, form.meaning) for form in FORMS])


def _suites() -> Listing:
    from unlearn_bench.suite import config

    rows = [(name, config.load_suite(name).description) for name in config.suite_files()]
    return Listing(("name", "what it runs"), rows)


LISTINGS: dict[str, Callable[[], Listing]] = {
    "methods": lambda: _methods("method", "reference"),
    "controls": lambda: _methods("control"),
    "models": _models,
    "datasets": _datasets,
    "scenarios": _scenarios,
    "metrics": _metrics,
    "suites": _suites,
}


def listing(what: str, access: str | None = None, family: str | None = None) -> Listing:
    """Return a listing, of methods perhaps narrowed down.

    Args:
        what: One of ``LISTINGS``.
        access: What somebody has, such as ``forget+retain``: only methods that need no more.
        family: Only methods of this family.

    Raises:
        UnknownNameError: If there is no such listing, or no method of the family.
        ConfigError: If something other than methods is to be narrowed down, or ``access`` names
            what is not there.
    """
    if what not in LISTINGS:
        raise unknown_name("list", what, LISTINGS, "unlearn-bench list --help")
    whole = LISTINGS[what]()
    if access is None and family is None:
        return whole
    if what not in ("methods", "controls"):
        raise ConfigError(f"--access and --family choose among methods; {what} have neither")
    known = registry.methods()
    families = {known[row[0]].family for row in whole.rows}
    if family is not None and family not in families:
        raise UnknownNameError(
            f"no family named {family!r}{suggestion(family, families)} (families: "
            f"{', '.join(sorted(filter(None, families)))})"
        )
    has = Access.NONE if access is None else _access(access)
    rows = [
        row
        for row in whole.rows
        if (access is None or has.covers(known[row[0]].access))
        and (family is None or known[row[0]].family == family)
    ]
    return Listing(whole.columns, rows)


def _access(text: str) -> Access:
    allowed = (*SPLITS, "log", "checkpoints", "nothing")
    parts = [part.strip() for part in text.split("+")]
    wrong = [part for part in parts if part not in allowed]
    if wrong:
        raise ConfigError(
            f"--access {text}: {wrong[0]!r} is not among {', '.join(allowed)}; join several with +"
        )
    return Access(**{part: True for part in parts if part != "nothing"})


def describe(name: str) -> list[tuple[str, str | Listing]]:
    """Return headed texts and tables about a method or a metric.

    Raises:
        UnknownNameError: If nothing bears the name.
    """
    methods = registry.methods()
    if name in methods:
        return _method(methods[name])
    known = _known_metrics()
    if name in known:
        return _metric(known[name])
    raise unknown_name("method or metric", name, [*methods, *known], "unlearn-bench list methods")


def _metric(info: MetricInfo) -> list[tuple[str, str | Listing]]:
    facts: list[tuple[str, str | Listing]] = [
        ("metric", info.name),
        ("in tables", info.label or info.name),
        ("definition", info.definition),
        ("ideal", info.ideal),
        ("better", BETTER[info.direction]),
        ("in the verdict", IN_THE_VERDICT[info.role]),
    ]
    if info.role:
        facts.append(("never matters", f"a difference to retraining up to {info.floor:g}"))
    if info.forgets:
        facts.append(("measured in", ", ".join(SCOPE_NAMES[scope] for scope in info.forgets)))
    return [*facts, ("cost", info.cost), ("source", info.source or "this project")]


def made_for(entry: Method) -> str:
    """Say in words for which kinds of scenario a method is made."""
    if set(entry.forgets) == set(SCOPES):
        return "every kind of scenario"
    return ", ".join(SCOPE_NAMES[scope] for scope in entry.forgets)


def _method(entry: Method) -> list[tuple[str, str | Listing]]:
    rows = [(p.name, p.type, repr(p.default), p.origin, p.explanation) for p in entry.parameters()]
    facts: list[tuple[str, str | Listing]] = [
        (entry.kind, f"{entry.name}: {entry.summary}"),
        ("reads", str(entry.access)),
        ("family", entry.family or "none named"),
        ("year", str(entry.year or "not published")),
        ("made for", made_for(entry)),
        *([("keeps", "a state between the requests of a stream")] if entry.keeps_state else []),
        ("source", entry.source or "this project"),
        ("file", str(entry.file)),
    ]
    if rows:
        facts.append(("parameters", Listing(PARAMETER_COLUMNS, rows)))
    if entry.space and entry.kind == "method":
        searched = [(dimension.name, str(dimension)) for dimension in entry.space]
        facts.append(("searched by `unlearn-bench tune`", Listing(("name", "values"), searched)))
    return facts
