"""The statement in the order in which it is read: sections of text and tables, for every format."""

from collections.abc import Iterable
from dataclasses import dataclass

from unlearn_bench.audit.statement import Finding, Statement
from unlearn_bench.audit.words import percent
from unlearn_bench.core.quantities import time_text


@dataclass(frozen=True)
class Table:
    """Rows of texts under headings; all columns but the first ``words`` hold numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Shares:
    """What was found in each model, drawn with its interval.

    Attributes:
        title: What is drawn.
        chance: The share that chance gives.
        findings: A line each.
    """

    title: str
    chance: float
    findings: tuple[Finding, ...]


Block = str | Table | Bullets | Shares


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """All that a reader sees.

    Attributes:
        title: Of the page.
        word: The headline in a word.
        sentence: And in one sentence.
        sections: In reading order.
        seal: The statement's own hash.
    """

    title: str
    word: str
    sentence: str
    sections: tuple[Section, ...]
    seal: str


def document(said: Statement) -> Document:
    """Return the statement as a document."""
    return Document(
        f"Audit of an unlearned model: {said.request.scenario}",
        said.headline.word,
        said.headline.sentence,
        (
            _request(said),
            _headline(said),
            _controls(said),
            _attacks(said),
            _examples(said),
            _utility(said),
            Section("What this does not say", (Bullets(tuple(said.limits)),)),
            _provenance(said),
            _metrics(said),
        ),
        said.self_hash,
    )


def _facts(*rows: tuple[str, str]) -> Table:
    return Table(("", ""), tuple(row for row in rows if row[1]), words=2)


def _request(said: Statement) -> Section:
    asked = said.request
    by_class = ", ".join(f"{count:,} of {name}" for name, count in asked.by_class.items())
    return Section(
        "The request",
        (
            _facts(
                ("Whose data", asked.subject),
                ("Requested", asked.requested or "no date is stated"),
                ("Audited", asked.audited),
                ("To be forgotten", f"{asked.scenario}: {asked.examples:,} training examples"),
                ("By class", by_class),
                ("Classes forgotten whole", ", ".join(asked.forgotten_classes) or "none"),
                ("SHA-256 of the indices", asked.indices_sha256),
                (
                    "Looked at by nobody",
                    f"{asked.held_out:,} training examples, which the division sets aside",
                ),
                ("The auditor had", asked.access),
            ),
        ),
    )


def _findings(findings: Iterable[Finding]) -> Table:
    rows = tuple(
        (
            found.model,
            found.measure,
            f"{found.count:,} of {found.of:,}",
            percent(found.share),
            f"{percent(found.low)} to {percent(found.high)}",
            f"{found.p_value:.2g}",
            "detected" if found.detected else "not detected",
        )
        for found in findings
    )
    head = ("Model", "Measure", "Found", "Share", "95 % interval", "p", "Result")
    return Table(head, rows, words=2)


def _headline(said: Statement) -> Section:
    head = said.headline
    effect = head.smallest_effect
    smallest = (
        ""
        if effect is None
        else f"With {head.members:,} members and {head.non_members:,} non-members, a true positive "
        f"rate of {percent(effect)} would be found with a power of 80 %; smaller effects may be "
        "missed."
    )
    blocks: list[Block] = [f"Declared beforehand. {head.declared}", _findings(head.unlearned)]
    blocks += [smallest] if smallest else []
    blocks += [Bullets(tuple(head.refused))] if head.refused else []
    everyone = (*said.controls.positive, *head.unlearned, *said.controls.negative)
    members = tuple(found for found in everyone if found.measure == "membership")
    if members:
        blocks.append(Shares("Forgotten examples found at 1 % false positives", 0.01, members))
    return Section("What was found", tuple(blocks))


def _controls(said: Statement) -> Section:
    control = said.controls
    works = (
        "The tests detect the original, as they must."
        if control.works
        else "The tests do not detect the original: what they do not find is no evidence."
    )
    blocks: list[Block] = [works, _findings(control.positive)]
    if control.works and control.blind:
        blocks.append(
            f"By {' and '.join(control.blind)} the original is not detected here: that the "
            "unlearned model is not either says nothing."
        )
    blocks.append(control.note)
    if control.negative:
        blocks += [
            f"False alarms: {control.false_alarms} of {control.false_alarms_of} tests of models "
            f"that never saw the data (95 % interval {percent(control.false_alarms_low)} to "
            f"{percent(control.false_alarms_high)}).",
            _findings(control.negative),
        ]
    if control.fakes:
        caught = {found.model for found in control.fakes if found.detected}
        passed = sorted({found.model for found in control.fakes} - caught)
        fooled = (
            f"{' and '.join(passed)} pass the tests: a model that only hides what it knows behind "
            "its outputs would pass as well. Residual knowledge is then what counts, below."
            if passed
            else "The tests detect both models that only hide what they know."
        )
        blocks += [fooled, _findings(control.fakes)]
    return Section("Can the tests be trusted here?", tuple(blocks))


def _attacks(said: Statement) -> Section:
    rows = tuple(
        (row.attack, row.asks, row.attacker_sees, ", ".join(row.run) or "not run")
        for row in said.attacks
    )
    head = ("Attack", "It asks", "The attacker sees", "What was run")
    return Section("Attacks that were run, and those that were not", (Table(head, rows, words=4),))


def _examples(said: Statement) -> Section:
    rows = tuple(
        (
            str(example.index),
            example.label,
            f"{example.score:.3f}",
            percent(example.non_members_above),
            "yes" if example.flagged else "no",
        )
        for example in said.most_exposed
    )
    head = ("Index", "Class", "Score", "Non-members above", "Flagged at 1 %")
    kept = said.retained
    changed = (
        f"Of {kept.examples:,} retained examples, {percent(kept.answers_changed)} get another "
        f"answer than before, and {percent(kept.newly_wrong)} are newly wrong. Those that changed "
        f"most: {', '.join(map(str, kept.largest_changes))}."
    )
    title = "The most exposed of the forgotten examples, and the retained ones"
    return Section(title, (Table(head, rows, words=2), changed))


def _utility(said: Statement) -> Section:
    models = said.utility
    rows = [
        ("retained classes", *(percent(model.accuracy) for model in models)),
        ("calibration error", *(percent(model.calibration_error) for model in models)),
    ]
    names = dict.fromkeys(name for model in models for name in model.by_class)
    rows += [
        (name, *(percent(model.by_class.get(name, 0.0)) for model in models)) for name in names
    ]
    cost = ", ".join(f"{what}: {time_text(spent)}" for what, spent in said.seconds.items())
    table = Table(("Accuracy on unseen images", *(model.model for model in models)), tuple(rows))
    return Section(
        "What the model is still good for",
        (table, f"Time spent here: {cost}. What unlearning took is not known to the audit."),
    )


def _provenance(said: Statement) -> Section:
    origin = said.provenance
    rows = tuple(
        (model.name, model.made_by, model.sha256, model.file_sha256 or "none given")
        for model in origin.models
    )
    recipe = ", ".join(f"{name} {value}" for name, value in (origin.recipe or {}).items())
    return Section(
        "Where everything comes from",
        (
            Table(("Model", "Made by", "SHA-256 of its tensors", "SHA-256 of the file"), rows, 4),
            _facts(
                ("Architecture", origin.architecture),
                ("Data", f"{origin.data}, fingerprint {origin.data_fingerprint}"),
                ("Inputs", origin.inputs),
                ("Recipe of the references", recipe),
                ("Software", ", ".join(f"{k} {v}" for k, v in origin.software.items())),
                ("Device and seed", f"{origin.device}, seed {origin.seed}"),
            ),
        ),
    )


def _metrics(said: Statement) -> Section:
    rows = tuple(
        (
            metric.name,
            metric.split.replace("_", " ").replace("+", " + "),
            metric.reason or "not measured" if metric.value is None else f"{metric.value:.4g}",
        )
        for metric in said.metrics
    )
    text = "Every metric of the package, of the unlearned model. None of them decides the headline."
    return Section("Appendix: all metrics", (text, Table(("Metric", "On", "Value"), rows, 2)))
