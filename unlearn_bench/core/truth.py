"""Refuse true and false where a number or a name is meant.

Pydantic would take true for 1, and YAML reads an unquoted ``yes`` or ``on`` as true.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, get_args

from pydantic import BaseModel, ValidationInfo
from pydantic_core import PydanticCustomError


def refuse_truth(cls: type[BaseModel], value: Any, info: ValidationInfo) -> Any:
    """Refuse true and false for a field whose type does not name them, in lists too.

    To be used as a validator of all fields, before any other.

    Raises:
        PydanticCustomError: If there is one.
    """
    if _holds_truth(value) and not _admits_truth(_annotation(cls, str(info.field_name))):
        raise PydanticCustomError(
            "truth",
            "true and false are neither numbers nor names here; write a number, or quote a name",
        )
    return value


def _holds_truth(value: Any) -> bool:
    parts: Iterable[Any] = value if isinstance(value, list | tuple) else (value,)
    return any(isinstance(part, bool) for part in parts)


@lru_cache(maxsize=1024)
def _annotation(cls: type[BaseModel], name: str) -> Any:
    return cls.model_fields[name].annotation


def _admits_truth(annotation: Any) -> bool:
    """Say whether a type may hold true and false, as ``bool``, ``Any`` and a model may."""
    if annotation is Any or annotation is bool or annotation is object:
        return True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return True
    return any(
        part is True or part is False or _admits_truth(part) for part in get_args(annotation)
    )
