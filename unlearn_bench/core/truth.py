"""True is no number: pydantic would take it for 1, and YAML writes it for ``yes`` and ``on``."""

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
    """Whether a type has true and false among its values, or may have: Any, or a model's."""
    if annotation is Any or annotation is bool or annotation is object:
        return True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return True
    return any(
        part is True or part is False or _admits_truth(part) for part in get_args(annotation)
    )
