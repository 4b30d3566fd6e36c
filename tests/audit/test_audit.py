"""One audit by the command: what it finds, what it says, and what of it can be checked."""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

from unlearn_bench.audit import files, page, prose, words
from unlearn_bench.audit.document import document
from unlearn_bench.audit.statement import Finding, Statement, published_schema, schema
from unlearn_bench.core.errors import OutputError
from unlearn_bench.data.datasets import load
from unlearn_bench.suite.spec import ModelSpec
from unlearn_bench.training import models

NET = """\
import torch
from torch import nn
from unlearn_bench.api import Data, dataset, model


@model("mlp")
def mlp(channels, image_size, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, num_classes))


@dataset("noisy")
def noisy(root):
    draw = torch.Generator().manual_seed(0)
    means = torch.randint(60, 200, (3, 1, 8, 8), generator=draw)
    labels = torch.arange(900) % 3
    noise = torch.randint(-60, 60, (900, 1, 8, 8), generator=draw)
    images = (means[labels] + noise).clamp(0, 255).byte()
    labels[::5] = torch.randint(0, 3, (180,), generator=draw)
    return Data(train=(images[:300], labels[:300]), test=(images[300:], labels[300:]))
"""
TRAINING = "epochs: 60\nbatch_size: 32\nlr: 0.003\nschedule: constant\naugment: none\n"


@dataclass(frozen=True)
class Audited:
    """Two audits of models that were given: the original itself, and one never trained on F."""

    place: Path
    flags: tuple[object, ...]
    unchanged: Path
    retrained: Path


def train(file: Path, indices: torch.Tensor, seed: int) -> None:
    """Train as a user would, and save the weights."""
    data = load("noisy")
    model = models.build(
        ModelSpec(name="mlp"), channels=1, image_size=(8, 8), num_classes=3, seed=seed
    ).train()
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (data.mean, data.std))
    x = (data.train.images.data[indices] / 255 - mean) / std
    y = data.train.labels[indices]
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(300):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    save_file(model.state_dict(), file)


@pytest.fixture(scope="module")
def audited(_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Audited:
    from unlearn_bench.plugins import parts, registry

    place = tmp_path_factory.mktemp("audit")
    plugin, recipe = place / "net.py", place / "recipe.yaml"
    plugin.write_text(NET)
    recipe.write_text(TRAINING)
    before = dict(parts.REGISTERED)
    registry.load_plugin(plugin)
    (place / "forget.txt").write_text("".join(f"{index}\n" for index in range(60)))
    everyone = torch.arange(300)
    train(place / "before.safetensors", everyone, 1)
    train(place / "clean.safetensors", everyone[60:], 2)
    train(place / "other.safetensors", everyone[60:], 3)
    labels = load("noisy").train.labels
    train(place / "classless.safetensors", everyone[labels != 0], 2)
    parts.REGISTERED.clear()
    parts.REGISTERED.update(before)
    shutil.copy(place / "before.safetensors", place / "after.safetensors")
    flags = (
        *("audit", "--original", place / "before.safetensors", "--model", "mlp"),
        *("--dataset", "noisy", "--forget", f"indices:{place / 'forget.txt'}"),
        *("--plugin", plugin, "--recipe", recipe, "--subject", "customer 4711"),
    )
    env = {"UNLEARN_BENCH_HOME": str(place / "home")}
    folders = []
    for name, code in (("after", 1), ("clean", 0)):
        out = place / f"audit-{name}"
        given = ("--unlearned", place / f"{name}.safetensors", "--out", out)
        ended = _server(*flags, *given, "--controls", 3, env=env)
        assert ended.code == code, ended.err + ended.out
        folders.append(out)
    return Audited(place, flags, *folders)


def stated(folder: Path) -> Statement:
    return Statement.model_validate_json((folder / "audit.json").read_text())


def test_a_model_that_was_not_changed_is_exposed_and_one_that_never_saw_is_not(
    audited: Audited,
) -> None:
    exposed, clean = stated(audited.unchanged), stated(audited.retrained)
    assert exposed.headline.word == "exposed" and clean.headline.word == "not detected"
    assert exposed.controls.works and exposed.controls.positive[0].share > 0.1
    assert exposed.headline.unlearned[0].share == exposed.controls.positive[0].share
    assert exposed.controls.false_alarms_of == 3
    assert exposed.headline.smallest_effect and exposed.headline.smallest_effect < 0.2
    assert (exposed.headline.members, exposed.headline.non_members > 500) == (60, True)


def test_the_statement_names_what_went_in_and_who_made_it(audited: Audited) -> None:
    said = stated(audited.unchanged)
    assert said.request.subject == "customer 4711" and said.request.examples == 60
    text = "".join(f"{index}\n" for index in range(60)).encode()
    assert said.request.indices_sha256 == hashlib.sha256(text).hexdigest()
    made = {model.name: model.made_by for model in said.provenance.models}
    assert made["original"].startswith("given by") and made["reference 3"].startswith("trained by")
    file = (audited.place / "before.safetensors").read_bytes()
    assert said.provenance.models[0].file_sha256 == hashlib.sha256(file).hexdigest()
    assert said.provenance.recipe and said.provenance.recipe["epochs"] == 60


def test_the_most_exposed_examples_are_named_by_index(audited: Audited) -> None:
    said = stated(audited.unchanged)
    assert len(said.most_exposed) == 10
    assert {example.index for example in said.most_exposed} <= set(range(60))
    scores = [example.score for example in said.most_exposed]
    assert scores == sorted(scores, reverse=True) and said.most_exposed[0].flagged
    assert said.retained.answers_changed == 0
    changed = stated(audited.retrained).retained.largest_changes
    assert len(set(changed) - set(range(60))) == 10


def test_the_statement_keeps_to_the_published_schema(audited: Audited) -> None:
    assert json.loads(published_schema()) == schema()
    jsonschema.Draft202012Validator.check_schema(schema())
    for folder in (audited.unchanged, audited.retrained):
        stored = json.loads((folder / "audit.json").read_text())
        jsonschema.validate(stored, json.loads((folder / "audit.schema.json").read_text()))


def test_what_was_not_run_is_said_and_so_is_what_it_does_not_mean(audited: Audited) -> None:
    text = (audited.unchanged / "audit.md").read_text()
    for attack in ("Attribute inference", "Model inversion", "Data extraction", "Reconstruction"):
        line = next(line for line in text.splitlines() if attack in line)
        assert line.endswith("| not run |")
    assert "nor that any law is complied with" in text and "Thudi et al. 2022" in text


def test_a_changed_audit_does_not_verify(audited: Audited, cli, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(audited.unchanged, tmp_path / "copy"))
    assert cli("verify", copy).code == 0
    assert files.verify(copy / "audit.json").problems == ()
    html = copy / "audit.html"
    html.write_text(html.read_text().replace("Exposed", "Sound"))
    ended = cli("verify", copy)
    assert ended.code == 1 and "audit.html does not say what audit.json holds" in ended.out
    stored = json.loads((copy / "audit.json").read_text())
    stored["headline"]["word"] = "not detected"
    (copy / "audit.json").write_text(json.dumps(stored))
    assert "audit.json was changed" in files.verify(copy).problems[0]
    (copy / "audit.json").write_text("{}")
    with pytest.raises(OutputError, match="is no audit"):
        files.verify(copy)


def test_pages_that_are_links_pipes_or_without_end_are_not_read(
    audited: Audited, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(audited.unchanged, tmp_path / "copy"))
    html = copy / "audit.html"

    def sparse(place: Path) -> None:
        place.touch()
        os.truncate(place, 1 << 40)

    for put in (
        lambda place: place.symlink_to(audited.unchanged / "audit.html"),
        os.mkfifo,
        lambda place: place.symlink_to("/dev/zero"),
        sparse,
    ):
        html.unlink()
        put(html)
        assert files.verify(copy).problems == ("audit.html does not say what audit.json holds",)


def test_a_file_that_is_no_audit_says_where_it_differs(tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text('{"headline": 7}')
    with pytest.raises(OutputError, match=r"is no audit: [a-z_.]+: \w"):
        files.verify(tmp_path)


@pytest.mark.parametrize("name", ["audit.json", "audit.md", "audit.html", "audit.schema.json"])
def test_a_file_of_hers_is_not_overwritten(
    name: str, audited: Audited, cli, tmp_path: Path
) -> None:
    hers = tmp_path / name
    hers.write_text('{"mine": 1}')
    given = ("--unlearned", audited.place / "clean.safetensors", "--out", tmp_path)
    ended = cli(*audited.flags, *given)
    assert ended.code == 2 and f"{hers} would be overwritten" in ended.error
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [name]
    assert hers.read_text() == '{"mine": 1}'


def test_an_audit_may_be_written_again_over_itself(audited: Audited, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(audited.unchanged, tmp_path / "copy"))
    files.refuse_foreign(copy)
    files.refuse_foreign(tmp_path / "none yet")
    assert files.write(stated(copy), copy).is_file()


def test_references_of_ones_own_are_taken(audited: Audited, cli) -> None:
    clean, other = (audited.place / f"{name}.safetensors" for name in ("clean", "other"))
    ended = cli(*audited.flags, "--unlearned", clean, "--retrained", clean)
    assert "reference 1 has the very weights of --unlearned" in ended.error
    out = audited.place / "audit-given"
    ended = cli(*audited.flags, "--unlearned", clean, "--retrained", other, "--out", out)
    said = stated(out)
    assert ended.code == 0 and len(said.provenance.models) == 3
    assert said.provenance.models[2].made_by.startswith("given by")
    assert not said.controls.negative and "none can be held out" in said.controls.note


def test_a_class_is_asked_after_by_what_the_model_still_names(audited: Audited, cli) -> None:
    flags = ["class:0" if "indices:" in str(flag) else flag for flag in audited.flags]
    found = {}
    for name, code in (("after", 1), ("classless", 0)):
        given = ("--unlearned", audited.place / f"{name}.safetensors", "--controls", 2)
        ended = cli(*flags, *given, "--out", audited.place / f"class-{name}")
        assert ended.code == code, ended.err + ended.out
        found[name] = stated(audited.place / f"class-{name}")
    measures = {f.measure: f for f in found["after"].headline.unlearned}
    assert measures["class knowledge"].detected and measures["class knowledge"].share > 0.5
    assert found["after"].headline.level == 0.025
    knowledge = [f for f in found["classless"].headline.unlearned if f.measure == "class knowledge"]
    assert knowledge[0].count == 0 and found["classless"].request.forgotten_classes == ["0"]
    # Masked logits name nothing: who only hides a class passes, and the page says so.
    assert {f.model for f in found["after"].controls.fakes} == {"logit_mask", "uniform_on_forget"}
    page_text = (audited.place / "class-after" / "audit.html").read_text()
    assert "only hide" in page_text and "Classes forgotten whole" in page_text


def test_an_audit_without_any_reference_is_refused(audited: Audited, cli) -> None:
    given = ("--unlearned", audited.place / "clean.safetensors", "--controls", 0)
    assert "an audit needs a reference" in cli(*audited.flags, *given).error


def finding(**changes: Any) -> Finding:
    where = {"model": "unlearned", "measure": "membership", "count": 1, "of": 100}
    said = {"share": 0.01, "low": 0.0, "high": 0.05, "p_value": 0.6, "detected": False}
    return Finding(**where | said | changes)


def test_silence_is_no_evidence_where_the_original_is_not_detected() -> None:
    assert "is no evidence" in words.sentence("inconclusive", [finding()], 0.05)
    both = [finding(detected=True, share=0.25), finding(measure="class knowledge", share=0.125)]
    exposed = words.sentence("exposed", both, 0.05)
    assert "25.0 %" in exposed and "12.5 %" not in exposed
    assert "would have been found" in words.sentence("not detected", [finding()], 0.05)


def test_names_are_shown_as_they_are(audited: Audited) -> None:
    said = stated(audited.unchanged)
    nasty = "<script>alert(1)</script> | *x*"
    changed = said.model_copy(
        update={"request": said.request.model_copy(update={"subject": nasty})}
    )
    read = document(changed)
    assert "<script>alert" not in page.render(read) and "&lt;script&gt;" in page.render(read)
    assert r"\<script\>alert(1)\</script\> \| \*x\*" in prose.render(read)
    assert "http" not in page.render(read).replace("http-equiv", "")
