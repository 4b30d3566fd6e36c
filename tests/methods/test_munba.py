"""MUNBa: the published steps against an independent transcription, and what the bargain settles."""

import copy
from itertools import zip_longest

import pytest
import torch
import torch.nn.functional as F
from unlearn_bench_methods.munba import bargain

from unlearn_bench.toolkit.relabelling import wrong_labels

from .conftest import followed

PARAMS = {"epochs": 2, "batch_size": 16, "lr": 0.05}


def transcription(world, twin):
    """Yield the losses and weights of each step: loss by loss, and one vector per gradient."""
    model = copy.deepcopy(world.original).train()
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=5e-4)
    for _ in range(PARAMS["epochs"]):
        pairs = zip_longest(twin.retain.epochs(1, 16), twin.forget.epochs(1, 16))
        for (x_r, y_r), forget in pairs:
            loss_r = F.cross_entropy(model(x_r), y_r)
            optimizer.zero_grad()
            if forget is None:
                loss_r.backward()
                optimizer.step()
                yield {"retain_loss": loss_r.item()}
                continue
            labels = wrong_labels(forget[1], 10, "retain_classes", (8,), twin.rng)
            loss_f = F.cross_entropy(model(forget[0]), labels)
            vectors = []
            for loss in (loss_r, loss_f):
                grads = torch.autograd.grad(loss, parameters, retain_graph=True)
                vectors.append(torch.cat([g.flatten() for g in grads]))
            g1, g2, g3 = (vectors[i] @ vectors[j] for i, j in ((0, 0), (0, 1), (1, 1)))
            a_r = ((g1 * g3 - g2 * (g1 * g3) ** 0.5) / (g1**2 * g3 - g1 * g2**2 + 1e-8)) ** 0.5
            a_f = (1 - g1 * a_r * a_r) / (g2 * a_r + 1e-8)
            if not (a_r > 0 and a_f > 0):
                a_r, a_f = torch.tensor(1.0), torch.tensor(0.1)
            (a_r * loss_r + a_f * loss_f).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            yield {
                "retain_loss": loss_r.item(),
                "forget_loss": loss_f.item(),
                "retain_weight": a_r.item(),
                "forget_weight": a_f.item(),
            }


def test_the_steps_agree_with_a_transcription(exact_world):
    log, _, twin = followed(exact_world, "munba", **PARAMS)
    slow = list(transcription(exact_world, twin))
    assert len(log) == len(slow) >= 20
    for ours, theirs in zip(log, slow, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    # Of either kind of step there were several.
    assert 2 < sum("forget_loss" in step for step in log) < len(log)


def test_neither_side_outweighs_the_other():
    retain, forget = [torch.tensor([3.0, 1.0])], [torch.tensor([-0.2, 0.4])]
    a_retain, a_forget = bargain(retain, forget)
    assert (a_retain * retain[0]).norm() == pytest.approx(float((a_forget * forget[0]).norm()))
    joint = a_retain * retain[0] + a_forget * forget[0]
    assert joint @ retain[0] > 0 and joint @ forget[0] > 0


def test_a_bargain_that_fails_leaves_the_forget_loss_a_tenth():
    retain = [torch.tensor([100.0, 0.0], dtype=torch.float64)]
    forget = [torch.tensor([-1e-9, 100.0], dtype=torch.float64)]
    assert [float(weight) for weight in bargain(retain, forget)] == [1.0, 0.1]
