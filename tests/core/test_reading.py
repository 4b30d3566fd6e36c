"""Whatever a stranger made is read within bounds, or refused in one line."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unlearn_bench.core.errors import ConfigError, RefusedError, one_line, visible
from unlearn_bench.core.reading import (
    decoded,
    expand_user,
    is_regular,
    parse_json,
    read_bytes,
    read_json,
    read_text,
)


def test_a_regular_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    assert read_bytes(path, 5) == b"12345"
    with pytest.raises(RefusedError, match="f is larger than 4 B, the limit"):
        read_bytes(path, 4)


def test_a_file_that_says_it_is_empty_is_bounded_while_it_is_read() -> None:
    endless = Path("/proc/self/maps")
    assert endless.stat().st_size == 0
    with pytest.raises(RefusedError, match="larger than 10 B"):
        read_bytes(endless, 10)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for path, kind in (
        (tmp_path / "pipe", "a pipe"),
        (tmp_path, "a folder"),
        (tmp_path / "link", "a device"),
    ):
        with pytest.raises(RefusedError, match=f"is {kind}; only regular files"):
            read_bytes(path, 10)
        assert not is_regular(path)
    assert not is_regular(tmp_path / "none") and not is_regular(Path("a\0b"))


def test_links_are_followed_only_where_they_may_be(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "f")
    assert read_bytes(tmp_path / "link", 1) == b"x"
    with pytest.raises(RefusedError, match="is a symbolic link"):
        read_bytes(tmp_path / "link", 1, links=False)
    assert is_regular(tmp_path / "link") and not is_regular(tmp_path / "link", links=False)


def test_text_is_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"\xef\xbb\xbfL\xc3\xb6we")
    assert read_text(path, 99) == "Löwe"
    path.write_bytes("Löwe".encode("latin-1"))
    with pytest.raises(RefusedError, match="not a text file in UTF-8: byte 1 is 0xf6"):
        read_text(path, 99)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 1000, "[" * 65 + "]" * 65])
def test_json_of_any_depth_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match="nests lists and objects more than 64 deep"):
        parse_json(text, "it")


@pytest.mark.parametrize("text", ["[" * 64 + "]" * 64, '"[[["', r'"\"[["', "[[],[],[]]" * 1])
def test_depth_is_of_brackets_outside_of_strings(text: str) -> None:
    assert parse_json(text, "it", depth=64) == json.loads(text)


@pytest.mark.parametrize(
    "text", ["NaN", "[Infinity]", "-Infinity", "1e999", "{", "", '"\\', "9" * 5000]
)
def test_json_that_is_none_or_not_finite_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match="it is not valid JSON") as caught:
        parse_json(text, "it")
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=60))
def test_bytes_are_json_or_refused_in_one_line(data: bytes) -> None:
    try:
        parse_json(data, "it")
    except RefusedError as error:
        assert "\n" not in str(error)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63) + 1, 2**63 - 1)
        | st.text()
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_whatever_json_writes_is_read_again(value: object) -> None:
    assert parse_json(json.dumps(value), "it") == value


def test_a_json_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_text('{"a": 1}')
    assert read_json(tmp_path / "f") == {"a": 1}
    assert decoded(b"a", "it") == "a"


def test_a_home_that_nobody_has_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="HOME_OF_IT: ~nobody-of-that-name/x names the home"):
        expand_user(Path("~nobody-of-that-name/x"), "HOME_OF_IT")
    with pytest.raises(ConfigError, match="NUL"):
        expand_user(Path("a\0b"), "--x")
    monkeypatch.setenv("HOME", "/h")
    assert expand_user(Path("~/x"), "it") == Path("/h/x")


@given(st.text())
def test_what_is_visible_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    shown = visible(text)
    assert all(c.isprintable() or c in "\n\t" for c in shown)
    assert one_line(text).isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\u202eb", "a\\u202eb"),
        ("\udcff", "\\udcff"),
        ("a\0b", "a\\x00b"),
        ("\x9b31m", "\\x9b31m"),
        ("Löwe 猫 🦁", "Löwe 猫 🦁"),
        ("a\tb\nc", "a\tb\nc"),
    ],
)
def test_escapes_are_shown_and_writing_is_kept(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize("text", ["1e400", "-1E+0400", "9" * 400 + ".0", "[1, NaN]", "9" * 30])
def test_a_number_that_is_too_large_is_refused_beside_strings_that_look_like_one(text: str) -> None:
    with pytest.raises(RefusedError):
        parse_json(f'{{"e4000": {text}}}', "f")
    assert parse_json(json.dumps({"e4000": text}), "f") == {"e4000": text}


@pytest.mark.parametrize("inside", ['"', "\\", '\\"[', "[" * 99, "]{"])
def test_brackets_within_strings_do_not_count(inside: str) -> None:
    assert parse_json(json.dumps([inside, [[inside]]]), "f", depth=3) == [inside, [[inside]]]
    with pytest.raises(RefusedError, match="more than 2 deep"):
        parse_json(json.dumps([inside, [[inside]]]), "f", depth=2)
