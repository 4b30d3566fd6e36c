"""The legacy attacks do what they did, fooled by fakes included."""

import numpy as np
import torch

from unlearn_bench.measure.metrics.mia_legacy import entropy_attack, legacy_attacks, stratified
from unlearn_bench.measure.outputs import Observed, Outputs

from .conftest import FORGOTTEN, SIZES, invented


def values(evaluation):
    return {r.metric: r.value for r in legacy_attacks(evaluation)}


def test_a_mask_with_untouched_weights_looks_perfect(evaluation):
    """Why they are kept out of every verdict."""
    fake = invented(2, 6.0, fitted=2.0)
    masked = {}
    for split, part in fake.outputs.items():
        logits = part.logits.clone()
        logits[:, FORGOTTEN] = logits.amin(1) - 20
        masked[split] = Outputs(split, logits, part.labels)
    assert values(evaluation(unlearned=Observed(masked)))["mia_legacy_salun_correctness"] == 1.0


def test_entropy_attack_counts_what_looks_trained(evaluation):
    def part(split, scale):
        logits = torch.zeros(SIZES[split], 4, dtype=torch.float64)
        logits[:, 0] = scale
        return Outputs(split, logits, torch.zeros(SIZES[split], dtype=torch.long))

    # Trained examples are answered surely, tests are not: F is taken for what it resembles.
    seen = {
        "retain": part("retain", 9.0),
        "test_retain": part("test_retain", 1.0),
        "test_forget": part("test_forget", 1.0),
    }
    for scale, share in ((9.0, 1.0), (1.0, 0.0)):
        model = Observed(seen | {"forget": part("forget", scale)})
        assert entropy_attack(evaluation(unlearned=model)) == share


def test_a_stratified_sample_has_the_wanted_histogram_in_any_order():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=90)
    rows = labels[:, None] + rng.uniform(size=(90, 1)) / 2
    drawn = stratified(rows, labels, np.array([4, 0, 7]), seed=1)
    assert np.bincount(drawn[:, 0].astype(int), minlength=3).tolist() == [4, 0, 7]
    order = rng.permutation(90)
    again = stratified(rows[order], labels[order], np.array([4, 0, 7]), seed=1)
    assert np.array_equal(drawn, again)
