"""Errors that a user caused and can mend, printed as one line each.

A message says what was given, what is allowed and what to do. The command line prints it
without a traceback and ends with exit code 2; anything that is not a :class:`UserError`
is a defect of the suite and keeps its traceback.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches

# A family, its first number and the rest: `wide_resnet`, 28, `_10`.
_NUMBERED = re.compile(r"([a-z_]*[a-z])(\d{1,6})(.*)", re.DOTALL)


class UserError(Exception):
    """Base of every error whose one-line message is enough to mend it."""


class ConfigError(UserError):
    """A suite, flag or specification that cannot be understood."""


class UnknownNameError(UserError):
    """A name that no registered thing bears."""


class ParameterError(UserError):
    """A hyper-parameter or argument of wrong type or range."""


class AccessError(UserError):
    """A method read data that it did not declare."""


class PluginError(UserError):
    """A plug-in file or package that cannot be loaded."""


class DataError(UserError):
    """A dataset that is missing, truncated or of another shape than expected."""


class ModelError(UserError):
    """A model that cannot be built, or weights that do not fit it."""


class MethodError(UserError):
    """A method that returned something other than a usable model."""


class OutputError(UserError):
    """A results folder or artifact store that cannot be written or read."""


class RefusedError(UserError):
    """A file that is not read: of another kind, too large, too deep or damaged."""


def visible(text: str) -> str:
    r"""Return a text that anybody may have written so that a terminal shows it and obeys nothing.

    Escape sequences, other control characters, marks that turn the direction of writing, and
    bytes of a file name that are not text come out as escapes such as ``\x1b``; line ends and
    tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """Return the first line of a text, :func:`visible` and without tabs."""
    return visible(text.strip().partition("\n")[0]).replace("\t", "\\t")


def message(error: BaseException) -> str:
    """Return an exception's message, whatever its ``__str__`` does."""
    try:
        return str(error)
    except BaseException as another:  # of a plug-in, which may raise anything here too
        return f"its message cannot be shown: {type(another).__name__}"


def said(error: BaseException) -> str:
    """Return the first line of an exception's :func:`message`, as :func:`one_line` shows it."""
    return one_line(message(error))


def suggestion(given: str, allowed: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for what of ``allowed`` is closest, or ``""``.

    A name that was cut short suggests its continuations, the shortest first; one with a wrong
    number its relatives with other numbers (``resnet20``: ``resnet18``); others the closest in
    spelling.
    """
    by_lower = {name.lower(): name for name in allowed}
    wanted = given.lower()
    close = _continued(wanted, by_lower) or _of_family(wanted, by_lower)
    close = close or get_close_matches(wanted, by_lower, n=1, cutoff=0.6)
    shown = " or ".join(repr(by_lower[name]) for name in close)
    return f"; did you mean {shown}?" if close else ""


def _continued(given: str, names: Iterable[str]) -> list[str]:
    """Return the two shortest names that go on where ``given`` ends, at the end of a word."""
    ends = [
        name
        for name in names
        if len(given) > 2 and name.startswith(given) and not name[len(given) :][:1].isalnum()
    ]
    return sorted(ends, key=lambda name: (len(name), name))[:2]


def _of_family(given: str, names: Iterable[str]) -> list[str]:
    """Return the name of the same family whose first number is nearest, if none has that number."""
    asked = _NUMBERED.fullmatch(given)
    if asked is None:
        return []
    relatives = [
        (found[3] != asked[3], abs(int(found[2]) - int(asked[2])), len(name), name)
        for name in names
        if (found := _NUMBERED.fullmatch(name)) and found[1] == asked[1]
    ]
    known = any(distance == 0 for _, distance, _, _ in relatives)
    return [min(relatives)[-1]] if relatives and not known else []


def unknown_name(kind: str, given: str, allowed: Iterable[str], see: str) -> UnknownNameError:
    """Build the error for an unknown name, with the closest match and where to look.

    Args:
        kind: What the name should have named, such as ``"method"``.
        given: The name as the user wrote it.
        allowed: Every name that would have been accepted.
        see: The command that lists them.
    """
    return UnknownNameError(
        f"no {kind} named {given!r}{suggestion(given, allowed)} (`{see}` shows all)"
    )
