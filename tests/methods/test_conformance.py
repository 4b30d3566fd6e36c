"""What every registered method must keep to, as `unlearn-bench check` sees it."""

from typing import Any

import pytest

from unlearn_bench.conformance import CHECKS, examine
from unlearn_bench.plugins import registry

# A control, a fake, a mask and Fisher information.
CHECKED_BY_DEFAULT = {"logit_mask", "original", "salun", "ssd"}
# In CI also what reads and changes models in ways of its own; ``unlearn-bench check --all`` and
# the heavy tests check every method.
CHECKED_BY_CI = {
    "bad_teacher",
    "fisher_forgetting",
    "gkt",
    "neg_grad_plus",
    "pbu",
    "retrain",
    "rum",
    "sisa",
    "svd_class",
}


def marked(name: str) -> Any:
    """Mark a method that is left out by default, or by CI as well."""
    if name in CHECKED_BY_DEFAULT:
        return name
    mark = pytest.mark.thorough if name in CHECKED_BY_CI else pytest.mark.heavy
    return pytest.param(name, marks=mark)


@pytest.mark.parametrize("name", [marked(name) for name in registry.methods()])
def test_a_registered_method_passes_every_check(name):
    findings = list(examine(registry.get(name)))
    failed = [f"{f.check}: {f.seen}" for f in findings if f.status == "failed"]
    assert not failed, "\n".join(failed)
    assert [f.check for f in findings] == list(CHECKS)


@pytest.mark.parametrize("name", [n for n, m in registry.methods().items() if m.kind == "method"])
def test_methods_declare_what_listings_show(name):
    entry = registry.get(name)
    assert entry.family and entry.year and entry.source
