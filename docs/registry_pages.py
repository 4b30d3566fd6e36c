"""Write the pages of methods, metrics and reference reports from what the package declares.

A Sphinx extension: before the sources are read it fills ``reference/`` from the registry, the
metrics' declarations and the committed reports, so that no page can fall behind the code.
"""

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import getdoc, getmodule
from pathlib import Path
from typing import Any

import pandas as pd

from unlearn_bench.cli.catalogue import BETTER, IN_THE_VERDICT, made_for
from unlearn_bench.plugins import registry
from unlearn_bench.plugins.method import Method
from unlearn_bench.plugins.metric import MetricInfo
from unlearn_bench.population.metrics import MANY
from unlearn_bench.results.metrics import BUILT_IN

ROOT = Path(__file__).parents[1]
REPORTS = ROOT / "reports"

# What a method's page shows of a report: heading, metric and split.
RESULTS = (
    ("Forget, %", "forget_accuracy", "forget"),
    ("Test forget, %", "test_forget_accuracy", "test_forget"),
    ("Test retain, %", "test_retain_accuracy", "test_retain"),
    ("Loss attack AUC", "mia_loss_auc", None),
    ("Linear probe, %", "probe_recall", None),
    ("Relearning, steps", "relearn_time_features", None),
    ("Time, % of retraining", "time_ratio_to_retrain", None),
)
PERCENT = ("percent", "ratio")
YARDSTICKS = ("retrain", "original")


def setup(app: Any) -> dict[str, Any]:
    """Let Sphinx call :func:`write_pages` before it looks for sources and extra files."""

    def write(app: Any, _: Any) -> None:
        docs = Path(app.srcdir)
        write_pages(docs, notebook_pages(docs))

    app.connect("config-inited", write, priority=1)
    return {"parallel_read_safe": True}


def write_pages(docs: Path, others: Mapping[str, str] | None = None) -> None:
    """Write every generated page below ``docs/reference`` and the reports below ``docs/_extra``.

    Args:
        docs: The folder of the documentation.
        others: More pages, by their place below ``reference``.
    """
    results = read_results(REPORTS)
    methods = registry.methods()
    pages = {f"methods/{name}.md": method_page(entry, results) for name, entry in methods.items()}
    metrics = {**BUILT_IN, **MANY}
    pages |= {f"metrics/{name}.md": metric_page(info) for name, info in metrics.items()}
    pages["methods/index.md"] = methods_index(methods)
    pages["metrics/index.md"] = metrics_index(metrics)
    pages["reports.md"] = reports_page(REPORTS)
    write_changed(docs / "reference", {**pages, **(others or {})})
    copy_reports(REPORTS, docs / "_extra" / "reports")


def write_changed(folder: Path, pages: Mapping[str, str]) -> None:
    """Write pages whose text is new, so that Sphinx rebuilds only those, and remove the others."""
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    for path in folder.rglob("*.md"):
        if path.relative_to(folder).as_posix() not in pages:
            path.unlink()


def copy_reports(reports: Path, target: Path) -> None:
    """Copy the self-contained page of every reference report."""
    for page in sorted(reports.rglob("report.html")):
        place = target / page.relative_to(reports)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page, place)


# Methods


def method_page(entry: Method, results: Sequence["Result"]) -> str:
    """Return the Markdown page of one method."""
    facts = [
        ("Kind", entry.kind),
        ("Reads", str(entry.access)),
        ("Family", entry.family or "–"),
        ("Year", str(entry.year or "–")),
        ("Made for", made_for(entry)),
        ("Source", linked(entry.source) or "this project"),
        ("Code", f"`methods/{entry.file.name}`"),
    ]
    parts = [f"# {entry.name}", f"{entry.summary}.", table(("", ""), facts)]
    if body := explanation(entry):
        parts += ["## How it works", body]
    if rows := [
        (f"`{p.name}`", p.type, f"`{p.default!r}`", p.origin or "–", p.explanation)
        for p in entry.parameters()
    ]:
        parts += ["## Parameters", table(("Name", "Type", "Default", "From", "Meaning"), rows)]
    if entry.space and entry.kind == "method":
        searched = [(f"`{dimension.name}`", str(dimension)) for dimension in entry.space]
        parts += [
            "## Tuning space",
            "What [`unlearn-bench tune`](../../how-to/tune.md) searches.",
            table(("Parameter", "Values"), searched),
        ]
    if found := [result for result in results if entry.name in result.values]:
        parts += ["## Results in the reference reports", RESULTS_NOTE]
        for result in found:
            parts += [f"### {result.title}", result.link, result_table(result, entry.name)]
    return "\n\n".join(parts) + "\n"


RESULTS_NOTE = (
    "Means over seeds. Read each number beside that of retraining: it is the ideal. "
    "[Verdict](../../concepts/verdict.md) explains the words."
)


def explanation(entry: Method) -> str:
    """Return the module's description without its first line and its source."""
    module = getmodule(entry.function)
    text = (module and getdoc(module)) or getdoc(entry.function) or ""
    body = text.partition("\n")[2].strip()
    return body.replace("::\n", ":\n")


def methods_index(methods: Mapping[str, Method]) -> str:
    """Return the page that lists methods by family, then the reference and the controls."""
    families: dict[str, list[Method]] = {}
    for entry in methods.values():
        heading = entry.family if entry.kind == "method" else entry.kind
        families.setdefault(heading or "other", []).append(entry)
    last = ("reference", "control")
    order = sorted(families, key=lambda family: (family in last, family == "control", family))
    parts = [
        "# Methods",
        "Generated from the registry. `unlearn-bench list methods` prints the same list and "
        "`unlearn-bench show NAME` the same facts.",
    ]
    for family in order:
        rows = [
            (f"[`{e.name}`]({e.name}.md)", e.summary, str(e.access), str(e.year or "–"))
            for e in families[family]
        ]
        title = {"reference": "The reference", "control": "Controls"}.get(
            family, family[0].upper() + family[1:]
        )
        parts += [f"## {title}", listing(("Name", "What it does", "Reads", "Year"), rows)]
    return "\n\n".join([*parts, toctree(methods)]) + "\n"


# Metrics


def metric_page(info: MetricInfo) -> str:
    """Return the Markdown page of one metric."""
    facts = [
        ("In tables", info.label or f"`{info.name}`"),
        ("Ideal", info.ideal),
        ("Better", BETTER[info.direction]),
        ("In the verdict", IN_THE_VERDICT[info.role]),
        ("Measured on", ", ".join(filter(None, info.splits)) or "the model"),
        ("Cost", info.cost),
        ("Source", linked(info.source) or "this project"),
    ]
    if info.role:
        facts.insert(4, ("Never matters", f"a difference to retraining up to {info.floor:g}"))
    rows = [(name, escaped(value)) for name, value in facts]
    return f"# {info.name}\n\n{prose(info.definition)}\n\n{table(('', ''), rows)}\n"


def metrics_index(metrics: Mapping[str, MetricInfo]) -> str:
    """Return the page that lists metrics by their say in the verdict."""
    groups: dict[str, list[MetricInfo]] = {heading: [] for heading in METRIC_GROUPS}
    for info in metrics.values():
        groups[group_of(info)].append(info)
    parts = [
        "# Metrics",
        "Generated from the declarations in the code. U is the unlearned model, O the original, G "
        "the model retrained from the same seed; F are the forgotten training examples, R the "
        "retained ones, TF and TR the test examples of forgotten and of retained classes.",
    ]
    for heading, infos in groups.items():
        rows = [(f"[`{m.name}`]({m.name}.md)", m.label or "–", escaped(m.ideal)) for m in infos]
        parts += [f"## {heading}", METRIC_GROUPS[heading]]
        parts += [listing(("Name", "In tables", "Ideal"), rows)]
    return "\n\n".join([*parts, toctree(metrics)]) + "\n"


METRIC_GROUPS = {
    "Primary": "Fixed before any result was seen; they decide the verdict.",
    "Secondary": "Tested for power and against fakes, without a part in the verdict.",
    "Legacy": "Common in papers, shown in an appendix of the report.",
    "Descriptive": "Shown for insight.",
    "Cost": "Time, memory and examples.",
    "Over many models": "Need many seeds; see [many-model attacks](../../concepts/many-models.md).",
}


def group_of(info: MetricInfo) -> str:
    """Return the heading that a metric stands under."""
    if info.name in MANY:
        return "Over many models"
    if info.role:
        return info.role.capitalize()
    return "Cost" if info.direction == "less" or "seconds" in info.name else "Descriptive"


# Reports


@dataclass(frozen=True)
class Result:
    """One setting of one reference report.

    Attributes:
        title: The setting in words.
        link: A sentence with the report it comes from.
        values: By method and heading, the mean over seeds.
        verdicts: By method.
    """

    title: str
    link: str
    values: Mapping[str, Mapping[str, float]]
    verdicts: Mapping[str, str]


def read_results(reports: Path) -> list[Result]:
    """Read every committed report, one result per dataset, model and scenario."""
    return [
        result
        for file in sorted(reports.rglob("records.parquet"))
        for result in _settings(file.parent, file.parent.relative_to(reports).as_posix())
    ]


def _settings(folder: Path, name: str) -> Iterator[Result]:
    records = pd.read_parquet(folder / "records.parquet")
    verdicts = pd.read_csv(folder / "verdicts.csv")
    measured = records[records["status"] == "ok"]
    setting = ["dataset", "model", "scenario"]
    for key, group in measured.groupby(setting, sort=False):
        values: dict[str, dict[str, float]] = {}
        for heading, metric, split in RESULTS:
            found = group[group["metric"] == metric]
            if split is not None:
                found = found[found["split"] == split]
            factor = 100 if BUILT_IN[metric].unit in PERCENT else 1
            for method, mean in found.groupby("method")["value"].mean().items():
                values.setdefault(str(method), {})[heading] = factor * mean
        judged = verdicts[(verdicts[setting] == list(key)).all(axis=1)]
        seeds = group["seed"].nunique()
        yield Result(
            f"{' · '.join(map(str, key))}, {seeds} {'seed' if seeds == 1 else 'seeds'}",
            f'From <a href="../../reports/{name}/report.html">reports/{name}</a>.',
            values,
            dict(zip(judged["method"], judged["verdict"], strict=True)),
        )


def result_table(result: Result, method: str) -> str:
    """Return the row of a method above those of retraining and of the original."""
    shown = dict.fromkeys((method, *YARDSTICKS))
    rows = [
        (
            f"`{name}`",
            *(_number(result.values[name].get(heading)) for heading, *_ in RESULTS),
            result.verdicts.get(name, "–"),
        )
        for name in shown
        if name in result.values
    ]
    return table(("Model", *(heading for heading, *_ in RESULTS), "Verdict"), rows)


def _number(value: float | None) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:.2f}" if abs(value) < 1 and value else f"{value:.1f}"


def reports_page(reports: Path) -> str:
    """Return the page with the findings and the headline of every reference report."""
    findings = re.sub(
        r"\[([^\]]*)\]\((\S+)/(?:README|report)\.md\)",
        lambda link: _report_link(reports, *link.groups()),
        (reports / "README.md").read_text().partition("\n")[2],
    )
    parts = [
        "# Reference reports",
        findings.strip(),
        "## All reports",
        "Reports as the tool wrote them. Each page names the command that makes it again.",
    ]
    for text in sorted(reports.rglob("report.md")):
        name = text.parent.relative_to(reports).as_posix()
        headline, _, rest = text.read_text().partition("\n")
        about = next(line for line in rest.splitlines() if line.strip())
        parts += [
            f"### {name}",
            f"**{headline.removeprefix('# ')}.** {about}",
            f'<a href="../reports/{name}/report.html">Open the report</a>',
        ]
    return "\n\n".join(parts) + "\n"


def _report_link(reports: Path, text: str, name: str) -> str:
    if not (reports / name / "report.html").is_file():
        return text  # a page of figures that is read in the repository
    return f'<a href="../reports/{name}/report.html">{text}</a>'


# Notebooks


def notebook_pages(docs: Path) -> dict[str, str]:
    """Return the notebook as a page, and write it as ``.ipynb`` for readers to take away.

    Its source is a Python file in jupytext's percent format, which a test executes.
    """
    import jupytext

    notebook = jupytext.read(docs / "examples" / "own_network.py", fmt="py:percent")
    target = docs / "_extra" / "own_network.ipynb"
    target.parent.mkdir(exist_ok=True)
    jupytext.write(notebook, target)
    cells = [
        cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```"
        for cell in notebook.cells
    ]
    link = '<a href="../own_network.ipynb">Download the notebook</a>'
    picture = "![Test accuracy by digit of the four models](../examples/own_network.png)"
    return {"own_network.md": "\n\n".join([*cells, picture, link]) + "\n"}


# Markdown


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; line breaks and bars in cells are kept from ending them."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def listing(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose second column stays readable on a phone."""
    return f"```{{table}}\n:class: listing\n\n{table(columns, rows)}\n```"


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))


def linked(source: str) -> str:
    """Return a source with its arXiv numbers as links."""
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", source)


def escaped(text: str) -> str:
    """Return text in which no character of Markdown has a meaning, links and code apart."""
    return re.sub(r"(?<![\w`\[(])\*|(?<=\w)\*(?=\w)", r"\\*", text)


def prose(text: str) -> str:
    """Return a definition with its metric names as code."""
    return escaped(re.sub(r"(?<![\w`])([a-z]+(?:_[a-z]+)+)(?![\w`(])", r"`\1`", text))


def toctree(names: Iterable[str]) -> str:
    """Return a hidden table of contents, so that Sphinx finds the pages."""
    return "```{toctree}\n:hidden:\n\n" + "\n".join(names) + "\n```"
