"""A metric and a fake of one's own, by their decorators alone, in every place that speaks of them.

One run with both plug-in files; the report is then made again by a process without them.
"""

import csv
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from unlearn_bench.report.content import read_content

FAKE = Path(__file__).parents[2] / "benchmarks" / "fakes" / "lower_bias.py"
TOY = '''\
"""The mean largest logit on F."""

from unlearn_bench.api import Evaluation, MetricInfo, Record, measures


@measures(
    MetricInfo(
        "toy_margin",
        "Mean largest logit on F. Any number.",
        label="Toy margin",
        unit="score",
        cost="none",
    )
)
def toy_margin(evaluation: Evaluation) -> list[Record]:
    logits = evaluation.unlearned["forget"].logits
    return [Record("toy_margin", "forget", float(logits.amax(1).mean()))]
'''


@dataclass(frozen=True)
class Made:
    out: Path
    toy: Path


@pytest.fixture(scope="module")
def made(_server, finished, tmp_path_factory: pytest.TempPathFactory) -> Made:
    place = tmp_path_factory.mktemp("own_metric")
    toy, home = place / "toy.py", place / "home"
    toy.write_text(TOY)
    shutil.copytree(finished.home, home)
    ended = _server(
        "run",
        finished.suite,
        "--plugin",
        toy,
        "--plugin",
        FAKE,
        "--out",
        place / "out",
        env={"UNLEARN_BENCH_HOME": str(home)},
    )
    assert ended.code == 0, ended.err
    return Made(place / "out", toy)


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> Path:
    """The results, made into a report again by a process that has no plug-in."""
    return Path(shutil.copytree(made.out, tmp_path / "copy"))


def page_texts(folder: Path) -> dict[str, bool]:
    return {
        name: "Toy margin" in (folder / name).read_text()
        for name in ("report.html", "report.md", "report.tex")
    }


def test_a_toy_metric_is_in_the_records_and_on_every_page(made: Made) -> None:
    rows = list(csv.DictReader((made.out / "records.csv").open()))
    assert {row["method"] for row in rows if row["metric"] == "toy_margin"} >= {
        "finetune",
        "retrain",
    }
    assert page_texts(made.out) == dict.fromkeys(page_texts(made.out), True)
    table = read_content(made.out).sections[0].table
    assert "Toy margin" in table.columns


def test_it_is_still_there_when_a_report_is_made_without_the_plug_in(cli, copy: Path) -> None:
    for name in ("report.html", "report.md", "report.tex"):
        (copy / name).unlink()
    assert cli("report", copy).code == 0
    assert all(page_texts(copy).values())


def test_a_metric_that_nobody_declares_keeps_its_name(cli, copy: Path) -> None:
    suite = json.loads((copy / "suite.json").read_text())
    del suite["metrics"]
    (copy / "suite.json").write_text(json.dumps(suite))
    assert cli("report", copy).code == 0
    assert "toy_<wbr>margin" in (copy / "report.html").read_text()
    assert not any(page_texts(copy).values())


def test_it_is_listed_and_shown(cli, made: Made) -> None:
    listed = cli("list", "metrics", "toy*", "--plugin", made.toy)
    assert listed.code == 0 and "toy_margin" in listed.out
    shown = cli("show", "toy_margin", "--plugin", made.toy)
    assert "Mean largest logit on F." in shown.out and "in the verdict  no\n" in shown.out


def test_what_is_needed_to_make_it_again_is_kept(made: Made) -> None:
    suite = json.loads((made.out / "suite.json").read_text())
    assert "--plugin plugins/toy.py" in suite["origin"]["reproduce"]
    assert (made.out / "plugins" / "toy.py").read_text() == TOY
    assert list(suite["metrics"]) == ["toy_margin"]


def test_a_fake_of_a_plug_in_is_one_in_the_report(made: Made) -> None:
    suite = json.loads((made.out / "suite.json").read_text())
    fakes = {label for label, facts in suite["methods"].items() if facts["fake"]}
    assert fakes == {"lower_bias", "logit_mask", "uniform_on_forget"}
    section = read_content(made.out).sections[0].section
    assert set(section.fakes) == fakes
    legacy = read_content(made.out).sections[0].legacy
    assert "lower_bias (fake)" in [row[0] for row in legacy.rows]
