"""What the README promises holds; its commands run in tests/docs."""

import re
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional

from unlearn_bench.data import datasets
from unlearn_bench.plugins import registry
from unlearn_bench.report.provenance import read_report
from unlearn_bench.suite.spec import ModelSpec, Normalize
from unlearn_bench.training import models

README = Path(__file__).parents[1] / "README.md"
QUESTION = README.parent / "docs" / "how-to" / "has-it-forgotten.md"
IMAGENET = Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
COLOURS = {"ant": (200, 30, 30), "bee": (30, 200, 30), "cat": (30, 30, 200)}


def first_command(page: Path) -> list[str]:
    """Return the words of the first shell command of a page."""
    block = page.read_text().partition("```bash\n")[2].partition("```")[0]
    return shlex.split(block.replace("\\\n", " "))


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 120
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        target = "".join(link.split())
        assert target.startswith("https://") or (README.parent / target).exists(), target


def test_the_plug_in_of_the_readme_is_the_tested_example() -> None:
    example = README.parent / "docs" / "examples" / "shrink.py"
    assert f"```python\n{example.read_text()}```\n" in README.read_text()


def test_the_table_names_families_as_the_command_line_does() -> None:
    table = README.read_text().partition("| family | methods |")[2].partition("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if " | `" in line]
    named = {
        name: re.split("[,:]", family)[0]
        for family, text in rows
        for name in re.findall("`([a-z0-9_]+)`", text)
    }
    methods = {name: entry for name, entry in registry.methods().items() if entry.kind == "method"}
    assert named.keys() >= methods.keys()
    assert {n: named[n] for n in methods} == {n: entry.family for n, entry in methods.items()}


def draw(folder: Path) -> None:
    """Lay down three classes of plain colours, no two images alike."""
    for part, count in (("train", 20), ("test", 8)):
        for name, colour in COLOURS.items():
            place = folder / part / name
            place.mkdir(parents=True)
            for number in range(count):
                shade = tuple(value + number for value in colour)
                Image.new("RGB", (8, 8), shade).save(place / f"{number}.png")


def trained(folder: Path, classes: int) -> dict[str, torch.Tensor]:
    """Return weights that know the first so many classes, under ImageNet's constants."""
    data = datasets.load(f"imagefolder:{folder}", normalize=IMAGENET)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (data.mean, data.std))
    known = (data.train.labels < classes).nonzero().squeeze(1)
    x, y = (data.train.images.fetch(known) / 255 - mean) / std, data.train.labels[known]
    model = models.build(
        ModelSpec(name="test_resnet"), channels=3, image_size=(8, 8), num_classes=3, seed=0
    ).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return dict(model.state_dict())


@pytest.mark.thorough
def test_the_question_whether_a_model_has_forgotten_is_answered(cli: Any, tmp_path: Path) -> None:
    draw(tmp_path / "own")
    for name, classes in (("before", 3), ("after", 2)):
        save_file(trained(tmp_path / "own", classes), tmp_path / f"{name}.safetensors")
    program, *words = first_command(QUESTION)
    assert program == "unlearn-bench"
    ended = cli(
        *words, "--seeds", "1", "--epochs", "1", "--out", "out", "--workers", "1", cwd=tmp_path
    )
    assert ended.code == 0, ended.err
    assert "the given weights classify 100.0%" in ended.out
    records = pd.read_csv(tmp_path / "out" / "records.csv")
    assert set(records[records["kind"] == "method"]["method"]) == {"after"}
    facts = dict(read_report(tmp_path / "out").provenance.facts)
    assert facts["Original"].startswith("given (before.safetensors, SHA-256 ")
    assert facts["Retraining"].startswith("1 epoch of adam") and "Training" not in facts
    assert facts["Unlearned models"].startswith("after: given (after.safetensors, SHA-256 ")
    assert str(tmp_path) not in str(facts)
    assert "0.485, 0.456, 0.406" in facts["Inputs"] and facts["Classes, from 0"] == "ant, bee, cat"
