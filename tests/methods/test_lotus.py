"""LoTUS: the published steps against an independent transcription, and when it stops."""

import copy
import math

import pytest
import torch

from .conftest import followed

PARAMS = {"epochs": 2, "batch_size": 16, "lr": 1e-3}


def right(model, split):
    model.eval()
    with torch.no_grad():
        hits = [int((model(x).argmax(1) == y).sum()) for x, y in split.batches()]
    return sum(hits) / len(split)


def transcription(world, twin):
    """Yield the loss of each step, example by example."""
    student, teacher = copy.deepcopy(world.original), copy.deepcopy(world.original).eval()
    known = set(twin.forget.indices.tolist())
    aim = 0.0 if twin.forget_classes else right(teacher, twin.validation)
    both = twin.forget + twin.retain.subset(round(0.3 * len(twin.retain)), twin.rng)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3, weight_decay=5e-4)
    for _ in range(PARAMS["epochs"]):
        gap = right(student, twin.forget) - aim
        if gap <= -0.01:
            return
        student.train()
        for x, _, places in both.traced(1, 16):
            with torch.no_grad():
                logits = teacher(x)
            noise = -torch.empty(logits.shape).exponential_(generator=twin.rng).log()
            log_p = torch.log_softmax(student(x), 1)
            losses = []
            for row, given, place in zip(logits + noise, log_p, places, strict=True):
                if int(both.indices[place]) in known:
                    target = torch.softmax(row / math.exp(8 * gap), 0)
                    losses.append(-(target * given).sum())
                else:
                    losses.append(-given[row.argmax()])
            loss = torch.stack(losses).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield loss.item()


@pytest.mark.parametrize("scenario", ["class_world", "random_world"])
def test_the_steps_agree_with_a_transcription(scenario, request):
    world = request.getfixturevalue(scenario).exactly()
    log, _, twin = followed(world, "lotus", **PARAMS)
    slow = list(transcription(world, twin))
    assert len(log) == len(slow) >= 6
    assert [step["loss"] for step in log] == pytest.approx(slow, rel=1e-4)


def test_it_stops_once_the_forget_set_is_no_better_known_than_unseen_data(random_world):
    log, model, _ = followed(random_world, "lotus", margin=-1.0)
    assert not log
    for before, after in zip(random_world.original.parameters(), model.parameters(), strict=True):
        assert torch.equal(before, after)
