"""Errors in a suite's file point at the line and column they are about."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from unlearn_bench.core.errors import ConfigError
from unlearn_bench.suite.spec import Suite
from unlearn_bench.suite.yaml_source import YamlSource, describe, parse

Write = Callable[[str, str], Path]

TEXT = """\
# a comment
datasets: [digits, mnist]
recipe:
  epochs: 3
models:
  - name: lenet
    stem: small
"""


@pytest.mark.parametrize(
    ("location", "place"),
    [
        (("datasets",), "2:1"),
        (("datasets", 1), "2:20"),
        (("recipe", "epochs"), "4:3"),
        (("recipe", "lr"), "3:1"),
        (("models", 0, "stem"), "7:5"),
        (("models", 0, "stem", "deeper", 3), "7:5"),
        (("nowhere",), "2:1"),
    ],
)
def test_every_part_knows_its_place(
    location: tuple[int | str, ...], place: str, write: Write
) -> None:
    path = write("s.yaml", TEXT)
    assert YamlSource(path).where(location) == f"{path}:{place}"


def test_the_value_is_what_yaml_says(write: Write) -> None:
    value = YamlSource(write("s.yaml", TEXT)).value
    assert value == {
        "datasets": ["digits", "mnist"],
        "recipe": {"epochs": 3},
        "models": [{"name": "lenet", "stem": "small"}],
    }
    assert YamlSource(write("empty.yaml", "")).value is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\nb: 2\n", ":2:2: expected ',' or ']'"),
        ("a:\n\t- 1\n", ":2:1: found character '\\t'"),
        ("seeds: 1\nb: 2\nseeds: 3\n", ":3:1: the key 'seeds' is given twice, first in line 1"),
        ("a:\n  b: 1\n  b: 1\n", ":3:3: the key 'b' is given twice, first in line 2; keep one"),
        ("a: [{b: 1}, {b: 1, b: 2}]\n", ":1:20: the key 'b' is given twice"),
        ("a: &x [*x]\n", ":1:4: an alias inside of what it stands for"),
        ("a: !!python/object/apply:os.system [ls]\n", ":1:4: could not determine a constructor"),
        ("[1, 2]: 3\n", "found unhashable key"),
    ],
)
def test_what_is_not_a_usable_file_is_refused_with_its_place(
    text: str, message: str, write: Write
) -> None:
    path = write("s.yaml", text)
    with pytest.raises(ConfigError) as caught:
        YamlSource(path)
    assert str(caught.value).startswith(f"{path}:")
    assert message in str(caught.value)


def test_an_alias_used_twice_is_no_repetition(write: Write) -> None:
    value = YamlSource(write("s.yaml", "a: &x {k: 1}\nb: *x\nc: *x\n")).value
    assert value == {"a": {"k": 1}, "b": {"k": 1}, "c": {"k": 1}}


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the suite .*none.yaml: No such file"):
        YamlSource(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not a text file"):
        YamlSource(tmp_path / "binary.yaml")


def test_every_fault_of_a_suite_is_named_on_one_line(write: Write) -> None:
    source = YamlSource(write("s.yaml", "datsets: digits\nrecipe:\n  epoch: 3\nseeds: none\n"))
    with pytest.raises(ValidationError) as caught:
        Suite.model_validate({"name": "s"} | source.value)
    keys = {"": ["datasets", "recipe"], "recipe": ["epochs", "lr"]}
    line = describe(caught.value, keys, source)
    assert "\n" not in line
    assert f"{source.path}:1:1: datsets: unknown key; did you mean 'datasets'?" in line
    assert f"{source.path}:3:3: recipe.epoch: unknown key; did you mean 'epochs'?" in line
    assert f"{source.path}:4:1: seeds: write a number of seeds" in line
    assert "(given: 'none')" in line
    assert "models: field required" in line


def test_an_unknown_key_that_resembles_none_gets_the_list() -> None:
    with pytest.raises(ValidationError) as caught:
        Suite.model_validate({"name": "s", "recipe": {"zzz": 1}})
    line = describe(caught.value, {"recipe": ["epochs", "lr"]}, None)
    assert "recipe.zzz: unknown key (allowed: epochs, lr)" in line


def test_messages_speak_of_lists_and_mappings() -> None:
    with pytest.raises(ValidationError) as caught:
        Suite.model_validate({"name": "s", "methods": None, "params": [1]})
    line = describe(caught.value, {}, None)
    assert "methods: input should be a list (given: None)" in line
    assert "params: input should be a mapping" in line


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "more than 200,000 values"),
        ("a: &a {k: 1}\n" + "b: [" + "*a, " * 101 + "]", "more than 100 aliases"),
        ("a: " + "[" * 100_000, "more than 32 lists or mappings in each other"),
        ("{a: " * 100_000, "more than 32 lists or mappings in each other"),
        ("- " * 5000 + "x", "more than 32 lists or mappings in each other"),
        ("seeds: " + "9" * 5000, ":1:8: cannot be read as int"),
        ("a: 2001-99-99", ":1:4: cannot be read as timestamp"),
        ("a: !!int ''", ":1:4: cannot be read as int"),
        ("a: !!bool x", ":1:4: cannot be read as bool"),
        ("a: !!timestamp x", ":1:4: cannot be read as timestamp"),
        ("--- a\n--- b\n", "found another document"),
    ],
)
def test_a_file_that_would_take_all_memory_or_time_is_refused_at_its_place(
    text: str, message: str, write: Write
) -> None:
    with pytest.raises(ConfigError) as caught:
        YamlSource(write("s.yaml", text))
    assert message in str(caught.value)


def test_a_file_that_is_too_large_or_no_file_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "s.yaml").open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(ConfigError, match="larger than 4.2 MB"):
        YamlSource(tmp_path / "s.yaml")
    for path, kind in ((Path("/dev/zero"), "a device"), (tmp_path, "a folder")):
        with pytest.raises(ConfigError, match=f"is {kind}; only regular files are read"):
            YamlSource(path)


def test_what_resembles_a_bomb_but_is_small_is_read(write: Write) -> None:
    text = "a: &a {k: 1}\nd: &d {m: 3}\nb: {<<: [*a, *d], l: 2}\nc: " + "[" * 20 + "]" * 20
    assert YamlSource(write("s.yaml", text)).value["b"] == {"k": 1, "m": 3, "l": 2}


def test_a_wrong_value_is_repeated_in_part_only(write: Write) -> None:
    source = YamlSource(write("s.yaml", f"seeds: {'x' * 5000}"))
    with pytest.raises(ValidationError) as caught:
        Suite.model_validate({"name": "s"} | source.value)
    assert len(describe(caught.value, {}, source)) < 800


@given(st.text(alphabet="[]{}:,&*!<>-? ab1\n\t'\"|%@`#", max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_is_yaml_or_refused_in_one_error(text: str) -> None:
    with contextlib.suppress(yaml.YAMLError):
        parse(text)
