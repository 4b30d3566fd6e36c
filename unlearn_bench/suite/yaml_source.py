"""YAML that remembers where each value stood, so that errors can point at it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from unlearn_bench.core.errors import ConfigError, suggestion

Location = tuple[int | str, ...]


class YamlSource:
    """One YAML file: its value, and the line and column of every part of it.

    Raises:
        ConfigError: If the file cannot be read or is not YAML, with line and column.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._marks: dict[Location, yaml.Mark] = {}
        try:
            text = path.read_text()
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            if node is not None:
                self._remember(node, (), [])
            self.value: Any = yaml.safe_load(text)
        except OSError as error:
            raise ConfigError(f"cannot read the suite {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is not a text file: {error.reason}") from error
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
            raise ConfigError(f"{path}{where}: {getattr(error, 'problem', error)}") from error

    def _remember(self, node: yaml.Node, location: Location, parents: list[yaml.Node]) -> None:
        if any(node is parent for parent in parents):
            raise yaml.MarkedYAMLError(
                problem="an alias inside of what it stands for", problem_mark=parents[-1].start_mark
            )
        self._marks[location] = node.start_mark
        inside = [*parents, node]
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                # PyYAML's own complaint about a list as key is the better one.
                name = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
                here = (*location, name)
                if isinstance(key, yaml.ScalarNode) and here in self._marks:
                    # PyYAML would keep the last and say nothing.
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {name!r} is given twice, first in line "
                        f"{self._marks[here].line + 1}; keep one",
                        problem_mark=key.start_mark,
                    )
                self._remember(value, here, inside)
                self._marks[here] = key.start_mark
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self._remember(item, (*location, index), inside)

    def where(self, location: Location) -> str:
        """Return ``file:line:column`` of the closest part of ``location`` that is in the file."""
        while location and location not in self._marks:
            location = location[:-1]
        mark = self._marks.get(location)
        return f"{self.path}:{mark.line + 1}:{mark.column + 1}" if mark else str(self.path)


def describe(
    error: ValidationError,
    allowed: dict[str, Sequence[str]],
    source: YamlSource | None,
) -> str:
    """Put every fault of a validation on one line, each with place, key and remedy.

    Args:
        error: What pydantic found.
        allowed: For each section (the last name in a fault's path; ``""`` for the top) its keys.
        source: The file, if the values came from one.
    """
    lines = []
    for fault in error.errors():
        names = [str(part) for part in fault["loc"]]
        message = fault["msg"].removeprefix("Value error, ")
        for python, plain in (("a valid tuple", "a list"), ("a valid dictionary", "a mapping")):
            message = message.replace(python, plain)
        message = f"{message[:1].lower()}{message[1:]}"
        if fault["type"] == "extra_forbidden":
            section = next((n for n in reversed(names[:-1]) if not n.isdigit()), "")
            keys = allowed.get(section, ())
            message = f"unknown key{suggestion(names[-1], keys)}"
            if keys and ";" not in message:
                message += f" (allowed: {', '.join(keys)})"
        elif fault["type"] != "missing" and not isinstance(fault["input"], dict | list):
            message += f" (given: {fault['input']!r})"
        place = f"{source.where(fault['loc'])}: " if source else ""
        lines.append(f"{place}{'.'.join(names) or 'suite'}: {message}")
    return "; ".join(lines)
