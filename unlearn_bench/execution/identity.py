"""What determines a run's models and its result: the identities and keys that they are kept by."""

from collections.abc import Callable
from typing import Any

from unlearn_bench.core.keys import content_key
from unlearn_bench.measure import gap
from unlearn_bench.plugins import registry
from unlearn_bench.plugins.metric import metrics_key
from unlearn_bench.plugins.parts import parts
from unlearn_bench.results.records import EVALUATION
from unlearn_bench.store.store import SCHEMA
from unlearn_bench.suite.forget import MEMORISATION
from unlearn_bench.suite.spec import RunSpec

# The method whose models are G, the reference of every metric that compares with retraining.
RETRAIN = "retrain"


def reference(spec: RunSpec) -> RunSpec:
    """Return the run that makes G, which the metrics of ``spec`` compare with."""
    params = registry.get(RETRAIN).resolve({})
    changes = {"method": RETRAIN, "label": RETRAIN, "params": params, "draw": 0}
    return spec.model_copy(update=changes | {"unlearned": None, "surrogate_data": None})


def previous(spec: RunSpec) -> RunSpec | None:
    """Return the run of the request before, whose model ``spec`` starts from.

    None where it starts from the original: outside of streams, at the first request, and for
    retraining, which begins with nothing.
    """
    if spec.request < 2 or registry.get(spec.method).kind == "reference":
        return None
    return spec.model_copy(update={"request": spec.request - 1})


def plugged(spec: RunSpec) -> dict[str, Any]:
    """Return the code of the plug-ins that the run's model and dataset come from, if any do."""
    found = {
        "model": parts("model").get(spec.model.name),
        "dataset": parts("dataset").get(spec.dataset),
    }
    return {f"{kind}_code": part.code_key for kind, part in found.items() if part is not None}


class Identities:
    """Says what determines each thing that is kept of a run, as JSON values.

    Args:
        fingerprint: Gives the fingerprint of a run's dataset.
        surrogates: Gives the digest of the surrogate images that a run names.
    """

    def __init__(
        self, fingerprint: Callable[[RunSpec], str], surrogates: Callable[[RunSpec], str]
    ) -> None:
        self._fingerprint, self._surrogates = fingerprint, surrogates

    def original(self, spec: RunSpec) -> dict[str, Any]:
        """Return what determines the original."""
        return spec.training_identity() | {"data": self._fingerprint(spec)} | plugged(spec)

    def training_log(self, spec: RunSpec) -> dict[str, Any]:
        """Return what determines the log of the original's training."""
        forget = {"forget": spec.forget.model_dump(mode="json")}
        return self.original(spec) | forget | spec.surrogate_identity()

    def unlearned(self, spec: RunSpec) -> dict[str, Any]:
        """Return what determines the unlearned model: specification, data and method code."""
        code = registry.get(spec.method).code_key
        found = spec.identity() | {"data": self._fingerprint(spec), "code": code} | plugged(spec)
        found |= {"surrogates": self._surrogates(spec)} if spec.surrogate_data else {}
        # Who is forgotten follows from the estimate.
        return found | ({"memorisation": MEMORISATION} if spec.forget.memorised else {})

    def figures(self, reference: RunSpec) -> dict[str, Any]:
        """Return what determines the figures of a model retrained without a surrogate."""
        return self.unlearned(reference) | {"objective": gap.VERSION}

    def key(self, spec: RunSpec) -> str:
        """Return the key of the run's result; the objective is what judges runs of tuning."""
        if spec.surrogate is not None:
            return content_key(self.unlearned(spec) | {"schema": SCHEMA, "objective": gap.VERSION})
        version = {"schema": SCHEMA, "evaluation": EVALUATION} | metrics_key()
        judged_by = {"reference": content_key(self.unlearned(reference(spec)))}
        return content_key(self.unlearned(spec) | spec.evaluation_identity() | version | judged_by)

    def original_key(self, spec: RunSpec) -> str:
        """Return a key of the original that the run starts from, to note its failure by."""
        return content_key(self.original(spec))
