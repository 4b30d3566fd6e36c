"""Texts of anybody stand in pages, tables and spreadsheets for themselves and nothing else."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearn_bench.core.text import as_cell, csv_text, from_cell, readable, shortened

texts = st.text(st.characters() | st.sampled_from("=+-@\t\r'\0\udcff\u202e"), max_size=12)


@given(texts)
def test_what_is_readable_can_be_written_anywhere(text: str) -> None:
    shown = readable(text)
    shown.encode()
    assert len(shown) == len(text) and readable(shown) == shown
    assert not any(c < " " and c not in "\t\n" for c in shown) and "\u202e" not in shown


@given(texts)
def test_no_cell_is_a_formula_and_its_text_comes_back(text: str) -> None:
    cell = as_cell(text)
    assert cell[:1] not in ("=", "+", "-", "@", "\t", "\r") or not cell
    assert from_cell(cell) == text


@pytest.mark.parametrize("text", ["=HYPERLINK(0)", "+1", "-1", "@a", "'=1"])
def test_a_formula_has_a_quote_before_it(text: str) -> None:
    assert as_cell(text) == f"'{text}"
    assert as_cell("a=b") == "a=b" and as_cell("'a") == "'a"


def test_numbers_of_a_table_stay_numbers() -> None:
    written = csv_text([["=a", -1.5, None]])
    assert written == "'=a,-1.5,\n"
    assert next(csv.reader(io.StringIO(written))) == ["'=a", "-1.5", ""]


@given(texts, st.integers(3, 9))
def test_a_shortened_text_keeps_its_ends(text: str, most: int) -> None:
    found = shortened(text, most)
    assert len(found) <= most and found[:1] == text[:1] and found[-1:] == text[-1:]
