"""Every command and every piece of code in the README and the documentation is executed."""

import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import save_file
from snippets import DOCS, ROOT, Snippet, pages, snippets

from unlearn_bench.plugins.method import SCOPES
from unlearn_bench.suite.forget import FORMS, Forget
from unlearn_bench.suite.spec import ModelSpec, Suite
from unlearn_bench.training import models

# Trained for real by a test of its own.
ELSEWHERE = {"has-it-forgotten.md"}
SUITE_PAGE = DOCS / "how-to" / "suite.md"
TESTED = [page for page in pages() if snippets(page) and page.name not in ELSEWHERE]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture
def shelf(tmp_path: Path, finished: Any, trained: Path) -> Path:
    """What the reader of a page has: the examples, images, weights, finished runs."""
    for example in (DOCS / "examples").glob("*.py"):
        shutil.copy(example, tmp_path)
    for place in ("one", "two"):
        shutil.copytree(finished.out, tmp_path / "runs" / place)
    (tmp_path / "people.csv").write_text("3\n14\n15\n92\n")
    for snippet in snippets(SUITE_PAGE):
        if named := re.match(r"# (\w+\.yaml)\b", snippet.text):
            (tmp_path / named[1]).write_text(snippet.text)
    model = models.build(
        ModelSpec(name="resnet4"), channels=1, image_size=(8, 8), num_classes=10, seed=0
    )
    save_file(dict(model.state_dict()), tmp_path / "before.safetensors")
    return tmp_path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three classes of plain colours in ``own/``, no two images alike."""
    from PIL import Image

    for part, count in (("train", 20), ("test", 8)):
        for place, colour in ((200, "ant"), (120, "bee"), (40, "cat")):
            folder = tmp_path / "own" / part / colour
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (8, 8), (place + number,) * 3).save(folder / f"{number}.png")
    return tmp_path / "own"


@pytest.fixture
def ask(cli: Any, shelf: Path, finished: Any) -> Callable[[list[str], bool], None]:
    """Execute a command of the documentation, planned only unless it is to be run."""

    def execute(words: list[str], run: bool) -> None:
        if words[1] in ("run", "tune"):
            if run:  # of the smallest suite there is, in place of the default one
                assert words[2].startswith("--"), "a named suite is too large to be run here"
                words = [*words[:2], str(finished.suite), *words[2:], "--seeds", "1"]
            elif "--dry-run" not in words:
                words = [*words, "--dry-run"]
            if "--workers" not in words:
                words = [*words, "--workers", "1"]
        ended = cli(*words[1:], cwd=shelf, env={"BROWSER": "true", "DISPLAY": ""})
        assert ended.code == 0, f"{' '.join(words)}\n{ended.out}{ended.err}"

    return execute


@pytest.mark.usefixtures("own_registry")  # code in the README registers a method
@pytest.mark.parametrize(
    "page",
    [
        page if page.name == "README.md" else pytest.param(page, marks=pytest.mark.thorough)
        for page in TESTED
    ],
    ids=name_of,
)
def test_every_block_of_a_page_runs(page: Path, ask: Any, shelf: Path, images: Path) -> None:
    names: dict[str, Any] = {}
    for snippet in (snippet for snippet in snippets(page) if snippet.is_there):
        for need in snippet.needs:
            if need in OBJECTS:
                names[need] = OBJECTS[need]()
            else:
                assert (shelf / need).exists(), f"the reader has no {need}"
        if snippet.language == "bash" and "syntax" not in snippet.marks:
            for words in snippet.commands():
                assert words[0] == "unlearn-bench", words
                ask(words, "run" in snippet.marks)
        elif snippet.language == "python":
            source = compile(snippet.text, f"{page}:{snippet.line}", "exec")
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(shelf)
                exec(source, names)
        elif snippet.language == "yaml":
            assert yaml.safe_load(snippet.text)
        elif snippet.language == "toml":
            assert tomllib.loads(snippet.text)


def test_every_kind_of_scenario_is_shown_as_text_and_with_keys() -> None:
    rows = re.findall(r"^\| `([a-z]+:[^`]+)`", SUITE_PAGE.read_text(), re.MULTILINE)
    shown = [Forget.model_validate(row) for row in rows if "FILE" not in row]
    assert {form.text.partition(":")[0] for form in FORMS} == {
        row.partition(":")[0] for row in rows
    }
    blocks = [
        s.text for s in snippets(SUITE_PAGE) if s.language == "yaml" and "scenarios:" in s.text
    ]
    suites = [Suite.model_validate({"name": "own"} | yaml.safe_load(text)) for text in blocks]
    keyed = [scenario.forget for suite in suites for scenario in suite.scenarios]
    for forgets in (shown, keyed):
        assert {scope for forget in forgets for scope in forget.scopes} >= set(SCOPES)
        assert any(forget.stream for forget in forgets) and any(forget.union for forget in forgets)


def a_model() -> Any:
    return models.build(
        ModelSpec(name="test_resnet"), channels=1, image_size=(32, 32), num_classes=10, seed=0
    )


def a_loader() -> Any:
    import torch

    return [(torch.zeros(4, 1, 32, 32), torch.arange(4))]


def examples(first: int, last: int) -> Callable[[], Any]:
    """Make examples of the classes from ``first`` to ``last``, eight of each."""

    def make() -> Any:
        import torch
        from torch.utils.data import TensorDataset

        labels = torch.arange(first, last + 1).repeat_interleave(8)
        generator = torch.Generator().manual_seed(first)
        return TensorDataset(torch.rand(len(labels), 1, 32, 32, generator=generator), labels)

    return make


OBJECTS: dict[str, Callable[[], Any]] = {
    "model": a_model,
    "reference": a_model,
    "loader": a_loader,
    "forget_set": examples(8, 8),
    "retain_set": examples(0, 7),
    "test_set": examples(0, 8),
}


# What cannot run here: the shell must be able to read it, and every flag must exist.


UNRUN = [s for page in pages() for s in snippets(page) if "syntax" in s.marks and s.is_there]


@pytest.mark.parametrize("snippet", UNRUN, ids=lambda s: f"{name_of(s.page)}:{s.line}")
def test_commands_that_need_more_than_this_machine_are_well_formed(
    snippet: Snippet, cli: Any
) -> None:
    if "<" not in snippet.text:  # a place for the reader to fill in
        done = subprocess.run(["bash", "-n"], input=snippet.text, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
    for words in snippet.commands():
        if words[0] == "unlearn-bench":
            shown = flags_of(cli, words[1])
            given = {word for word in words if word.startswith("--")}
            assert given <= shown, f"{words[1]} has no {', '.join(given - shown)}"
        for extra in re.findall(r"\[(\w+)(?:,\w+)*\]'?$", words[-1]):
            project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            assert extra in project["optional-dependencies"]


_NAMED = re.compile(r"`(unlearn-bench [^`]+)`")
PROSE = [*pages(), *ROOT.glob("*.md"), *sorted(ROOT.glob("reports/*/README.md"))]


def test_commands_named_in_a_sentence_have_the_flags_they_show(cli: Any) -> None:
    for page in dict.fromkeys(PROSE):
        for found in _NAMED.findall(page.read_text()):
            words = found.split()
            given = {word.partition("=")[0] for word in words if word.startswith("--")}
            if given and words[1].isalpha():
                missing = given - flags_of(cli, words[1])
                assert not missing, f"{name_of(page)}: {found}: there is no {', '.join(missing)}"


@lru_cache
def flags_of(cli: Any, command: str) -> set[str]:
    ended = cli(command, "--help", env={"COLUMNS": "200"})
    assert ended.code == 0, ended.err
    return set(re.findall(r"--[a-z][a-z-]+", ended.out))


def test_no_block_is_written_in_a_language_that_is_not_tested() -> None:
    known = {"bash", "python", "yaml", "toml", "text"}
    for page in pages():
        for snippet in snippets(page):
            assert snippet.language in known, f"{name_of(page)}:{snippet.line}"
