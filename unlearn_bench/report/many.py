"""The section "Many models": what takes all seeds together, each number beside its null."""

import io
from collections.abc import Mapping, Sequence

import pandas as pd

from unlearn_bench.analysis.table import Section
from unlearn_bench.population.many import QUESTIONS
from unlearn_bench.report.text import NONE, TextTable

FILE = "population.parquet"
TITLE = "Many models"
_ASKED = {
    "privacy": "Forgot it, or never saw it?",
    "efficacy": "Forgot it, or the original that never saw it?",
    "collateral": "Kept it: unlearned, or original?",
}
_READING = (
    "Attacks by many models, each model judged by the others: AUC with its 95 % interval over "
    "models and targets, and the true positive rate at 1 % false positives. Retraining shows what "
    "chance gives, the original what an attack can see at all. The attacker sees logits of all "
    "models."
)
_READING_OF_SEEDS = (
    "KLoM is the divergence of the scores of single examples from retraining's, in nats; "
    "forgetting quality is 1 where no threshold separates an example's unlearned models from "
    "retrained ones. In brackets what a random division of the same models gives."
)


def of_section(numbers: pd.DataFrame, section: Section) -> pd.DataFrame:
    """Return a section's part of what was found over many models."""
    of_data = (numbers["dataset"] == section.dataset) & (numbers["model"] == section.model)
    return numbers[of_data & (numbers["scenario"] == section.scenario)]


def is_of_thirds(found: pd.DataFrame) -> bool:
    """Whether the numbers are those of targets that some models never saw."""
    return bool((found["split"] == "targets").any())


def many_table(found: pd.DataFrame, section: Section) -> TextTable:
    """Return the numbers over many models, one line per row; empty where seeds are too few."""
    measured = found[found["value"].notna()]
    rows = [row.method for row in section.table.rows if row.method in set(measured["method"])]
    if not rows:
        return TextTable(TITLE, "", (), ())
    cells = {
        (str(r.method), str(r.metric), str(r.split)): r for r in measured.itertuples(index=False)
    }
    if is_of_thirds(found):
        lines = [(m, *_attacks_on(cells, m)) for m in rows]
        heads = [f"{_ASKED[question]} AUC" for question in QUESTIONS]
        names = ("Method", *heads, "Never saw it? TPR at 1 % FPR", "By loss alone, AUC")
        return TextTable(TITLE, "", names, tuple(lines), notes=(_READING,))
    columns = {
        "KLoM, F": ("klom", "forget"),
        "KLoM, R": ("klom", "retain"),
        "KLoM, TF": ("klom", "test_forget"),
        "Forgetting quality": ("forgetting_quality", "forget"),
        "of another retraining's": ("forgetting_quality_ratio", "forget"),
    }
    lines = [(m, *(_with_null(cells.get((m, *key))) for key in columns.values())) for m in rows]
    return TextTable(TITLE, "", ("Method", *columns), tuple(lines), notes=(_READING_OF_SEEDS,))


def tier(found: pd.DataFrame) -> str:
    """Say which tier of evidence a section has, and how many models stand behind it."""
    if found["value"].notna().any():
        models = int(found["n_models"].max())
        if is_of_thirds(found):
            left = next(filter(None, found.loc[found["value"].notna(), "reason"]), "")
            more = f" {left}." if left else ""
            return f"Tier 2: attacks by K = {models} models of each method.{more}"
        return f"Tier 2: scores of single examples over {models} models."
    why = next(filter(None, found["reason"]), "")
    return f"Tier 1: no shadow models (K = 0{'; ' if why else ''}{why})."


def as_parquet(numbers: pd.DataFrame) -> bytes:
    """Return ``population.parquet``."""
    figures = ("value", "low", "high", "null_low", "null_high")
    types = dict.fromkeys(figures, "float64") | {"n_models": "int64"}
    texts = dict.fromkeys(set(numbers.columns) - set(types), "str")
    buffer = io.BytesIO()
    numbers.astype(types | texts).to_parquet(buffer, index=False, compression="zstd")
    return buffer.getvalue()


def _attacks_on(cells: Mapping[tuple[str, str, str], object], method: str) -> Sequence[str]:
    def cell(metric: str) -> str:
        return _with_interval(cells.get((method, metric, "targets")))

    questions = [cell(f"{question}_lira_auc") for question in QUESTIONS]
    return (*questions, cell("privacy_lira_tpr_at_1pct"), cell("privacy_loss_auc"))


def _with_interval(found: object) -> str:
    if found is None:
        return NONE
    value, low, high = (getattr(found, name) for name in ("value", "low", "high"))
    return f"{value:.3f} ({low:.3f}–{high:.3f})"


def _with_null(found: object) -> str:
    if found is None:
        return NONE
    value, low, high = (getattr(found, name) for name in ("value", "null_low", "null_high"))
    if pd.isna(low):
        return f"{value:.2f}"
    null = f"{low:.2f}" if low == high else f"{low:.2f}–{high:.2f}"
    return f"{value:.2f} ({null})"
