"""What `unlearn-bench list` and `show` print, as plain rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unlearn_bench import registry
from unlearn_bench.errors import unknown_name


@dataclass(frozen=True)
class Listing:
    """A table of texts; the first column holds the names."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def _methods() -> Listing:
    rows = [
        (name, entry.kind, str(entry.access), entry.source, entry.summary)
        for name, entry in registry.methods().items()
    ]
    return Listing(("name", "kind", "reads", "source", "what it does"), rows)


def _models() -> Listing:
    from unlearn_bench import models

    return Listing(("name",), [(name,) for name in models.names()])


def _datasets() -> Listing:
    from unlearn_bench.data import datasets

    rows = [(name, source.description) for name, source in datasets.SOURCES.items()]
    return Listing(("name", "what it is"), rows)


def _metrics() -> Listing:
    from unlearn_bench import metrics

    rows = [(m.name, m.ideal, m.cost, m.definition) for m in metrics.metrics().values()]
    return Listing(("name", "ideal", "cost", "definition"), rows)


def _suites() -> Listing:
    from unlearn_bench import config

    rows = [(name, config.load_suite(name).description) for name in config.suite_files()]
    return Listing(("name", "what it runs"), rows)


LISTINGS: dict[str, Callable[[], Listing]] = {
    "methods": _methods,
    "models": _models,
    "datasets": _datasets,
    "metrics": _metrics,
    "suites": _suites,
}


def describe(name: str) -> list[tuple[str, str | Listing]]:
    """Return headed texts and tables about a method or a metric.

    Raises:
        UnknownNameError: If nothing bears the name.
    """
    methods = registry.methods()
    if name in methods:
        return _method(methods[name])
    from unlearn_bench import metrics

    known = metrics.metrics()
    if name in known:
        metric = known[name]
        return [
            ("metric", metric.name),
            ("definition", metric.definition),
            ("ideal", metric.ideal),
            ("cost", metric.cost),
            ("source", metric.source or "this project"),
        ]
    raise unknown_name("method or metric", name, [*methods, *known], "unlearn-bench list methods")


def _method(entry: registry.Method) -> list[tuple[str, str | Listing]]:
    rows = [(p.name, p.type, repr(p.default), p.meaning) for p in entry.parameters()]
    facts: list[tuple[str, str | Listing]] = [
        (entry.kind, f"{entry.name}: {entry.summary}"),
        ("reads", str(entry.access)),
        ("source", entry.source or "this project"),
        ("file", str(entry.file)),
    ]
    if rows:
        facts.append(("parameters", Listing(("name", "type", "default", "meaning"), rows)))
    return facts
