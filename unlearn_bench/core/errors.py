"""Errors that a user caused and can mend, printed as one line each.

A message says what was given, what is allowed and what to do. The command line prints it
without a traceback and ends with exit code 2; anything that is not a :class:`UserError`
is a defect of the suite and keeps its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches


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


def one_line(text: str) -> str:
    """Return the first line of a text that anybody may have written, fit for files and terminals.

    Control characters, and bytes of a file name that are no text, come out as escapes.
    """
    line = text.strip().partition("\n")[0]
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def suggestion(given: str, allowed: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest of ``allowed``, or ``""``."""
    by_lower = {name.lower(): name for name in allowed}
    close = get_close_matches(given.lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""


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
