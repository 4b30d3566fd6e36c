"""YAML that remembers where each value stood, so that errors can point at it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from unlearn_bench.core.errors import ConfigError, RefusedError, suggestion
from unlearn_bench.core.reading import MIB, read_text

# A suite with the indices of 150,000 examples written out takes 2 MB.
SUITE_BYTES = 4 * MIB
DEPTH = 32
ALIASES = 100
GIVEN = 80  # characters of a wrong value that its message repeats
VALUES = 200_000  # each counted as often as an alias repeats it; PyYAML needs 20 s for them

Location = tuple[int | str, ...]


class BoundedLoader(yaml.SafeLoader):
    """Plain values only, of bounded depth, number and aliases.

    An alias counts as often as what it stands for has values. Every fault of a file is a
    :class:`yaml.MarkedYAMLError`.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._aliases = self._values = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose one node and all below it, counting."""
        before = self._values
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            self._aliases += 1
            self._within("aliases", self._aliases, ALIASES, event)
            node = super().compose_node(parent, index)
            self._values += self._sizes.get(id(node), 1)
        else:
            self._depth += 1
            self._within("lists or mappings in each other", self._depth, DEPTH, event)
            self._values += 1
            node = super().compose_node(parent, index)
            self._depth -= 1
            self._sizes[id(node)] = self._values - before
        self._within("values", self._values, VALUES, event)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Make the value of a node."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
            # PyYAML takes a tag at its word: a date of month 13, an integer of no digits.
            kind = str(node.tag).rpartition(":")[2]
            raise yaml.MarkedYAMLError(
                problem=f"cannot be read as {kind} ({error})",
                problem_mark=node.start_mark,
            ) from None

    def _within(self, what: str, count: int, most: int, event: yaml.Event) -> None:
        if count > most:
            raise yaml.MarkedYAMLError(
                problem=f"more than {most:,} {what}",
                problem_mark=event.start_mark,  # type: ignore[arg-type]
            )


def parse(text: str) -> tuple[yaml.Node | None, Any]:
    """Return the root node of a YAML text and its value.

    Raises:
        yaml.YAMLError: If it is not YAML of plain values within the bounds.
    """
    loader = BoundedLoader(text)
    try:
        node = loader.get_single_node()
        return node, None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


class YamlSource:
    """One YAML file: its value, and the line and column of every part of it.

    Raises:
        ConfigError: If the file cannot be read or is not YAML, with line and column.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._marks: dict[Location, yaml.Mark] = {}
        try:
            node, value = parse(read_text(path, SUITE_BYTES))
            if node is not None:
                self._remember(node, (), [])
            self.value: Any = value
        except OSError as error:
            raise ConfigError(f"cannot read the suite {path}: {error.strerror}") from error
        except RefusedError as error:
            raise ConfigError(f"{error}; give a suite's YAML file") from error
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
            given = repr(fault["input"])
            message += f" (given: {given if len(given) <= GIVEN else given[:GIVEN] + '...'})"
        place = f"{source.where(fault['loc'])}: " if source else ""
        lines.append(f"{place}{'.'.join(names) or 'suite'}: {message}")
    return "; ".join(lines)
