"""Look at the original, the unlearned model and the references, and state what was found."""

import hashlib
import importlib.metadata
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from unlearn_bench.audit import exposure
from unlearn_bench.audit.exposure import Attack, Scores, Share
from unlearn_bench.audit.statement import (
    AttackClass,
    Controls,
    Example,
    Finding,
    Headline,
    Metric,
    Model,
    Provenance,
    Request,
    Retained,
    Statement,
    Utility,
    Word,
)
from unlearn_bench.audit.words import (
    ACCESS,
    DECLARED,
    LIMITS,
    attack_classes,
    percent,
    sentence,
)
from unlearn_bench.data.datasets import Dataset
from unlearn_bench.execution.models import Trio
from unlearn_bench.execution.origin import commit
from unlearn_bench.execution.run import Runner
from unlearn_bench.execution.task import Task
from unlearn_bench.measure.lab import Lab
from unlearn_bench.measure.metrics.calibration import expected_calibration_error
from unlearn_bench.measure.outputs import Outputs
from unlearn_bench.plugins import registry
from unlearn_bench.store.store import Artifact
from unlearn_bench.suite.spec import RunSpec

MOST_EXPOSED = 10
FAKES = ("logit_mask", "uniform_on_forget")
Measure = Literal["membership", "class knowledge"]


@dataclass(frozen=True)
class Reference:
    """A model that was trained without the forgotten examples.

    Attributes:
        name: In the statement.
        weights: The model.
        made_by: Who trained it.
        file_sha256: Of the user's file; empty if it was trained here.
    """

    name: str
    weights: Artifact
    made_by: str
    file_sha256: str = ""


@dataclass(frozen=True)
class Subject:
    """What is audited.

    Attributes:
        spec: Of the unlearned model, as the harness runs it.
        original: What it was unlearned from.
        unlearned: The model itself.
        references: At least one.
        subject: Whose data, in the user's words.
        requested: Date of the request, in the user's words.
        seconds: Wall time of what was made for the audit, by what it was.
    """

    spec: RunSpec
    original: Artifact
    unlearned: Artifact
    references: Sequence[Reference]
    subject: str = ""
    requested: str = ""
    seconds: dict[str, float] | None = None


class Seen:
    """What the models say of all examples that an audit looks at.

    Args:
        lab: Of the task.
        task: Data and index sets.
        subject: What is audited.
    """

    def __init__(self, lab: Lab, task: Task, subject: Subject) -> None:
        self.data, self.indices = task.data, task.indices
        self.trained = task.indices.train
        self.others = exposure.matched(
            self.data.train.labels[self.indices.forget], self.data.test.labels, task.seed
        )
        self.classes = torch.tensor(self.indices.forget_classes, dtype=torch.int64)
        self._logits = {"original": lab.logits(subject.original)}
        self._logits["unlearned"] = lab.logits(subject.unlearned)
        self._logits |= {r.name: lab.logits(r.weights) for r in subject.references}
        self.references = tuple(reference.name for reference in subject.references)
        fakes = [registry.get(name).outputs for name in FAKES] if len(self.classes) else []
        for name, outputs in zip(FAKES, fakes, strict=False):
            if outputs is not None:
                self._logits[name] = {
                    part: outputs(logits.clone(), self.indices.forget_classes).double()
                    for part, logits in self._logits["original"].items()
                }

    @property
    def fakes(self) -> tuple[str, ...]:
        """Models that only hide what they know."""
        return tuple(name for name in FAKES if name in self._logits)

    def train(self, model: str, members: Tensor) -> Outputs:
        """Return what a model says of training examples that the original was trained on."""
        rows = self._logits[model]["train"][torch.searchsorted(self.trained, members)]
        return Outputs("", rows, self.data.train.labels[members])

    def test(self, model: str, members: Tensor | None = None) -> Outputs:
        """Return what a model says of test examples; of all by default."""
        rows, labels = self._logits[model]["test"], self.data.test.labels
        if members is None:
            return Outputs("", rows, labels)
        return Outputs("", rows[members], labels[members])

    def sureness(self, outputs: Outputs) -> Tensor:
        """Return how sure a model is of every example's class."""
        return exposure.sureness(outputs, of_class=len(self.classes) > 0)

    def scores(self, model: str) -> tuple[Scores, Scores]:
        """Return the scores of members and non-members; a reference is left out of its own."""
        against = [name for name in self.references if name != model]
        found = []
        for look, members in ((self.train, self.indices.forget), (self.test, self.others)):
            own = self.sureness(look(model, members))
            usual = [self.sureness(look(name, members)) for name in against]
            found.append((own - torch.stack(usual).mean(0) if usual else own).numpy())
        return found[0], found[1]

    def named(self, model: str) -> Share:
        """Return how many unseen images of forgotten classes a model names as such."""
        outputs = self.test(model, self.indices.test_forget)
        return Share(int(outputs.correct().sum()), len(outputs))


class Audit:
    """Runs the declared tests on what was seen.

    Args:
        seen: Of all models.

    Attributes:
        measures: Those that are taken.
        refused: Those that are not, with the reason.
        level: Of each test.
    """

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self.measures: list[Measure] = []
        self.refused: list[str] = []
        count = len(seen.others)
        if count >= exposure.LEAST_NON_MEMBERS:
            self.measures.append("membership")
        else:
            self.refused.append(
                f"membership: {count} test images of the forgotten classes are too few to hold a "
                f"false positive rate of 1 %; it takes {exposure.LEAST_NON_MEMBERS}"
            )
        if len(seen.classes):
            self.measures.append("class knowledge")
        self.level = exposure.LEVEL / max(1, len(self.measures))

    def attack(self, model: str, measure: Measure) -> Attack:
        """Return what a test finds in a model."""
        seen = self._seen
        if measure == "membership":
            return exposure.membership(*seen.scores(model))
        others = [seen.named(name) for name in seen.references if name != model]
        return exposure.recognition(seen.named(model), max(others, key=lambda share: share.value))

    def findings(self, model: str) -> list[Finding]:
        """Return what all tests that are taken find in a model."""
        found = []
        for measure in self.measures:
            attack = self.attack(model, measure)
            low, high = attack.found.interval
            found.append(
                Finding(
                    model=model,
                    measure=measure,
                    count=attack.found.count,
                    of=attack.found.of,
                    share=attack.found.value,
                    low=low,
                    high=high,
                    p_value=min(1.0, attack.p_value),
                    detected=attack.p_value <= self.level,
                )
            )
        return found

    def controls(self) -> Controls:
        """Return what the tests find where the answer is known."""
        seen, level = self._seen, self.level
        positive = self.findings("original")
        held_out = seen.references if len(seen.references) > 1 else ()
        negative = [found for name in held_out for found in self.findings(name)]
        alarms = sum(found.detected for found in negative)
        low, high = Share(alarms, len(negative)).interval if negative else (0.0, 1.0)
        return Controls(
            positive=positive,
            works=any(found.detected for found in positive),
            blind=[found.measure for found in positive if not found.detected],
            negative=negative,
            fakes=[found for name in seen.fakes for found in self.findings(name)],
            false_alarms=alarms,
            false_alarms_of=len(negative),
            false_alarms_low=low,
            false_alarms_high=high,
            note=(
                "By its construction, each test errs on at most "
                f"{percent(level)} of the models that never saw the data; the held-out references "
                "show whether it keeps to that."
                if held_out
                else "With one reference none can be held out: the rate of false alarms rests on "
                f"the test's construction alone ({percent(level)} for each test)."
            ),
        )

    def headline(self, control: Controls) -> Headline:
        """Return the declared result.

        Args:
            control: What the tests find where the answer is known.
        """
        seen = self._seen
        found = self.findings("unlearned") if self.measures else []
        members, others = len(seen.indices.forget), len(seen.others)
        word: Word = "refused"
        if self.measures:
            word = "exposed" if any(f.detected for f in found) else "not detected"
            word = word if control.works or word == "exposed" else "inconclusive"
        shown = control.positive if word == "inconclusive" else found
        taken = "membership" in self.measures
        effect = exposure.smallest_effect(members, others, self.level) if taken else None
        return Headline(
            declared=DECLARED,
            word=word,
            sentence=sentence(word, shown, effect),
            refused=self.refused,
            level=self.level,
            members=members,
            non_members=others,
            smallest_effect=effect,
            unlearned=found,
        )

    def most_exposed(self) -> list[Example]:
        """Return the forgotten examples that the attack is surest of."""
        seen = self._seen
        member, other = seen.scores("unlearned")
        taken = "membership" in self.measures
        flagged = self.attack("unlearned", "membership").flagged if taken else ()
        order = np.argsort(-member, kind="stable")[:MOST_EXPOSED]
        indices = seen.indices.forget[torch.from_numpy(order.copy())]
        return [
            Example(
                index=_number(seen.data, int(index)),
                label=seen.data.classes[int(seen.data.train.labels[index])],
                score=round(float(member[place]), 4),
                non_members_above=float((other >= member[place]).mean()),
                flagged=bool(flagged[place]) if flagged else False,
            )
            for place, index in zip(order, indices, strict=True)
        ]

    def retained(self) -> Retained:
        """Return how retained examples changed."""
        seen, members = self._seen, self._seen.indices.retain
        before, after = (seen.train(model, members) for model in ("original", "unlearned"))
        changed = before.logits.argmax(1) != after.logits.argmax(1)
        moved = (
            (seen.sureness(after) - seen.sureness(before))
            .abs()
            .argsort(descending=True, stable=True)
        )
        return Retained(
            examples=len(members),
            answers_changed=float(changed.double().mean()),
            newly_wrong=float((before.correct() & ~after.correct()).double().mean()),
            largest_changes=[
                _number(seen.data, int(index)) for index in members[moved[:MOST_EXPOSED]]
            ],
        )

    def utility(self) -> list[Utility]:
        """Return what the models are good for, the first reference included."""
        return [
            self._useful(name) for name in ("original", "unlearned", *self._seen.references[:1])
        ]

    def _useful(self, model: str) -> Utility:
        seen = self._seen
        outputs, retained = seen.test(model), seen.test(model, seen.indices.test_retain)
        right = outputs.correct().double()
        by_class = {
            name: float(right[outputs.labels == label].mean())
            for label, name in enumerate(seen.data.classes)
            if bool((outputs.labels == label).any())
        }
        return Utility(
            model=model,
            accuracy=retained.accuracy(),
            by_class=by_class,
            calibration_error=expected_calibration_error(retained),
        )


def examine(runner: Runner, subject: Subject, step: Callable[[str], None]) -> Statement:
    """Audit one unlearned model.

    Args:
        runner: Has data, store and device.
        subject: What is audited.
        step: Notified of what is being done.
    """
    task, start = runner.task(subject.spec), time.perf_counter()
    lab = runner.judge.lab(subject.spec, task)
    step("attacks")
    audit = Audit(seen := Seen(lab, task, subject))
    controls = audit.controls()
    step("metrics")
    trio = Trio(subject.original, subject.unlearned, subject.references[0].weights)
    records = runner.judge.judge(subject.spec, task, trio)["records"]
    seconds = dict(subject.seconds or {}) | {"audit": round(time.perf_counter() - start, 2)}
    return Statement(
        request=_request(subject, seen),
        headline=audit.headline(controls),
        controls=controls,
        attacks=[AttackClass(**row) for row in attack_classes(seen.indices.forget_classes)],
        most_exposed=audit.most_exposed(),
        retained=audit.retained(),
        utility=audit.utility(),
        metrics=[
            Metric(name=r.metric, split=r.split, value=r.value, reason=r.reason) for r in records
        ],
        seconds=seconds,
        provenance=_provenance(runner, subject, task),
        limits=list(LIMITS),
    ).sealed()


def _number(data: Dataset, place: int) -> int:
    """Return the number by which the user names a training example."""
    return place if data.train.numbers is None else int(data.train.numbers[place])


def _request(subject: Subject, seen: Seen) -> Request:
    forget, data = seen.indices.forget, seen.data
    counts = data.train.labels[forget].bincount(minlength=data.num_classes).tolist()
    numbers = sorted(_number(data, place) for place in forget.tolist())
    text = "".join(f"{number}\n" for number in numbers)
    return Request(
        subject=subject.subject or "not stated",
        requested=subject.requested,
        audited=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        scenario=subject.spec.scenario,
        examples=len(forget),
        by_class={name: n for name, n in zip(data.classes, counts, strict=True) if n},
        forgotten_classes=[data.classes[label] for label in seen.indices.forget_classes],
        indices_sha256=hashlib.sha256(text.encode()).hexdigest(),
        held_out=len(seen.indices.validation),
        access=ACCESS,
    )


def _provenance(runner: Runner, subject: Subject, task: Task) -> Provenance:
    spec = subject.spec
    given = "given by the person who ran the audit; taken as it is"
    files = {"original": spec.original, "unlearned": spec.unlearned}
    models = [
        Model(
            role=role,
            name=role,
            sha256=weights.sha256,
            file_sha256=file.sha256 if (file := files[role]) else "",
            made_by=given,
        )
        for role, weights in (("original", subject.original), ("unlearned", subject.unlearned))
    ]
    models += [
        Model(
            role="reference",
            name=r.name,
            sha256=r.weights.sha256,
            file_sha256=r.file_sha256,
            made_by=r.made_by,
        )
        for r in subject.references
    ]
    trained = any(not reference.file_sha256 for reference in subject.references)
    environment = {str(k): str(v) for k, v in runner.environment.items()}
    code = commit(Path(__file__).parent)
    changed = ", with local changes" if code and code["modified"] else ""
    return Provenance(
        models=models,
        architecture=spec.model.label,
        data=task.data.name,
        data_fingerprint=task.data.fingerprint,
        inputs=task.data.normalization,
        recipe=spec.recipe.model_dump(mode="json") if trained else None,
        software=environment
        | {"numpy": importlib.metadata.version("numpy")}
        | ({"commit": f"{code['id']}{changed}"} if code else {}),
        device=str(runner.device),
        seed=spec.seed,
    )
