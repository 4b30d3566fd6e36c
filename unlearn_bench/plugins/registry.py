"""Names to methods: registration by decorator, discovery by entry point and by file.

A plug-in file may register metrics as well, or only them: see ``plugins/metric.py``.
"""

import contextlib
import importlib.metadata
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unlearn_bench.core.errors import PluginError, said, unknown_name
from unlearn_bench.core.exits import exits_raise
from unlearn_bench.core.keys import content_key
from unlearn_bench.core.reading import real_path
from unlearn_bench.plugins import PLUGIN_MODULE, parts
from unlearn_bench.plugins.access import Access
from unlearn_bench.plugins.method import (
    NO_CHECK,
    SCOPES,
    Check,
    Kind,
    Method,
    OutputFilter,
    Scope,
    checked,
    first_line,
)
from unlearn_bench.plugins.metric import plugin_metric_files

ENTRY_POINTS = "unlearn_bench.methods"

# By name; what tests and notebooks put here for a while is theirs to take away.
REGISTERED: dict[str, Method] = {}
_loaded_entry_points = False


def register(method: Method) -> None:
    """Add ``method`` to the registry.

    The same name from the same function of the same file replaces the older entry, so that a
    module may be imported again.

    Raises:
        PluginError: If another function already registered the name.
    """
    known = REGISTERED.get(method.name)
    if known is not None and known.place != method.place:
        raise PluginError(
            f"two methods are named {method.name!r}: {known.place} and {method.place}; rename one"
        )
    REGISTERED[method.name] = method


def method(
    name: str,
    *,
    access: Access,
    source: str = "",
    kind: Kind = "method",
    outputs: OutputFilter | None = None,
    family: str = "",
    year: int | None = None,
    forgets: tuple[Scope, ...] = SCOPES,
    check: Check = NO_CHECK,
    fake: bool = False,
    keeps_state: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function as the unlearning method ``name``.

    Args:
        name: Unique name, as used by ``--methods`` and in reports.
        access: The data it reads; anything undeclared is refused at run time.
        source: Publication, such as ``arXiv:2403.16246``.
        kind: ``method`` for everything that claims to unlearn; ``control`` for what only tests
            the evaluation; ``reference`` for retraining.
        outputs: For controls only: ``(logits, forget_classes) -> logits``, applied to the
            outputs that metrics see. The weights are stored and probed unfiltered, because anyone
            who has the weights can drop the filter. Not applied if no class is forgotten.
        family: How it works, for listings: ``ascent``, ``relabelling``, ``distillation``, ...
        year: Year of publication.
        forgets: Kinds of scenarios it is made for, some of ``SCOPES``; by default all. It is left
            out of the others, and the report says so.
        check: What `unlearn-bench check` needs to know, see :class:`Check`.
        fake: For controls only: whether the weights still hold what is hidden, as with
            ``outputs``, which says so by itself. A metric that does not tell a fake from
            retraining is marked as fooled.
        keeps_state: Whether it keeps tensors and plain values from one request of a stream to the
            next, in ``ctx.state``.

    Raises:
        PluginError: If the name, the access or the signature cannot be used, or a default is
            not allowed by its own type.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        file = Path(inspect.getfile(function)).resolve()
        try:
            given = (outputs, family, year, tuple(forgets), check, fake, keeps_state)
            entry = checked(Method(name, function, access, source, kind, file, *given))
        except PluginError as error:
            raise PluginError(f"{file}:{first_line(function)}: {error}") from error
        register(entry)
        return function

    return decorate


def methods() -> dict[str, Method]:
    """Return every registered method by name, controls and the reference included."""
    load_packages()
    return {n: method for n, method in sorted(REGISTERED.items()) if method.kind != "given"}


def get(name: str) -> Method:
    """Return the method ``name``.

    Raises:
        UnknownNameError: If there is none; names the closest match.
    """
    load_packages()
    if name not in REGISTERED:
        raise unknown_name("method", name, methods(), "unlearn-bench list methods")
    return REGISTERED[name]


def load_packages() -> None:
    """Load installed packages, which register methods, metrics, models and datasets, once."""
    global _loaded_entry_points
    if _loaded_entry_points:
        return
    _loaded_entry_points = True
    entries = importlib.metadata.entry_points(group=ENTRY_POINTS)
    # First: no package may come before with a reference or control of the same name.
    for entry in sorted(entries, key=lambda entry: entry.name != "builtin"):
        try:
            entry.load()
        except Exception as error:
            # A broken third-party package must not take the suite down with it.
            if entry.name == "builtin":
                raise
            warnings.warn(
                f"plug-in package {entry.value!r} cannot be loaded and is skipped: {error}",
                stacklevel=2,
            )


def load_plugin(path: Path) -> list[str]:
    """Run the plug-in file ``path`` and return the names of the methods that it registered.

    There are none where it registers metrics, models or datasets only.

    Raises:
        PluginError: If it cannot be read, has a syntax error, raises, or registers nothing.
    """
    load_packages()
    path = real_path(path, "--plugin")
    if not path.is_file():
        raise PluginError(f"no plug-in file {path}; give the path of a Python file")
    name = f"{PLUGIN_MODULE}{content_key(str(path))[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} is not a Python file (it must end in .py)")
    module = importlib.util.module_from_spec(spec)
    others = {n: (m, as_called(m)) for n, m in REGISTERED.items() if m.file != path}
    sys.modules[name] = module  # before running: dataclasses and type hints look it up
    try:
        with exits_raise(), contextlib.chdir("."):  # relative paths mean what the user meant
            spec.loader.exec_module(module)
    except PluginError as error:
        if str(error).startswith(f"{path}:"):
            raise
        raise PluginError(f"{path}:{_line_in(error, path)}: {error}") from error
    except SyntaxError as error:
        place = f"{error.filename or path}:{error.lineno or 1}"
        raise PluginError(f"{place}: {error.msg}") from error
    except (Exception, SystemExit, GeneratorExit) as error:  # a script that ends is no plug-in
        raise PluginError(
            f"{path}:{_line_in(error, path)}: {type(error).__name__}: {said(error)}"
            f"{_advice(error, path)}"
        ) from error
    _refuse_replaced(path, others)
    added = [name for name, known in REGISTERED.items() if known.file == path]
    if not added and path not in plugin_metric_files() | parts.files():
        raise PluginError(
            f"{path} registers nothing; decorate a function with "
            '@method("name", access=Access.FORGET), @metric("name"), @model("name") or '
            '@dataset("name") from unlearn_bench.api'
        )
    return added


def as_called(method: Method) -> tuple[Any, ...]:
    """Return what is called when a method is."""
    function = method.function
    return function, getattr(function, "__code__", None), vars(method).get("code_key")


def _refuse_replaced(path: Path, others: Mapping[str, tuple[Method, tuple[Any, ...]]]) -> None:
    """Refuse a plug-in that puts its own in place of a method that others define.

    What is judged by a false reference, or beside false controls, is judged wrongly for ever
    after: the store keeps them.

    Raises:
        PluginError: With the method; the registry is put back.
    """
    for name, (method, called) in others.items():
        function, code, _ = called
        if REGISTERED.get(name) is method and as_called(method) == called:
            continue
        REGISTERED.update({known: entry for known, (entry, _) in others.items()})
        if code is not None:
            function.__code__ = code
        vars(method).pop("code_key", None)
        raise PluginError(
            f"{path} replaces the {method.kind} {name!r}, which {method.file.name} defines and "
            "others are compared with; register yours under another name"
        )


def built_in_codes() -> dict[str, str]:
    """Return the code keys of the reference and the controls that the package itself defines."""
    here = importlib.util.find_spec("unlearn_bench_methods")
    folders = [Path(place).resolve() for place in (here and here.submodule_search_locations) or ()]
    return {
        name: method.code_key
        for name, method in methods().items()
        if method.kind in ("reference", "control") and method.file.parent in folders
    }


def _advice(error: BaseException, path: Path) -> str:
    """Say what to do where a plug-in imports what lies beside it: only its own text travels."""
    beside = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0]
    if beside and any((path.parent / name).exists() for name in (beside, f"{beside}.py")):
        return "; a plug-in is one file: put both into one, or install them as a package"
    return ""


def _line_in(error: BaseException, path: Path) -> int:
    """Return the last line of ``path`` in the error's traceback."""
    lines, frame = [1], error.__traceback__
    while frame is not None:
        if Path(frame.tb_frame.f_code.co_filename) == path:
            lines.append(frame.tb_lineno)
        frame = frame.tb_next
    return lines[-1]
