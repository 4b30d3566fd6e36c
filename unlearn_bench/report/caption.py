"""The caption of a table that stands alone, as in a paper: the protocol and the rule of verdict."""

from collections.abc import Sequence

from unlearn_bench.analysis.exchange import LEVEL
from unlearn_bench.analysis.nearness import AUC_LIMIT, NEARNESS_LIMIT
from unlearn_bench.analysis.table import DAMAGE_POINTS, Section
from unlearn_bench.analysis.verdict import DESCRIPTIVE, INDISTINGUISHABLE, primary, verdicts
from unlearn_bench.report.findings import caveat, distance_definition, headline
from unlearn_bench.report.provenance import Provenance
from unlearn_bench.report.text import intervals, overview_title, section_title
from unlearn_bench.results.metrics import TIME_RATIO


def caption(section: Section, origin: Provenance, stressed: bool) -> str:
    """Say what was measured how often, against what, and how it was judged.

    Args:
        section: What the table shows.
        origin: How the results came to be.
        stressed: Whether a method of the table is set in bold.
    """
    title = section_title(section)
    if not section.values.size:
        return f"{title}: {headline(section)}."
    about = "unlearning against retraining from scratch with the same seed"
    said = [f"{title}: {about if section.reference is not None else headline(section)}."]
    said.append(intervals([section], f"{len(section.seeds)} seeds"))
    if origin.recipe:
        given = f"Original: {origin.original}. Retrained model" if origin.original else ""
        said.append(f"{given or 'Original and retrained model'}: {origin.recipe}.")
    if section.compared:
        said.append(distance_definition(section))
    if TIME_RATIO in section.table.columns:
        where = f", on {origin.hardware}" if origin.hardware else ""
        said.append(f"Time includes precomputation{where}.")
    said.append(_judgement(section, stressed))
    if any(row.damage is not None for row in section.table.rows):
        said.append(f"†: {DAMAGE_POINTS:.0f} or more points of retain accuracy lost.")
    if section.failures:
        said.append(f"{len(section.failures)} runs failed and are not in the means.")
    if origin.missing:
        said.append(f"{origin.missing} of {origin.planned} runs of the suite were not run.")
    return " ".join(part for part in said if part)


def overview_caption(sections: Sequence[Section], finding: str) -> str:
    """Say what the distances of several settings are, and where their bold comes from."""
    return (
        f"{finding}. {overview_title(sections)}, by setting. {intervals(sections)} Bold follows "
        "the verdicts in the settings' own tables."
    )


def _judgement(section: Section, stressed: bool) -> str:
    judged = [v for v in verdicts(section) if v.kind == "method"]
    blind = caveat(section)
    of = f"{len(primary(section))} primary metrics fixed beforehand"
    if any(v.p_value is not None for v in judged):
        rule = (
            f"Verdicts rest on {of}: distinguishable if a permutation test within seeds rejects "
            f"at {LEVEL:.0%} (in brackets the number of metrics that reject, step-down); "
            f"indistinguishable if not, each is equivalent within {NEARNESS_LIMIT:g} spread of "
            "retrainings (TOST) and a linear discriminant of all recognises one model with AUC at "
            f"most {AUC_LIMIT:g}; undecided "
            "otherwise (in brackets the spreads it may be away)."
        )
        bold = "Bold: indistinguishable."
        if stressed and not any(v.verdict == INDISTINGUISHABLE for v in judged):
            bold = "Bold: not told apart, and not damaged."
        none = "Nothing is bold." if blind else "None is indistinguishable: no bold."
        return " ".join(filter(None, (rule, blind, bold if stressed else none)))
    if any(v.verdict == DESCRIPTIVE for v in judged):
        rule = (
            f"Descriptive, too few seeds for a verdict: of {of}, in brackets how many lie beyond "
            "the band of retrainings in every seed, on the same side."
        )
        bold = "Bold: told apart by none of them, and not damaged."
        none = "Nothing is bold." if blind else "Every method is told apart or damaged: no bold."
        return " ".join(filter(None, (rule, blind, bold if stressed else none)))
    if section.table.of_kind("method"):
        return "No verdict can be given here, so nothing is bold."
    return ""
