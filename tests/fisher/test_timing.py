"""The command's figures: what it prints, and that its ratio means what it says."""

import re

import pytest
import torch

from unlearn_bench.core.errors import ModelError, ParameterError
from unlearn_bench.fisher import cli, timing
from unlearn_bench.fisher.cli import describe


def test_the_command_tells_ratio_memory_and_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = {"plain": 300 * 2**20, "empirical": 342 * 2**20}
    monkeypatch.setattr(cli, "peak_bytes", lambda model, kind, device: peaks[kind])
    text = describe("test_resnet", "empirical", rounds=1)
    assert "test_resnet, empirical Fisher, batch 64 x 3 x 32 x 32, 10 classes, on the CPU (" in text
    assert re.search(r"ratio +\d+\.\d\d", text)
    assert re.search(r"peak memory +\+42 MiB over the plain pass", text)
    assert re.search(r"parameters +47\n", text) and "batch norm" in text


def test_wrong_arguments_are_refused_in_one_line() -> None:
    with pytest.raises(ModelError, match="did you mean 'resnet18'"):
        describe("resnet_18")
    with pytest.raises(ParameterError, match="rounds is 0"):
        describe("resnet18", rounds=0)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("vit_tiny_patch16_224", "AssertionError: Input height"),  # made for 224 pixels
        ("resnet18.no_such_weights", "Invalid pretrained tag"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_in_one_line(model: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as caught:
        describe(model)
    assert "\n" not in str(caught.value) and "choose another model" in str(caught.value)


def test_a_process_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing.sys, "executable", "false")
    with pytest.raises(ModelError, match="memory cannot be measured: it ended with code 1; choose"):
        timing.peak_bytes("resnet18", "plain")


def test_the_ratio_is_the_median_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    # Seconds as the clock would tell them: plain, Fisher, plain, Fisher, ...
    ticks = iter([1.0, 3.0, 2.0, 4.0, 1.0, 9.0])
    monkeypatch.setattr(timing, "clock", lambda run, device: next(ticks))
    model = torch.nn.Linear(3, 2)
    found = timing.measure(model, torch.randn(4, 3), torch.tensor([0, 1, 0, 1]), "true", rounds=3)
    assert found.pairs == [3.0, 2.0, 9.0] and found.ratio == 3.0
    assert found.plain == 1.0 and found.fisher == 4.0


@pytest.mark.thorough
def test_peak_memory_is_the_workloads_own() -> None:
    # Far more than this process's own peak would be no news; a bare pass is under 2 GiB.
    assert 2**27 < timing.peak_bytes("test_resnet", "plain") < 2**31
