"""The sentences of an audit: what was declared, what was found, and what it does not mean."""

from collections.abc import Sequence
from typing import Any

from unlearn_bench.audit.statement import Finding, Word

ACCESS = (
    "weights of the original and of the unlearned model, all training and test examples, and "
    "reference models trained without the forgotten ones"
)
DECLARED = (
    "Membership: the share of forgotten examples that an attack finds at a false positive rate of "
    "1 %, with its exact 95 % interval; detected if more are found than chance allows. The attack "
    "compares how sure the model is of an example with how sure the references are: by the "
    "probability of its class, or by that probability's logit where whole classes are forgotten, "
    "which no reference knows. There, class knowledge as well: the share of unseen images of these "
    "classes that the model still names, detected if that is more than the reference that names "
    "most. A single test has a level of 5 %, each of two 2.5 %."
)
LIMITS = (
    "This is a finding about the attacks that were run. It does not show that the "
    "model is anonymous, nor that any law is complied with.",
    "A stronger attack, or one that nobody has published yet, may find what these did not.",
    "The audit looks at models alone. Weights do not show whether the given original was trained "
    "on the forgotten examples, whether the given unlearned model is the one in use, or whether "
    "the given references never saw these examples. For this, a reader must trust the person who "
    "ran the audit (Thudi et al. 2022, arXiv:2110.11891).",
    "Copies elsewhere are not covered: backups, earlier versions, models distilled from this one, "
    "and the training data themselves.",
    "Examples that resemble the forgotten ones may have been retained. The model still knows them.",
    "Where nothing was detected, effects smaller than the one named beside the headline may "
    "still be present.",
)
OUTPUTS = "the model's outputs for examples that it holds, and models like it trained without them"
WEIGHTS = "the model's weights, and retained training examples"


def percent(value: float) -> str:
    """Write a share in percent, small ones with a digit more."""
    return f"{100 * value:.2f} %" if 0 < value < 0.01 else f"{100 * value:.1f} %"


def attack_classes(forgotten: Sequence[int]) -> list[dict[str, Any]]:
    """Return the rows of the table of attacks: what each class asks, and what was run of it.

    Args:
        forgotten: Classes that are forgotten whole.
    """
    remnants = ["relearning time", "input recovery", "BatchNorm recovery"]
    remnants += ["class knowledge", "linear probe on features"] if forgotten else []
    rows: tuple[tuple[str, str, str, list[str]], ...] = (
        (
            "Membership inference",
            "Was this example trained on?",
            OUTPUTS,
            ["calibrated attack (headline)", "loss attack", "fitted attacks"],
        ),
        ("Residual knowledge", "Does forgotten knowledge come back?", WEIGHTS, remnants),
        (
            "Attribute inference",
            "What else can be said of a person whose data were used?",
            "outputs, and part of a record",
            [],
        ),
        ("Model inversion", "What does a typical image of a class look like?", "weights", []),
        ("Data extraction", "Can training examples be read from the model?", "weights", []),
        (
            "Reconstruction from the update",
            "Can forgotten examples be computed from both models?",
            "weights before and after unlearning",
            [],
        ),
    )
    names = ("attack", "asks", "attacker_sees", "run")
    return [dict(zip(names, row, strict=True)) for row in rows]


def sentence(word: Word, found: Sequence[Finding], effect: float | None) -> str:
    """Return the headline in one sentence.

    Args:
        word: What was found.
        found: By each test that was taken, in the unlearned model; of an inconclusive audit in
            the original.
        effect: The smallest true positive rate that would have been found.
    """
    shown = [finding for finding in found if finding.detected or word != "exposed"]
    said = "; ".join(map(_said, shown))
    if word == "refused":
        return "No measure could be taken: see the reasons beside it."
    if word == "exposed":
        return f"The unlearned model still shows what it was to forget: {said}."
    if word == "inconclusive":
        return (
            f"Nothing can be said: the tests do not even detect the original ({said}). Their "
            "silence about the unlearned model is no evidence."
        )
    limit = (
        ""
        if effect is None
        else f" A true positive rate of {percent(effect)} would have been found with a power of "
        "80 %."
    )
    return f"The original is detected, and the unlearned model is not: {said}.{limit}"


def _said(finding: Finding) -> str:
    interval = f"{percent(finding.low)} to {percent(finding.high)}"
    share = percent(finding.share)
    if finding.measure == "membership":
        return (
            f"the attack finds {share} ({interval}) of {finding.of:,} forgotten "
            f"examples at 1 % false positives (p = {finding.p_value:.2g})"
        )
    return (
        f"it names {share} ({interval}) of {finding.of:,} unseen images of the "
        f"forgotten classes (p = {finding.p_value:.2g})"
    )
