"""unlearn-bench: compare machine-unlearning methods honestly.

>>> import unlearn_bench as ub
>>> result = ub.unlearn(model, "pbu", forget=forget_set, retain=retain_set)
>>> scores = ub.evaluate(
...     unlearned=result, original=model, retrained=reference,
...     forget=forget_set, retain=retain_set, test=test_set,
... )

Plug-in authors import from :mod:`unlearn_bench.api`; the command line lives in
:mod:`unlearn_bench.cli`. Importing this package is cheap: it loads no torch, and each of the names
below loads what it needs when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlearn_bench.fisher import fisher_diagonal
    from unlearn_bench.library.listing import methods, metrics
    from unlearn_bench.library.named import splits
    from unlearn_bench.library.runs import Run, compare, load, run
    from unlearn_bench.library.scoring import Scores, evaluate
    from unlearn_bench.library.unlearning import Unlearned, unlearn
    from unlearn_bench.suite.recipe import Recipe

__version__ = "0.1.0"

__all__ = [
    "Recipe",
    "Run",
    "Scores",
    "Unlearned",
    "compare",
    "evaluate",
    "fisher_diagonal",
    "load",
    "methods",
    "metrics",
    "run",
    "splits",
    "unlearn",
]

_HOMES = {
    "unlearn_bench.fisher": ("fisher_diagonal",),
    "unlearn_bench.library.listing": ("methods", "metrics"),
    "unlearn_bench.library.named": ("splits",),
    "unlearn_bench.library.runs": ("Run", "compare", "load", "run"),
    "unlearn_bench.library.scoring": ("Scores", "evaluate"),
    "unlearn_bench.library.unlearning": ("Unlearned", "unlearn"),
    "unlearn_bench.suite.recipe": ("Recipe",),
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for home, names in _HOMES.items():
        if name in names:
            globals()[name] = found = getattr(import_module(home), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
