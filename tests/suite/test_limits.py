"""A suite is text that anybody may have written: it runs no code and asks for what is possible."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from unlearn_bench.core.errors import ConfigError, UserError
from unlearn_bench.suite import given
from unlearn_bench.suite.config import Overrides, expand, load_suite, resolve_suite
from unlearn_bench.suite.forget import Forget
from unlearn_bench.suite.spec import ModelSpec, Scenario, Suite

BASE = {"name": "s", "datasets": "digits", "models": "lenet", "scenarios": "class:8"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("checkpoint_path", "evil"),
        ("checkpoint_path", "evil.pth"),
        ("pretrained_cfg", "x"),
        ("pretrained_cfg_overlay", "x"),
        ("pretrained_strict", True),
        ("cache_dir", "x"),
        ("Weights", "x"),
        ("url", "x"),
        ("hub_id", "x"),
        ("model_dir", "x"),
        ("a.b", 1),
        ("__class__", 1),
        ("", 1),
        ("\x1b[31m", 1),
    ],
)
def test_an_argument_that_leads_to_files_or_addresses_is_refused(name, value):
    with pytest.raises(ValidationError, match="is not passed on to timm") as caught:
        ModelSpec(name="test_resnet", args={name: value})
    assert caught.value.errors()[0]["msg"].isprintable()


@pytest.mark.parametrize("value", ["a/b", "evil.pth", "http:x", "~x", "", "x" * 41, "a\0"])
def test_a_text_among_the_arguments_is_a_short_name(value):
    with pytest.raises(ValidationError, match="allowed are numbers, true, false and names"):
        ModelSpec(name="test_resnet", args={"act_layer": value})


@pytest.mark.parametrize("value", [10**9, -(10**9), float("inf"), float("nan")])
def test_a_number_among_the_arguments_is_bounded(value):
    with pytest.raises(ValidationError, match="larger than 65,536|finite"):
        ModelSpec(name="test_resnet", args={"depth": value})


def test_plain_arguments_are_passed_on():
    args = {"zero_init_last": False, "drop_rate": 0.1, "depth": 3, "act_layer": "gelu"}
    assert ModelSpec(name="resnet18", args=args).args == args


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seeds", 10**9),
        ("image_size", 10**9),
        ("threads", 10**9),
        ("name", "n" * 5000),
        ("models", "m" * 5000),
        ("methods", [{"name": "finetune", "label": "l" * 5000}]),
        ("methods", [{"name": "finetune", "label": "a\0b"}]),
        ("methods", [{"name": "finetune", "label": "\x1b[31m"}]),
        ("methods", [{"name": "finetune", "label": "\u202e"}]),
        ("methods", [{"name": "finetune", "label": "\ud800"}]),
        ("datasets", "d" * 5000),
    ],
)
def test_what_no_run_can_do_or_show_is_refused(key, value):
    with pytest.raises(ValidationError) as caught:
        Suite.model_validate(BASE | {key: value})
    assert key in caught.value.errors()[0]["loc"]


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("models", [f"m{i}" for i in range(20_000)]),
        ("scenarios", [f"indices:{i}" for i in range(20_000)]),
    ],
)
def test_long_lists_are_searched_for_repetitions_without_comparing_each_with_each(
    key: str, values: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []
    for kind in (ModelSpec, Scenario, Forget):
        monkeypatch.setattr(kind, "__eq__", lambda self, other: bool(compared.append(1)))
    suite = Suite.model_validate(BASE | {key: values})
    assert len(getattr(suite, key)) == len(values) and len(compared) <= len(values)
    with pytest.raises(ValidationError, match="is named twice"):
        Suite.model_validate(BASE | {key: [*values, values[7]]})


def test_a_plan_has_a_bounded_number_of_runs(monkeypatch):
    suite = Suite.model_validate(BASE | {"seeds": 10_000, "methods": "all"})
    with pytest.raises(ConfigError, match="asks for .* runs, more than the limit of 100,000"):
        expand(suite, device="cpu")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"0 0 0", "holds a mask of 3 zeros, which forgets nothing; write a 1 for every"),
        (b"0.5\n0.25", "holds something else in line 1 where an index was expected"),
        (b"index\n7\n\n1.png\n2", "in line 4 where"),
        (b"3\n\x1b[31m", "in line 2 where"),
        (b"index\n", "holds nothing where"),
        (b"\xff\xfe", "not a text file in UTF-8"),
        (b"\x93NUMPY\x01", "not a text file in UTF-8"),
        ("\u0663".encode(), "where an index was expected"),
        (b"9" * 5000, "huge index"),
    ],
)
def test_a_file_that_holds_no_indices_says_what_it_holds(content, message, tmp_path):
    path = tmp_path / "forget.txt"
    path.write_bytes(content)
    with pytest.raises(ValidationError, match=message):
        Forget.model_validate(f"indices:{path}")


def test_a_word_of_a_file_that_holds_no_indices_is_not_shown(tmp_path):
    path = tmp_path / "shadow"
    path.write_text("root:secret:20000:0:99999:7:::\n")
    with pytest.raises(ValidationError) as caught:
        Forget.model_validate(f"indices:{path}")
    assert "secret" not in caught.value.errors()[0]["msg"]


def test_indices_come_from_regular_files_of_bounded_size(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", "/dev/null", tmp_path / "pipe", tmp_path):
        with pytest.raises(ValidationError, match="cannot read the indices: .*only regular"):
            Forget.model_validate(f"indices:{path}")
    with (tmp_path / "f").open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(ValidationError, match="larger than"):
        Forget.model_validate(f"indices:{tmp_path / 'f'}")
    (tmp_path / "f").write_text("\n".join(map(str, range(150_001))))
    with pytest.raises(
        ValidationError, match="150,001 indices are given, more than the limit of 150,000"
    ):
        Forget.model_validate(f"indices:{tmp_path / 'f'}")
    with pytest.raises(ValidationError, match="names the home folder of an unknown user"):
        Forget.model_validate("indices:~nobody-of-that-name/f")


def test_two_indices_of_nought_and_one_are_indices(tmp_path):
    (tmp_path / "f").write_text("0\n1\n")
    assert Forget.model_validate(f"indices:{tmp_path / 'f'}").indices == (0, 1)


@pytest.mark.parametrize("text", ["class:" + "9" * 5000, "indices:" + "9" * 5000, "x" * 5000])
def test_a_scenario_of_any_length_is_refused_or_kept_short(text):
    try:
        forget = Forget.model_validate(text)
    except ValidationError as error:
        assert len(error.errors()[0]["msg"]) < 400
    else:
        assert forget.classes == ("9" * 5000,)


def test_weights_are_looked_at_before_they_are_digested(tmp_path, monkeypatch):
    def never(path: Path) -> str:
        raise AssertionError("digested")

    suite = Suite.model_validate(BASE | {"methods": "finetune"})
    monkeypatch.setattr(given, "file_hash", never)
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "sparse.safetensors").open("wb") as stream:
        stream.write((2).to_bytes(8, "little") + b"{}")
        stream.truncate(1 << 42)
    with (tmp_path / "sparse.pth").open("wb") as stream:
        stream.write(b"PK\x03\x04")
        stream.truncate(1 << 42)
    for name, message in (
        ("pipe", "pipe is a pipe; only regular files"),
        ("sparse.safetensors", "has 4.4 TB, but its header declares 10 B"),
        ("sparse.pth", "has 4.4 TB; at most 274.9 GB"),
        (".", "is a folder"),
    ):
        with pytest.raises(UserError, match=f"--original: .*{message}"):
            expand(suite, device="cpu", original=tmp_path / name)


def test_homes_that_nobody_has_are_named_with_the_flag():
    suite = Suite.model_validate(BASE | {"methods": "finetune"})
    with pytest.raises(ConfigError, match="--original: ~nobody-of-that-name/w names the home"):
        expand(suite, device="cpu", original=Path("~nobody-of-that-name/w"))
    with pytest.raises(ConfigError, match="the suite: ~nobody-of-that-name/s.yaml names"):
        load_suite("~nobody-of-that-name/s.yaml")


@pytest.mark.parametrize("value", ["[" * 100_000, "!!int ''", "9" * 5000, "2001-99-99"])
def test_a_setting_is_read_within_the_same_bounds(value):
    with pytest.raises(ConfigError, match="is not a YAML value"):
        resolve_suite(None, Overrides(settings=(f"finetune.epochs={value}",)))
