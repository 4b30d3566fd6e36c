"""How a notebook shows results: plain HTML tables, readable on light and dark."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

_LEFT, _RIGHT = "text-align:left", "text-align:right"


def facts_html(title: str, facts: Mapping[str, str]) -> str:
    """Return a table of two columns, a fact a row."""
    rows = "".join(
        f'<tr><th style="{_LEFT}">{escape(name)}</th><td style="{_LEFT}">{escape(text)}</td></tr>'
        for name, text in facts.items()
    )
    return f"<table><caption style='{_LEFT}'>{escape(title)}</caption>{rows}</table>"


def table_html(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], notes: Iterable[str] = ()
) -> str:
    """Return a table with a heading row; all columns but the first are numbers."""
    head = "".join(
        f'<th style="{_RIGHT if place else _LEFT}">{escape(name)}</th>'
        for place, name in enumerate(columns)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<td style="{_RIGHT if place else _LEFT}">{escape(cell)}</td>'
            for place, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    below = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return (
        f"<table><caption style='{_LEFT}'>{escape(title)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"
    )
