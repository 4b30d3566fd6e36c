"""The site of many results folders: what stands on its pages, and where it may be written."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from unlearn_bench.core.errors import ConfigError, OutputError
from unlearn_bench.report.site import write_site

PLACE = "digits · resnet18 · class:8"
FACTS = {
    "pbu": {"name": "pbu", "access": "forget", "family": "ascent", "source": "arXiv:2403.16246"},
    "finetune": {"name": "finetune", "access": "retain", "family": "fine-tuning"},
}
TUNED = {
    name: ["tuned (20 trials, 2 surrogates)", True]
    for name in ("pbu", "random_label", "gradient_ascent", "neg_grad_plus", "bad_teacher")
}


@pytest.fixture
def make(tmp_path: Path, write_folder: Any) -> Any:
    """``make("name", runs, suite="digits")`` writes a results folder of that name."""

    def written(name: str, runs: list[Any], suite: str = "", **stored: Any) -> str:
        place = tmp_path / name
        place.mkdir(parents=True)
        stored.setdefault("suite", {"name": suite or name, "description": "A trial.", "seeds": 3})
        return str(write_folder(place, runs, **stored))

    return written


class Rows(HTMLParser):
    """The rows of a page's tables: group, first cell, other cells, classes; and all links."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.page, self.rows, self.links, self.group = page, [], [], ""
        self._row: Any = None
        self._cell = False
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        given = dict(attrs)
        if tag == "a":
            self.links.append(given["href"])
        if tag == "tr":
            self._row = {"classes": (given.get("class") or "").split(), "cells": []}
        if tag in ("th", "td") and self._row is not None:
            self._row["cells"].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag == "tr":
            if "group" in self._row["classes"]:
                self.group = self._row["cells"][0].strip()
            elif self._row["cells"]:
                self.rows.append(self._row | {"group": self.group})
            self._row = None
        if tag in ("th", "td"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        if self._row is not None and self._cell:
            self._row["cells"][-1] += data

    def of(self, name: str) -> dict[str, Any]:
        """Return the only row whose first cell begins with a name."""
        found = [row for row in self.rows if re.match(rf"{name}(?!\w)", row["cells"][0])]
        assert len(found) == 1, [row["cells"][0] for row in found]
        return found[0]


def pages(out: Path) -> list[Path]:
    return sorted(out.rglob("*.html"))


def test_every_task_and_method_has_a_page_and_every_link_leads_somewhere(
    make: Any, realistic: Any, tmp_path: Path
) -> None:
    one = make("one", realistic(2, ("class:8", "random:0.1")), methods=FACTS)
    two = make("two", realistic(2), methods=FACTS)
    (tmp_path / "two" / "report.html").write_text("the report")
    out = tmp_path / "site"
    written = write_site([one, two], out)
    assert (written.tasks, written.methods) == (2, 6)
    assert written.without_report == (tmp_path / "one",)
    assert {path.relative_to(out).as_posix() for path in pages(out)} == {
        "index.html",
        *(f"tasks/digits-resnet18-{name}.html" for name in ("class-8", "random-0-1")),
        *(f"methods/{name}.html" for name in ("pbu", "finetune", "random-label", "bad-teacher")),
        *(f"methods/{name}.html" for name in ("gradient-ascent", "neg-grad-plus")),
    }
    for path in pages(out):
        for link in Rows(path).links:
            if not link.startswith(("#", "https://arxiv.org/abs/")):
                assert (path.parent / unquote(link)).resolve().is_file(), (path.name, link)
    task = (out / "tasks" / "digits-resnet18-class-8.html").read_text()
    assert 'href="../../two/report.html"' in task and "one/report.html" not in task
    assert "It has no report.html to link" in (out / "index.html").read_text()
    method = Rows(out / "methods" / "pbu.html")
    assert len(method.rows) == 1 + 3 and "https://arxiv.org/abs/2403.16246" in method.links


def test_what_was_tuned_is_never_ranked_beside_what_was_not(
    make: Any, realistic: Any, tmp_path: Path
) -> None:
    rows = {PLACE: {**TUNED, "finetune": ["default", False]}}
    write_site([make("mixed", realistic(3), rows=rows)], tmp_path / "site")
    page = Rows(tmp_path / "site" / "tasks" / "digits-resnet18-class-8.html")
    tuned = [row for row in page.rows if row["group"] == "mixed: 5 methods, tuned"]
    assert [row["cells"][1] for row in tuned] == list("12345")
    alone = page.of("finetune")
    assert alone["group"] == "mixed: 1 method, not tuned, not ranked beside those of another budget"
    assert alone["cells"][1] == "–"
    assert {row["cells"][1] for row in page.rows if "controls" in row["group"]} == {"–"}
    index = Rows(tmp_path / "site" / "index.html")
    assert index.of("finetune")["group"] == "Not tuned" and index.of("pbu")["group"] == "Tuned"


def test_results_of_two_runs_are_ranked_apart(make: Any, realistic: Any, tmp_path: Path) -> None:
    folders = [make(name, realistic(2)) for name in ("one", "two")]
    write_site(folders, tmp_path / "site")
    page = Rows(tmp_path / "site" / "tasks" / "digits-resnet18-class-8.html")
    for name in ("one", "two"):
        same = [row for row in page.rows if row["group"] == f"{name}: 6 methods, not tuned"]
        assert [row["cells"][1] for row in same] == list("123456")


def judged(run: Any, fake: float) -> list[Any]:
    """Two methods near and far from retraining, and a fake that passes where ``fake`` is 0."""
    return [
        run(
            name,
            seed,
            kind=kind,
            mia_loss_auc=auc,
            **{
                f"{part}_accuracy": 0.5 + gap + 0.002 * (-1) ** seed
                for part in ("forget", "retain", "test_forget", "test_retain")
            },
        )
        for seed in range(3)
        for name, kind, gap, auc in (
            ("retrain", "reference", 0.0, 0.5),
            ("retrain_other_seed", "control", 0.0, 0.5),
            ("original", "control", 0.3, 0.75),
            ("logit_mask", "control", 0.0, 0.5 + fake),
            ("near", "method", 0.0, 0.5),
            ("far", "method", 0.3, 0.5),
        )
    ]


@pytest.mark.parametrize(("fake", "bold"), [(0.25, ["near"]), (0.0, [])])
def test_bold_is_whom_the_verdict_sets_apart_and_nobody_where_a_fake_passes(
    fake: float, bold: list[str], make: Any, run: Any, tmp_path: Path
) -> None:
    write_site([make("one", judged(run, fake))], tmp_path / "site")
    page = Rows(tmp_path / "site" / "tasks" / "digits-resnet18-class-8.html")
    found = [re.match(r"\w+", row["cells"][0]) for row in page.rows if "best" in row["classes"]]
    assert [match and match[0] for match in found] == bold
    said = "the fake logit_mask, whose weights have forgotten nothing, is not told apart"
    assert (said in page.page.read_text()) == (not bold)
    results, indistinguishable, open_, apart, nothing, _ = Rows(
        tmp_path / "site" / "index.html"
    ).of("near")["cells"][1:]
    assert (results, indistinguishable, apart) == ("1", "–", "–")
    assert (open_, nothing) == (("1", "–") if bold else ("–", "1"))


def test_the_same_folders_give_the_same_bytes_and_old_pages_go(
    make: Any, realistic: Any, tmp_path: Path
) -> None:
    one, two = make("one", realistic(2, ("class:8", "random:0.1"))), make("two", realistic(2))
    out = tmp_path / "site"
    write_site([one, two], out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    write_site([one, two], out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    write_site([two], out)
    assert not (out / "tasks" / "digits-resnet18-random-0-1.html").exists()
    left = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert left == {"site.json", *json.loads((out / "site.json").read_text())["files"]}


def test_folders_of_one_suite_are_named_after_themselves_or_as_given(
    make: Any, realistic: Any, tmp_path: Path
) -> None:
    first = make("first", realistic(1), suite="digits")
    second = make("second", realistic(1), suite="digits")
    out = tmp_path / "site"
    write_site([first, f"other={second}"], out)
    assert "other: 6 methods" in (out / "tasks" / "digits-resnet18-class-8.html").read_text()
    write_site([first, second], out)
    index = (out / "index.html").read_text()
    assert "first" in index and "second" in index and "Suite: digits." in index
    third = make("deep/second", realistic(1), suite="digits")
    with pytest.raises(ConfigError, match=r"called 'second'; folders are told apart by .* other="):
        write_site([first, second, third], out)
    with pytest.raises(ConfigError, match="was given twice"):
        write_site([first, f"again={first}"], out)
    with pytest.raises(ConfigError, match="has no name or no folder; write NAME=FOLDER"):
        write_site([f"={tmp_path / 'nowhere'}"], out)


def test_what_is_no_result_is_refused_before_anything_is_written(
    make: Any, realistic: Any, tmp_path: Path
) -> None:
    sound, out = make("one", realistic(1)), tmp_path / "site"
    empty = tmp_path / "empty"
    empty.mkdir()
    later = make("later", realistic(1), format=9)
    for given, error, said in (
        ([], ConfigError, "no results folder was given"),
        ([sound, str(empty)], OutputError, "empty holds no records.csv; give the folder"),
        ([sound, str(tmp_path / "none")], OutputError, "none holds no records.csv"),
        (
            [sound, later],
            OutputError,
            "is of format 9, this version reads 1: upgrade unlearn-bench",
        ),
    ):
        with pytest.raises(error, match=said) as caught:
            write_site(given, out)
        assert "\n" not in str(caught.value)
    assert not out.exists()


@pytest.mark.parametrize("kind", ["results", "file", "notes", "link", "later", "damaged"])
def test_a_folder_that_holds_something_else_is_left_alone(
    kind: str, make: Any, realistic: Any, tmp_path: Path
) -> None:
    given, out = make("one", realistic(1)), tmp_path / "site"
    said = "contains files that are not part of a site"
    if kind == "results":
        out = Path(given)
    elif kind == "file":
        out.write_text("mine")
        said = "is a file; choose another --out"
    else:
        write_site([given], out)
        if kind == "notes":
            (out / "tasks" / "notes.txt").write_text("mine")
        elif kind == "link":
            (out / "index.html").unlink()
            (out / "index.html").symlink_to(tmp_path / "elsewhere")
            said = "is a symbolic link"
        else:
            text = '{"format": 2}' if kind == "later" else "{"
            (out / "site.json").write_text(text)
            said = "is of format 2, this version writes 1" if kind == "later" else "cannot be read"
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(OutputError, match=said):
        write_site([given], out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_list_by_a_stranger_removes_nothing_but_pages(
    make: Any, realistic: Any, tmp_path: Path
) -> None:
    given, out = make("one", realistic(1)), tmp_path / "site"
    write_site([given], out)
    private = tmp_path / "private.html"
    private.write_text("mine")
    stored = json.loads((out / "site.json").read_text())
    stored["files"] += ["../private.html", str(private), "tasks/../../private.html"]
    (out / "site.json").write_text(json.dumps(stored))
    write_site([given], out)
    assert private.read_text() == "mine"


def test_names_by_a_stranger_stay_text_and_pages_keep_apart(
    make: Any, run: Any, tmp_path: Path
) -> None:
    hostile = ["<script>alert(1)</script>", "../../x", "A b", "a_B", "ü"]
    runs = [
        run(name, seed, kind=kind, forget_accuracy=0.1 * place, dataset="d<b>&\"'")
        for seed in (0, 1)
        for place, (name, kind) in enumerate(
            [("retrain", "reference"), *((name, "method") for name in hostile)]
        )
    ]
    out = tmp_path / "site"
    write_site([make("one", runs, suite="</title><script>x()</script>")], out)
    assert {path.name for path in (out / "methods").iterdir()} == {
        "script-alert-1-script.html",
        "x.html",
        "a-b.html",
        "a-b-2.html",
        "method.html",
    }
    for path in pages(out):
        text = path.read_text()
        assert text.count("<script") == 1 and "<b>&" not in text
        script = text.partition("<script>")[2].partition("</script>")[0]
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
        assert policy in text and "src=" not in text


def test_a_suite_that_has_not_run_is_listed(make: Any, realistic: Any, tmp_path: Path) -> None:
    idle = make("idle", [], plan=["a", "b"])
    write_site([make("one", realistic(1)), idle], tmp_path / "site")
    assert "2 not run" in (tmp_path / "site" / "index.html").read_text()


def test_the_command_line_says_where_the_site_is(
    make: Any, realistic: Any, cli: Any, tmp_path: Path
) -> None:
    given, out = make("one", realistic(1)), tmp_path / "site"
    ended = cli("site", given, "--out", out)
    assert ended.code == 0, ended.err
    assert f"not linked: {given} has no report.html" in ended.out
    assert f"site: {out / 'index.html'} (tasks: 1, methods: 6)" in ended.out
    assert "DIR" in cli("site", "--out", out).error
    assert "--out" in cli("site", given).error
