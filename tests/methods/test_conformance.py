"""What every registered method must keep to, as `unlearn-bench check` sees it."""

import pytest

from unlearn_bench.conformance import CHECKS, examine
from unlearn_bench.plugins import registry

# One of each kind: what it reads, what it changes, what it gives back. CI checks all.
CHECKED_BY_DEFAULT = {
    "bad_teacher",
    "logit_mask",
    "neg_grad_plus",
    "original",
    "pbu",
    "retrain",
    "salun",
    "ssd",
}


@pytest.mark.parametrize(
    "name",
    [
        name if name in CHECKED_BY_DEFAULT else pytest.param(name, marks=pytest.mark.thorough)
        for name in registry.methods()
    ],
)
def test_a_registered_method_passes_every_check(name):
    findings = list(examine(registry.get(name)))
    failed = [f"{f.check}: {f.seen}" for f in findings if f.status == "failed"]
    assert not failed, "\n".join(failed)
    assert [f.check for f in findings] == list(CHECKS)


@pytest.mark.parametrize("name", [n for n, m in registry.methods().items() if m.kind == "method"])
def test_methods_declare_what_listings_show(name):
    entry = registry.get(name)
    assert entry.family and entry.year and entry.source
