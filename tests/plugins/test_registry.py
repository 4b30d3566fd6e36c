"""What counts as a method, and what a plug-in file that holds none is told."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unlearn_bench.core.errors import ParameterError, PluginError, UnknownNameError
from unlearn_bench.plugins import registry
from unlearn_bench.plugins.access import Access
from unlearn_bench.plugins.method import Method

Write = Callable[[str, str], Path]

pytestmark = pytest.mark.usefixtures("own_registry")

HEAD = """\
from typing import Annotated, Literal
from pydantic import Field
from unlearn_bench.api import *
"""
SIGNED = '@method("mine", access=Access.FORGET)\n'
CHECKED = "@method('mine', access=Access.NONE, check=Check("
GIVEN = "@method('mine', access=Access.NONE, "
COUNTED = "def f(model, ctx, *, epochs: PositiveInt = 1): ...\n"


@pytest.fixture
def mine(write: Write) -> Method:
    path = write(
        "mine.py",
        f'''"""Mine: a method of my own."""\n{HEAD}{SIGNED}def mine(
    model, ctx, *, lr: PositiveFloat = 0.1, steps: int = 3,
    mode: Literal["a", "b"] = "a", share: Annotated[float, Field(ge=0, le=1)] | None = None,
    sizes: list[int] = [1, 2],
):
    """Do it.

    Args:
        lr: Step size,
            on two lines.
        mode: How.
    """
    return model
''',
    )
    assert registry.load_plugin(path) == ["mine"]
    return registry.get("mine")


def test_a_file_becomes_a_method(mine: Method, tmp_path: Path) -> None:
    assert mine.access == Access.FORGET
    assert mine.kind == "method"
    assert mine.file == tmp_path / "mine.py"
    assert mine.summary == "Mine: a method of my own"
    assert mine.function("model", None) == "model"


def test_the_signature_is_the_configuration(mine: Method) -> None:
    assert mine.resolve({}) == {"lr": 0.1, "steps": 3, "mode": "a", "share": None, "sizes": [1, 2]}
    given = mine.resolve({"lr": "1e-3", "mode": "b", "share": 1, "sizes": [3]})
    assert given == {"lr": 0.001, "steps": 3, "mode": "b", "share": 1.0, "sizes": [3]}


def test_parameters_are_told_with_range_default_and_meaning(mine: Method) -> None:
    told = {p.name: (p.type, p.default, p.meaning) for p in mine.parameters()}
    assert told["lr"] == ("number > 0", 0.1, "Step size, on two lines.")
    assert told["mode"] == ("a | b", "a", "How.")
    assert told["share"] == ("number >= 0, <= 1 or null", None, "")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lrr": 1}, r"mine has no parameter 'lrr'; did you mean 'lr'\? \(it has: lr, steps"),
        ({"zzz": 1}, r"mine has no parameter 'zzz' \(it has"),
        ({"lr": 0}, "mine.lr=0: input should be greater than 0"),
        ({"lr": "fast"}, "mine.lr='fast': input should be a valid number"),
        ({"lr": float("nan")}, "mine.lr=nan: input should be a finite number"),
        ({"lr": float("inf")}, "mine.lr=inf: input should be a finite number"),
        ({"lr": None}, "mine.lr=None"),
        ({"steps": 1.5}, "mine.steps=1.5: input should be a valid integer"),
        ({"mode": "c"}, "mine.mode='c': input should be 'a' or 'b'"),
        ({"sizes": [1, "x"]}, "mine.sizes.1='x'"),
        ({"lr": -1, "mode": "c"}, "mine.lr=-1.*; mine.mode='c'"),
    ],
)
def test_a_wrong_parameter_is_refused_with_what_is_allowed(
    given: dict[str, Any], message: str, mine: Method
) -> None:
    with pytest.raises(ParameterError, match=message) as caught:
        mine.resolve(given)
    assert "\n" not in str(caught.value)


def test_equal_settings_written_differently_are_equal(mine: Method) -> None:
    assert mine.resolve({"lr": 1}) == mine.resolve({"lr": "1.0"})
    assert repr(mine.resolve({"share": 1})["share"]) == "1.0"


def test_a_method_without_parameters_says_so() -> None:
    with pytest.raises(ParameterError, match=r"no parameter 'lr' \(it has: none\)"):
        registry.get("original").resolve({"lr": 1})


def test_an_unknown_name_is_answered_with_the_closest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'finetune'.*list methods"):
        registry.get("fine_tune")


def test_the_same_file_may_be_loaded_twice(plugin: Path) -> None:
    assert registry.load_plugin(plugin) == registry.load_plugin(plugin) == ["scale_weights"]


def test_an_edited_file_has_another_code_key(plugin: Path) -> None:
    registry.load_plugin(plugin)
    before = registry.get("scale_weights").code_key
    registry.load_plugin(plugin)
    assert registry.get("scale_weights").code_key == before
    plugin.write_text(plugin.read_text() + "# another thought\n")
    registry.load_plugin(plugin)
    assert registry.get("scale_weights").code_key != before


def test_who_hides_something_behind_the_outputs_is_a_fake() -> None:
    assert {name for name, entry in registry.methods().items() if entry.fake} == {
        "logit_mask",
        "uniform_on_forget",
    }


def test_a_method_cannot_be_a_fake(write: Write) -> None:
    signed = '@method("mine", access=Access.NONE, fake=True)\ndef f(model, ctx): ...\n'
    with pytest.raises(PluginError, match='fake=True .* declare kind="control"'):
        registry.load_plugin(write("fake.py", HEAD + signed))


def test_a_file_may_hold_several_methods(write: Write) -> None:
    path = write(
        "two.py",
        f"{HEAD}{SIGNED}def a(model, ctx): ...\n"
        '@method("second", access=Access.NONE)\ndef b(model, ctx): ...\n',
    )
    assert registry.load_plugin(path) == ["mine", "second"]


def test_two_files_cannot_share_a_name(plugin: Path, write: Write) -> None:
    other = write("copy.py", plugin.read_text())
    registry.load_plugin(plugin)
    with pytest.raises(PluginError, match="two methods are named 'scale_weights'") as caught:
        registry.load_plugin(other)
    assert str(plugin) in str(caught.value) and str(other) in str(caught.value)


def test_two_methods_of_one_file_cannot_share_a_name(write: Write) -> None:
    text = f"{HEAD}{SIGNED}def a(model, ctx): ...\n{SIGNED}def b(model, ctx): ...\n"
    with pytest.raises(PluginError, match=r"two methods are named 'mine': .*\(a\) and .*\(b\)"):
        registry.load_plugin(write("twice.py", text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ndef f(:\n", r"plug.py:2: invalid syntax"),
        ("x = 1\n", r"plug.py registers nothing; decorate a function with @method"),
        ("x = 1\n1 / 0\n", r"plug.py:2: ZeroDivisionError: division by zero"),
        ("def f():\n    1 / 0\n\nf()\n", r"plug.py:2: ZeroDivisionError"),
        ("import no_such_module\n", r"plug.py:1: ModuleNotFoundError: No module named"),
        ("import sys\nsys.exit('bye')\n", r"plug.py:2: SystemExit: bye"),
        ("import os\nos._exit(0)\n", r"plug.py:2: SystemExit: os._exit\(0\) was called; return"),
        ("raise GeneratorExit\n", r"plug.py:1: GeneratorExit"),
        ("x = 1\0\n", r"plug.py:1: source code string cannot contain null bytes"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_named_with_the_line(
    text: str, message: str, write: Write
) -> None:
    with pytest.raises(PluginError, match=message):
        registry.load_plugin(write("plug.py", text))


def test_a_file_that_changes_the_working_folder_changes_it_for_itself_only(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PluginError, match="registers nothing"):
        registry.load_plugin(write("plug.py", "import os\nos.chdir('/')\n"))
    assert Path.cwd() == tmp_path


def test_a_plug_in_that_imports_what_lies_beside_it_is_told_to_be_one_file(write: Write) -> None:
    write("my_helpers.py", "x = 1\n")
    with pytest.raises(PluginError, match=r"plug.py:1: .*; a plug-in is one file: put both into"):
        registry.load_plugin(write("plug.py", "import my_helpers\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"{SIGNED}def f(model): ...\n",
            r"plug.py:4: method 'mine': the signature must be \(model",
        ),
        (f"{SIGNED}def f(model, ctx, lr=1): ...\n", "signature must be .*; write \\* before 'lr'$"),
        (f"{SIGNED}def f(model, ctx, *rest): ...\n", "the signature must be"),
        (f"{SIGNED}def f(model, ctx, **rest): ...\n", "the signature must be"),
        (f"{SIGNED}def f(model, ctx, *, lr=1): ...\n", "'lr' needs a type and a default"),
        (f"{SIGNED}def f(model, ctx, *, lr: float): ...\n", "'lr' needs a type and a default"),
        (f"{SIGNED}def f(model, ctx, *, lr: 'Foo' = 1): ...\n", "name 'Foo' is not defined"),
        (f"{SIGNED}def f(model, ctx, *, net: Split = None): ...\n", "must be numbers, texts"),
        (f"{SIGNED}def f(model, ctx, *, lr: PositiveFloat = -1): ...\n", "mine.lr=-1: input"),
        (
            f"{CHECKED}quick={{'epoch': 1}}))\n{COUNTED}",
            r"plug.py:4: method 'mine': quick: mine has no parameter 'epoch'; did you mean",
        ),
        (
            f"{CHECKED}probes={{'epoch': 1}}))\n{COUNTED}",
            r"probes\['epoch'\]: mine has no parameter",
        ),
        (
            f"{CHECKED}probes={{'epochs': -1}}))\n{COUNTED}",
            r"probes\['epochs'\]: mine.epochs=-1",
        ),
        (
            f"{CHECKED}speed_only=('epoch',)))\n{COUNTED}",
            r"speed_only=\('epoch',\) names no",
        ),
        (
            "@method('mine', access='forget')\ndef f(model, ctx): ...\n",
            "access='forget' is not one",
        ),
        ("@method('mine')\ndef f(model, ctx): ...\n", "plug.py:4: TypeError: .*'access'"),
        ("@method('a.b', access=Access.NONE)\ndef f(model, ctx): ...\n", "cannot be named 'a.b'"),
        ("@method('a,b', access=Access.NONE)\ndef f(model, ctx): ...\n", "cannot be named 'a,b'"),
        ("@method('all', access=Access.NONE)\ndef f(model, ctx): ...\n", "cannot be named 'all'"),
        ("@method('', access=Access.NONE)\ndef f(model, ctx): ...\n", "cannot be named ''"),
    ],
)
def test_what_is_no_method_is_refused_when_it_registers(
    text: str, message: str, write: Write
) -> None:
    with pytest.raises(PluginError, match=message) as caught:
        registry.load_plugin(write("plug.py", HEAD + text))
    assert "plug.py:4" in str(caught.value)
    assert "mine" not in registry.methods()


def test_what_check_sets_is_read_by_the_parameters_types(write: Write) -> None:
    text = (
        f"{CHECKED}quick={{'names': {{'a'}}}}))\ndef f(model, ctx, *, names: list[str] = []): ...\n"
    )
    registry.load_plugin(write("plug.py", HEAD + text))
    assert registry.get("mine").check.quick == {"names": ["a"]}


def test_only_python_files_are_loaded(tmp_path: Path, write: Write, plugin: Path) -> None:
    with pytest.raises(PluginError, match="no plug-in file .*none.py"):
        registry.load_plugin(tmp_path / "none.py")
    with pytest.raises(PluginError, match="no plug-in file"):
        registry.load_plugin(tmp_path)
    with pytest.raises(PluginError, match="must end in .py"):
        registry.load_plugin(write("plugin.txt", plugin.read_text()))


def test_access_says_what_it_lets_through() -> None:
    some = Access.FORGET | Access(retain=True, retain_fraction=0.25)
    assert str(some) == "forget + 25% of retain"
    assert str(Access.NONE) == "nothing"
    assert (Access.BOTH | Access.VALIDATION) == Access(forget=True, retain=True, validation=True)


REPLACING = {
    "the entry": "registry.REGISTERED['retrain'] = replace(registry.get('retrain'), function=mine)",
    "the code": "registry.get('retrain').function.__code__ = mine.__code__",
    "the key": "vars(registry.get('original'))['code_key'] = 'another'",
    "a rival": "registry.REGISTERED['finetune'] = replace(registry.get('finetune'), function=mine)",
    "nothing left": "del registry.REGISTERED['logit_mask']",
}


@pytest.mark.parametrize("how", REPLACING)
def test_no_plug_in_takes_the_place_of_what_it_does_not_define(how: str, write: Write) -> None:
    before = dict(registry.methods())
    parts = {name: registry.as_called(method)[:2] for name, method in before.items()}
    text = f"""{HEAD}
from dataclasses import replace
from unlearn_bench.plugins import registry

{SIGNED}def mine(model, ctx):
    return model

{REPLACING[how]}
"""
    with pytest.raises(PluginError, match="replaces the .* which .*py defines and others are"):
        registry.load_plugin(write("plug.py", text))
    assert {n: m for n, m in registry.methods().items() if n != "mine"} == before
    assert {name: registry.as_called(method)[:2] for name, method in before.items()} == parts


def test_a_plug_in_cannot_register_the_reference_under_its_own_file(write: Write) -> None:
    signed = "@method('retrain', access=Access.RETAIN, kind='reference')"
    with pytest.raises(PluginError, match="two methods are named 'retrain'"):
        registry.load_plugin(write("plug.py", f"{HEAD}{signed}\ndef f(model, ctx): ..."))


def test_built_in_codes_are_those_of_the_reference_and_the_controls(write: Write) -> None:
    text = f"{HEAD}@method('mine', access=Access.NONE, kind='control')\ndef f(model, ctx): ..."
    registry.load_plugin(write("plug.py", text))
    codes = registry.built_in_codes()
    assert {"retrain", "original", "retrain_other_seed", "logit_mask"} <= set(codes)
    assert not {"mine", "finetune", "unlearned"} & set(codes)
    assert codes["retrain"] == registry.get("retrain").running_code
