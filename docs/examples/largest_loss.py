"""The largest loss on a forgotten example: how far the worst case was driven."""

from unlearn_bench.api import Evaluation, MetricInfo, Record, measures


@measures(
    MetricInfo(
        "largest_loss",
        "Largest cross-entropy on F, in nats. At least 0.",
        label="Largest forget loss",
        unit="number",
        cost="none",
    )
)
def largest_loss(evaluation: Evaluation) -> list[Record]:
    """Return the largest loss of the unlearned model on the forgotten examples."""
    outputs = evaluation.unlearned["forget"]
    return [Record("largest_loss", "forget", float(outputs.nll().max()))]
