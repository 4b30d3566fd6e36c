"""What each method changed in the model, as a note: nothing, the head only, or hidden layers."""

from unlearn_bench.analysis.table import ORIGINAL, Section
from unlearn_bench.report.findings import Note, in_prose


def weights_changed(section: Section) -> list[Note]:
    """Name the methods and controls that left every hidden layer as the original had it."""
    groups: dict[str, list[str]] = {"the head only by": [], "nothing by": []}
    for row in section.table.rows:
        changed, hidden = (
            section.table.value(row.method, name)
            for name in ("layers_changed", "hidden_layers_changed")
        )
        if row.method == ORIGINAL or changed is None or hidden is None or hidden.mean > 0:
            continue
        groups["the head only by" if changed.mean > 0 else "nothing by"].append(row.method)
    said = [f"{what} {in_prose(names, most=30)}" for what, names in groups.items() if names]
    return [Note("Weights changed", f"{'; '.join(said)}.")] if said else []
