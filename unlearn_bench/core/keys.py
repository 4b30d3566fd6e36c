"""Content keys: the same specification gives the same key on every machine."""

import ast
import hashlib
import json
from pathlib import Path
from typing import Any

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def canonical_json(value: Any) -> str:
    """Serialise ``value`` so that equal values give equal text: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_key(value: Any) -> str:
    """Return the first 32 hex digits of the SHA-256 of ``value``'s canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:32]


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content as 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def code_hash(path: Path) -> str:
    """Return the SHA-256 of a Python file without its docstrings, as 64 hex digits.

    What is said about a function changes nothing that it does, so results outlive it. Docstrings
    are cut out of the text, which, unlike a syntax tree, is the same under every Python.

    Raises:
        SyntaxError: The file is not Python.
    """
    lines = path.read_bytes().splitlines(keepends=True)
    found = [node for node in ast.walk(ast.parse(b"".join(lines))) if isinstance(node, _DOCUMENTED)]
    spans = [node.body[0] for node in found if ast.get_docstring(node, clean=False) is not None]
    # From the last to the first, so that the places of the others stay what they were.
    for said in sorted(spans, key=lambda node: node.lineno, reverse=True):
        first, last = said.lineno - 1, (said.end_lineno or said.lineno) - 1
        before, after = lines[first][: said.col_offset], lines[last][said.end_col_offset :]
        lines[first : last + 1] = [before + after]
    return hashlib.sha256(b"".join(lines)).hexdigest()
