"""Methods with one mistake each, 16 of them after bugs in published code.

`sound`, `step_then_zero`, `rests_in_float64` and `realigned` have none.

``test_broken.py`` holds which check finds which. Every method is the same few lines of descent but
for its mistake, which its docstring names.
"""

import copy
import itertools
import random
import sys
import threading
import time
from collections import UserDict

import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot
from torch.optim import SGD, Adam

from unlearn_bench.api import (
    Access,
    Check,
    Context,
    PositiveFloat,
    PositiveInt,
    accuracy,
    frozen_copy,
    kl_divergence,
    method,
    realign,
    summed_gradient,
    training,
)
from unlearn_bench.core.fence import crossing

# Not a plain dict, which the harness would empty after every call.
REMEMBERED = UserDict()


def world():
    """Reach for the harness's own things through the stack, as no honest method can."""
    with crossing():  # the harness refuses it, and that is not what is tested here
        frame = sys._getframe(1)
    while "world" not in frame.f_locals:
        frame = frame.f_back
    return frame.f_locals["world"]


def climb(model, ctx, batch_norm="eval", epochs=1):
    """Gradient ascent on F, as it should be."""
    optimizer = SGD(model.parameters(), lr=1e-3)
    with training(model, batch_norm):
        for x, y in ctx.forget.epochs(epochs, 8):
            loss = -cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            ctx.log(loss=loss)
    return model


@method("sound", access=Access.BOTH)
def sound(
    model: nn.Module,
    ctx: Context,
    *,
    lr: PositiveFloat = 1e-3,
    batch_size: PositiveInt = 32,
    momentum: float = 0.9,
):
    """Ascend on F, descend on R.

    Args:
        lr: Step size of both.
        batch_size: Examples per step of both.
        momentum: Of the optimiser.
    """
    optimizer = SGD(model.parameters(), lr=lr, momentum=momentum)
    forget = ctx.forget.forever(batch_size)
    with training(model):
        for x, y in ctx.retain.epochs(1, batch_size):
            x_forget, y_forget = next(forget)
            loss = cross_entropy(model(x), y) - 0.1 * cross_entropy(model(x_forget), y_forget)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@method("step_then_zero", access=Access.FORGET)
def step_then_zero(model, ctx):
    """Sound: PyTorch's other common order, gradients zeroed after the step."""
    optimizer = SGD(model.parameters(), lr=1e-3)
    with training(model, "eval"):
        for x, y in ctx.forget.epochs(1, 4):
            (-cross_entropy(model(x), y)).backward()
            optimizer.step()
            optimizer.zero_grad()
    return model


@method(
    "rests_in_float64",
    access=Access.FORGET,
    check=Check(may_rest="it may rewind to where it began"),
)
def rests_in_float64(model, ctx):
    """Sound: by a hair it rewinds here, and with other rounding it does not."""
    return model if next(model.parameters()).dtype == torch.float64 else climb(model, ctx)


@method("holds_teachers_parameters", access=Access.BOTH)
def holds_teachers_parameters(model, ctx):
    """The optimiser holds the parameters of the teacher, and not of the student."""
    teacher = copy.deepcopy(model)
    optimizer = SGD(teacher.parameters(), lr=0.1)
    with training(model, "eval"):
        for x, y in (ctx.forget + ctx.retain).epochs(1):
            loss = cross_entropy(model(x), y) + kl_divergence(teacher(x).detach(), model(x))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@method("teacher_is_the_student", access=Access.FORGET)
def teacher_is_the_student(model, ctx):
    """The teacher is a shallow copy: whatever the student learns, both agree."""
    teacher = copy.copy(model)
    optimizer = SGD(model.parameters(), lr=0.1)
    with training(model, "eval"):
        for x, _ in ctx.forget.epochs(3):
            loss = -kl_divergence(teacher(x).detach(), model(x))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@method("adam_and_shallow_teacher", access=Access.FORGET)
def adam_and_shallow_teacher(model, ctx):
    """The teacher is a shallow copy, and Adam makes full steps of the gradient's rounding."""
    teacher = copy.copy(model)
    optimizer = Adam(model.parameters(), lr=1e-4)
    with training(model, "eval"):
        for x, _ in ctx.forget.epochs(2, 8):
            loss = -kl_divergence(teacher(x).detach(), model(x))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@method("shallow_teacher_of_one_term", access=Access.BOTH)
def shallow_teacher_of_one_term(model, ctx, *, alpha: PositiveFloat = 0.5):
    """The term of the shallow teacher is nought: its weight moves rounding alone.

    Args:
        alpha: Weight of staying with the teacher.
    """
    teacher = copy.copy(model)
    optimizer = Adam(model.parameters(), lr=1e-4)
    forget = ctx.forget.forever(8)
    with training(model, "eval"):
        for x, y in ctx.retain.epochs(1):
            x_forget, y_forget = next(forget)
            loss = cross_entropy(model(x), y) - cross_entropy(model(x_forget), y_forget)
            loss = loss + alpha * kl_divergence(teacher(x).detach(), model(x))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@method("shallow_teacher_of_forgetting", access=Access.BOTH)
def shallow_teacher_of_forgetting(model, ctx):
    """The forget term is the shallow teacher's: Adam moves weights by the retain term alone."""
    teacher = copy.copy(model)
    optimizer = Adam(model.parameters(), lr=1e-4)
    with training(model, "eval"):
        for x, _ in ctx.forget.epochs(1, 8):
            loss = -kl_divergence(teacher(x).detach(), model(x))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for x, y in ctx.retain.epochs(1):
            loss = cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@method("clamped_loss", access=Access.FORGET)
def clamped_loss(model, ctx):
    """The negative loss is clamped at zero, where it has no gradient."""
    optimizer = SGD(model.parameters(), lr=0.1)
    with training(model, "eval"):
        for x, y in ctx.forget.epochs(3):
            loss = (-cross_entropy(model(x), y)).clamp(min=0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@method("clamped_forget_term", access=Access.BOTH)
def clamped_forget_term(model, ctx):
    """The forget term alone is clamped: the retain term still moves the weights."""
    optimizer = SGD(model.parameters(), lr=0.01)
    forget = ctx.forget.forever()
    with training(model, "eval"):
        for x, y in ctx.retain.epochs(1):
            x_forget, y_forget = next(forget)
            ascent = (-cross_entropy(model(x_forget), y_forget)).clamp(min=0)
            loss = cross_entropy(model(x), y) + ascent
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@method("unread_parameter", access=Access.FORGET)
def unread_parameter(model, ctx, *, temperature: PositiveFloat = 1.0):
    """A hyper-parameter is read nowhere.

    Args:
        temperature: Said to soften the outputs.
    """
    return climb(model, ctx)


@method("cancelled_parameter", access=Access.FORGET)
def cancelled_parameter(model, ctx, *, weight: PositiveFloat = 1.0):
    """A hyper-parameter is multiplied in and divided out: only the last digits differ.

    Args:
        weight: Of the gradient.
    """
    gradient = summed_gradient(model, ctx.forget.batches())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter += 1e-3 * (gradient[name] * weight * 1.1) / (weight * 1.1)
    return model


@method(
    "more_than_speed",
    access=Access.FORGET,
    check=Check(speed_only=("epochs",)),
)
def more_than_speed(model, ctx, *, epochs: PositiveInt = 1):
    """What is said to matter for speed alone decides how far the weights move.

    Args:
        epochs: Passes over F.
    """
    return climb(model, ctx, epochs=epochs)


@method("unexplained_parameter", access=Access.FORGET)
def unexplained_parameter(model, ctx, *, epochs: PositiveInt = 1):
    """A hyper-parameter is explained nowhere."""
    return climb(model, ctx, epochs=epochs)


@method("warm_retrain", access=Access.RETAIN, kind="reference")
def warm_retrain(model, ctx):
    """Retraining renews the head alone and keeps most weights."""
    head = model.get_classifier()
    head.reset_parameters()
    return ctx.train(model, ctx.retain, [head])


@method("continued_retrain", access=Access.RETAIN, kind="reference")
def continued_retrain(model, ctx):
    """Retraining starts from the original and a little noise: all weights differ, none is new."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=ctx.rng)
    return ctx.train(model, ctx.retain)


@method("never_zeroes", access=Access.FORGET)
def never_zeroes(model, ctx):
    """Gradients are never zeroed: they add up over batches."""
    optimizer = SGD(model.parameters(), lr=1e-3)
    with training(model, "eval"):
        for x, y in ctx.forget.epochs(1, 4):
            (-cross_entropy(model(x), y)).backward()
            optimizer.step()
    return model


@method("zeroes_once", access=Access.FORGET)
def zeroes_once(model, ctx):
    """Gradients are zeroed before the first batch alone."""
    optimizer = SGD(model.parameters(), lr=1e-3)
    optimizer.zero_grad()
    with training(model, "eval"):
        for x, y in ctx.forget.epochs(1, 4):
            (-cross_entropy(model(x), y)).backward()
            optimizer.step()
    return model


@method("drifting_statistics", access=Access.FORGET)
def drifting_statistics(model, ctx):
    """BatchNorm's statistics drift on batches of F alone."""
    return climb(model, ctx, "train")


@method("realigned_and_drifting", access=Access.FORGET)
def realigned_and_drifting(model, ctx):
    """The statistics follow the weights, and then a tenth of the way to F as well."""
    original = copy.deepcopy(model)
    climb(model, ctx)
    realign(model, original, ctx.forget.batches())
    with training(model), torch.no_grad():
        model(next(ctx.forget.batches(64))[0])
    return model


@method("realigned", access=Access.FORGET)
def realigned(model, ctx):
    """The statistics move by what the weights did to F, and no further."""
    original = copy.deepcopy(model)
    climb(model, ctx)
    realign(model, original, ctx.forget.batches())
    return model


@method("other_layers", access=Access.FORGET)
def other_layers(model, ctx):
    """The tensors fit, the network is another one: GELU in place of ReLU."""
    model.features[2] = nn.GELU()
    return climb(model, ctx)


@method("other_network", access=Access.FORGET)
def other_network(model, ctx):
    """What comes back is a smaller network than was given."""
    climb(model, ctx)
    model.features[3] = nn.Identity()
    return model


@method("becomes_nan", access=Access.FORGET)
def becomes_nan(model, ctx):
    """The loss explodes unnoticed."""
    climb(model, ctx)
    with torch.no_grad():
        model.get_classifier().bias.fill_(torch.nan)
    return model


@method("remembers_importances", access=Access.FORGET)
def remembers_importances(model, ctx):
    """Importances are computed once and remembered: the time of later runs lacks them."""
    if "importance" not in REMEMBERED:
        REMEMBERED["importance"] = summed_gradient(model, ctx.forget.batches())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter += 1e-3 * REMEMBERED["importance"][name]
    return model


@method("works_on_in_a_thread", access=Access.FORGET)
def works_on_in_a_thread(model, ctx):
    """The work goes on after the method returned, when no clock runs."""
    climb(model, ctx)
    threading.Thread(target=time.sleep, args=(0.5,), name="straggler").start()
    return model


@method("works_when_first_asked", access=Access.FORGET)
def works_when_first_asked(model, ctx):
    """The work is put off until the first forward pass, when no clock runs."""
    climb(model, ctx)
    fc, forward = model.get_classifier(), type(model).forward

    def later(x):
        with torch.no_grad():
            fc.weight *= 0.5
        return forward(model, x)

    model.forward = later
    return model


@method("replayed_batches", access=Access.BOTH)
def replayed_batches(model, ctx):
    """itertools.cycle replays the batches of F as they were shuffled and augmented once."""
    optimizer = SGD(model.parameters(), lr=1e-3)
    forget = itertools.cycle(ctx.forget.epochs(1, 8))
    with training(model):
        for x, y in ctx.retain.epochs(1, 16):
            x_forget, y_forget = next(forget)
            loss = cross_entropy(model(x), y) - 0.1 * cross_entropy(model(x_forget), y_forget)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@method("always_ten_classes", access=Access.FORGET)
def always_ten_classes(model, ctx):
    """The number of classes is written into the code."""
    optimizer = SGD(model.parameters(), lr=1e-3)
    with training(model, "eval"):
        for x, y in ctx.forget.epochs(1):
            others = 1 - one_hot(y, 10).float()
            loss = cross_entropy(model(x), others / 9)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@method("only_convolutions", access=Access.FORGET)
def only_convolutions(model, ctx):
    """Layers are found by the names that they bear in one family of networks."""
    with torch.no_grad():
        model.features[0].weight += 0.01 * ctx.forget.labels.float().mean()
    return model


@method("one_class_only", access=Access.FORGET)
def one_class_only(model, ctx):
    """It takes one forgotten class for granted, and does not say so."""
    (wrong,) = ctx.forget_classes
    model.get_classifier().bias.data[wrong] -= ctx.forget.labels.float().mean()
    return model


@method("idle_on_examples", access=Access.FORGET)
def idle_on_examples(model, ctx):
    """It works through the forgotten classes: where none is forgotten, nothing happens."""
    with torch.no_grad():
        for label in ctx.forget_classes:
            model.get_classifier().weight[label] *= ctx.forget.labels.float().mean()
    return model


@method("idle_without_batch_norm", access=Access.FORGET)
def idle_without_batch_norm(model, ctx):
    """It works through BatchNorm alone: on a ViT nothing happens."""
    gradient = summed_gradient(model, ctx.forget.batches())
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight += 1e-3 * gradient[f"{name}.weight"]
    return model


@method("first_class_only", access=Access.FORGET)
def first_class_only(model, ctx):
    """Of several classes only the first is forgotten."""
    first = ctx.forget_classes[0] if ctx.forget_classes else ctx.forget.labels[0]
    optimizer = SGD(model.parameters(), lr=1e-3)
    with training(model, "eval"):
        for x, y in ctx.forget.epochs(1):
            loss = -cross_entropy(model(x[y == first]), y[y == first])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@method("alone_in_its_batch", access=Access.FORGET)
def alone_in_its_batch(model, ctx, *, batch_size: PositiveInt = 8):
    """The spread within a batch of one example is not a number.

    Args:
        batch_size: Examples per step.
    """
    optimizer = SGD(model.parameters(), lr=1e-3)
    with training(model, "eval"):
        for x, _ in ctx.forget.epochs(1, batch_size):
            outputs = model(x)
            spread = (outputs - outputs.mean(0)).square().sum(0) / (len(x) - 1)
            loss = -spread.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


@method("logs_vectors", access=Access.FORGET)
def logs_vectors(model, ctx):
    """What it logs are not single numbers."""
    ctx.log(losses=torch.ones(3))
    return climb(model, ctx)


@method("same_storage", access=Access.FORGET)
def same_storage(model, ctx):
    """Every call returns the model of the first."""
    REMEMBERED.setdefault("model", model)
    kept = REMEMBERED["model"]
    kept.load_state_dict(climb(model, ctx).state_dict())
    return kept


@method("trains_the_original", access=Access.FORGET)
def trains_the_original(model, ctx):
    """The original itself is trained."""
    climb(world().original, ctx)
    return climb(model, ctx)


@method("shuffles_the_indices", access=Access.FORGET)
def shuffles_the_indices(model, ctx):
    """The data set is reordered for everybody."""
    order = torch.randperm(len(ctx.forget), generator=ctx.rng)
    ctx.forget.indices.copy_(ctx.forget.indices[order])
    return climb(model, ctx)


@method("swallows_the_refusal", access=Access.FORGET)
def swallows_the_refusal(model, ctx):
    """An undeclared read is tried, and the refusal caught."""
    try:
        ctx.retain.batches()
    except Exception:
        pass
    return climb(model, ctx)


@method("looks_at_the_rest", access=Access.FORGET)
def looks_at_the_rest(model, ctx):
    """Images of R are taken from behind the split."""
    ctx.forget._part.images.fetch(torch.arange(100))
    return climb(model, ctx)


@method("looks_at_test_images", access=Access.FORGET)
def looks_at_test_images(model, ctx):
    """Test images are asked for, and the refusal caught."""
    try:
        world().data.test.images.fetch(torch.arange(3))
    except Exception:
        pass
    return climb(model, ctx)


@method("declares_too_much", access=Access.BOTH)
def declares_too_much(model, ctx):
    """R is declared and never read."""
    return climb(model, ctx)


@method("reads_for_nothing", access=Access.BOTH)
def reads_for_nothing(model, ctx):
    """R is read, and what was read is thrown away."""
    accuracy(model, ctx.retain.batches())
    return climb(model, ctx)


@method("validation_unread", access=Access.FORGET | Access.VALIDATION)
def validation_unread(model, ctx):
    """V is declared and never read."""
    return climb(model, ctx)


@method("log_for_nothing", access=Access.FORGET | Access.LOG)
def log_for_nothing(model, ctx):
    """The training log is read, and what was read is thrown away."""
    assert ctx.training_log.hits
    return climb(model, ctx)


@method("checkpoints_for_nothing", access=Access.FORGET | Access.CHECKPOINTS)
def checkpoints_for_nothing(model, ctx, *, shards: PositiveInt = 2, slices: PositiveInt = 2):
    """The members ignore where to restart, and go on from where they are."""
    assert ctx.checkpoints and shards * slices
    return climb(model, ctx)


@method("surrogates_for_nothing", access=Access.FORGET | Access.SURROGATE)
def surrogates_for_nothing(model, ctx, *, surrogates: PositiveInt = 2):
    """The surrogate images are read, and what was read is thrown away."""
    assert ctx.surrogates is None or len(ctx.surrogates) == surrogates
    return climb(model, ctx)


@method(
    "first_batch_counts",
    access=Access.FORGET,
    check=Check(one_shot=True),
)
def first_batch_counts(model, ctx):
    """A statistic of all data is taken from the first batch."""
    x, y = next(ctx.forget.batches(4))
    gradient = summed_gradient(model, [(x, y)])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter += 0.1 * gradient[name]
    return model


@method("draws_elsewhere", access=Access.FORGET)
def draws_elsewhere(model, ctx):
    """Random numbers come from a generator that nobody seeds."""
    random.SystemRandom().random()
    model.get_classifier().bias.data += 0.1 * random.SystemRandom().random()
    return climb(model, ctx)


@method("reseeds", access=Access.FORGET)
def reseeds(model, ctx):
    """A seed of its own makes every run draw the same."""
    torch.manual_seed(42)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1e-3 * torch.randn(parameter.shape)
    return climb(model, ctx)


@method("left_training", access=Access.FORGET)
def left_training(model, ctx):
    """The model comes back in train mode."""
    return climb(model, ctx).train()


@method("left_frozen", access=Access.FORGET)
def left_frozen(model, ctx):
    """The model comes back with a layer frozen."""
    model.features[0].requires_grad_(False)
    return climb(model, ctx)


@method("left_hooked", access=Access.FORGET)
def left_hooked(model, ctx):
    """The model comes back with a hook on it."""
    model.register_forward_hook(lambda module, inputs, output: output)
    return climb(model, ctx)


@method("left_untracked", access=Access.FORGET)
def left_untracked(model, ctx):
    """The model comes back with BatchNorm that no longer tracks."""
    climb(model, ctx)
    model.features[1].track_running_stats = False
    return model


@method("left_without_gradients", access=Access.FORGET)
def left_without_gradients(model, ctx):
    """Gradients are switched off for everybody after."""
    climb(model, ctx)
    torch.set_grad_enabled(False)
    return model


@method("left_double", access=Access.FORGET)
def left_double(model, ctx):
    """The default type of tensors is another one for everybody after."""
    climb(model, ctx)
    torch.set_default_dtype(torch.float64)
    return model


@method("left_more_threads", access=Access.FORGET)
def left_more_threads(model, ctx):
    """The number of threads is another one for everybody after."""
    torch.set_num_threads(2)
    return climb(model, ctx)


@method("crashes", access=Access.FORGET)
def crashes(model, ctx):
    """It ends in an error."""
    raise ZeroDivisionError("three by nought")


@method("reads_undeclared", access=Access.FORGET)
def reads_undeclared(model, ctx):
    """R is read and not declared."""
    Adam(model.parameters())
    frozen_copy(model)
    return climb(model, ctx) if len(ctx.retain) else model
