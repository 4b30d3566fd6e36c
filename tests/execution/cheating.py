"""Methods that cheat, each in one way: a plug-in that tests fill places into.

Each takes what no method may have, and says so by an error that begins with "got"; or it spoils
something that others rely on, and returns the model. None of this is refused by good manners: the
harness must see to it.
"""

import contextlib
import ctypes
import gc
import inspect
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import nn

from unlearn_bench.analysis import nearness
from unlearn_bench.api import Access, method
from unlearn_bench.core import fence
from unlearn_bench.measure import evaluate, metrics
from unlearn_bench.measure.probes import relearn
from unlearn_bench.plugins import registry

STORE, RESULTS, DATA = (Path(place) for place in ("@STORE@", "@RESULTS@", "@DATA@"))
MODEL = "@MODEL@"
KEPT: dict[str, int] = {}


class GotError(Exception):
    """The cheat got what it was after."""


def got(what):
    raise GotError(f"got {what}")


def python_open(model, ctx):
    got(f"{len(Path(MODEL).read_bytes())} bytes of a stored model")


def numpy_open(model, ctx):
    got(np.fromfile(MODEL, dtype=np.uint8))


def torch_load(model, ctx):
    got(torch.load(STORE / "store.json"))


def listing(model, ctx):
    got(list(STORE.rglob("*.safetensors")))


def swallowed(model, ctx):
    try:
        Path(MODEL).read_bytes()
    except Exception:
        return model  # as if nothing had been


def in_a_thread(model, ctx):
    found = []
    thread = threading.Thread(target=lambda: found.append(Path(MODEL).read_bytes()))
    threading.excepthook, before = lambda _: None, threading.excepthook
    thread.start()
    thread.join()
    threading.excepthook = before
    return got(found) if found else model


def by_a_link(model, ctx):
    link = Path(tempfile.mkdtemp()) / "link"
    link.symlink_to(STORE)
    got((link / Path(MODEL).relative_to(STORE)).read_bytes())


def by_a_folder_above(model, ctx):
    above = os.open(STORE.parent, os.O_RDONLY)
    file = os.open(Path(MODEL).relative_to(STORE.parent), os.O_RDONLY, dir_fd=above)
    got(os.read(file, 100))


def moving_it(model, ctx):
    STORE.rename(STORE.with_name("moved"))
    got("the store out of its place")


def rust_open(model, ctx):
    from safetensors.torch import load_file

    got(f"{len(load_file(MODEL))} tensors of a stored model")


def native_open(model, ctx):
    file = ctypes.CDLL(None).open(MODEL.encode(), os.O_RDONLY)
    got(os.read(file, 100)) if file >= 0 else None
    raise OSError("not opened")


def scikit_learn(model, ctx):
    from sklearn.datasets import load_digits

    got(f"{len(load_digits().target)} digits")


def data_folder(model, ctx):
    got((DATA / "images.bin").read_bytes())


def environment(model, ctx):
    got(os.environ["UNLEARN_BENCH_HOME"])


def environment_of_the_process(model, ctx):
    found = Path("/proc/self/environ").read_bytes()
    got(found) if b"UNLEARN_BENCH_HOME" in found else None
    raise OSError("it names no store")


def frames(model, ctx):
    frame = sys._getframe()
    while frame is not None:
        if "original" in frame.f_locals:
            got("the harness's variables")
        frame = frame.f_back
    raise LookupError("no frame of the harness's with a model")


def frames_of_an_error(model, ctx):
    try:
        raise ValueError
    except ValueError as error:
        frame = error.__traceback__.tb_frame
    while frame is not None:
        if "original" in frame.f_locals:
            got("the harness's variables")
        frame = frame.f_back
    raise LookupError("no frame of the harness's with a model")


WALK = """
import sys
frame = sys._getframe()
while frame is not None and "original" not in frame.f_locals:
    frame = frame.f_back
"""


def frames_in_a_librarys_name(model, ctx):
    names = {"__name__": "abc"}
    exec(compile(WALK, "<frozen abc>", "exec"), names)
    got("the harness's variables") if names["frame"] else None
    raise LookupError("no frame of the harness's with a model")


def frames_by_a_helpers_name(model, ctx):
    def walk_stack():
        return sys._getframe(1)

    frame = walk_stack()
    while frame is not None and "original" not in frame.f_locals:
        frame = frame.f_back
    got("the harness's variables") if frame else None
    raise LookupError("no frame of the harness's with a model")


def frames_within_a_library(model, ctx):
    exec(compile(WALK, contextlib.__file__, "exec"), vars(contextlib))
    got("the harness's variables") if vars(contextlib).pop("frame") else None
    raise LookupError("no frame of the harness's with a model")


def memory(model, ctx):
    from unlearn_bench.data.images import Dataset

    found = [held for held in gc.get_objects() if type(held) is Dataset and len(held.test.labels)]
    got("the test part") if found else None
    raise LookupError("no dataset with a test part")


def private_images(model, ctx):
    part = ctx.forget._part
    got(f"{len(part.images.fetch(torch.arange(len(part.labels))))} images")


def private_labels(model, ctx):
    known = (ctx.forget._part.labels >= 0).sum() + len(ctx.forget._data.test.labels)
    got("labels") if known > len(ctx.forget) else None
    raise LookupError("no labels but of the forget set")


def other_splits(model, ctx):
    indices = ctx._build.__self__._task.indices
    got("R") if len(indices.retain) + len(indices.test_retain) else None
    raise LookupError("no retained examples")


def patched_metrics(model, ctx):
    evaluate.logits = lambda *_, **__: None
    return model


def patched_torch(model, ctx):
    nn.functional.cross_entropy = lambda logits, labels, **_: logits.sum() * 0
    return model


class Equal:
    """A function that claims to be every other."""

    __hash__ = object.__hash__

    def __eq__(self, other):
        return True

    def __call__(self, *given, **named):
        return torch.zeros(())


def patched_in_disguise(model, ctx):
    nn.functional.cross_entropy = Equal()
    return model


def patched_reader(model, ctx):
    safetensors.torch.load_file = torch.serialization.load = lambda *_, **__: {}
    return model


def patched_algebra(model, ctx):
    np.linalg.norm = lambda *_, **__: 0.0
    return model


def changed_default(model, ctx):
    evaluate.logits.__wrapped__.__defaults__ = (None, 1)
    return model


def changed_keyword_default(model, ctx):
    relearn.relearn.__kwdefaults__["cap"] = 1
    return model


def constant_of_a_probe(model, ctx):
    relearn.WITHIN = -9
    return model


def constant_of_the_verdict(model, ctx):
    nearness.NEARNESS_LIMIT = 1e9
    return model


def entry_of_a_table(model, ctx):
    first, second, *_ = metrics.ENTRIES
    metrics.ENTRIES[first] = metrics.ENTRIES[second]
    return model


def global_hook(model, ctx):
    nn.modules.module.register_module_forward_hook(lambda module, given, output: output * 1.001)
    return model


def default_dtype(model, ctx):
    torch.set_default_dtype(torch.float64)
    return model


def thread_left(model, ctx):
    threading.Thread(target=time.sleep, args=(5,), name="waiting", daemon=True).start()
    return model


def module_state(model, ctx):
    KEPT["runs"] = KEPT.get("runs", 0) + 1
    return model


def other_reference(model, ctx):
    registry.REGISTERED["retrain"] = registry.REGISTERED["original"]
    return model


def fence_off(model, ctx):
    fence._active = None
    got(Path(MODEL).read_bytes())


def cat(model, ctx):
    got(subprocess.run(["cat", MODEL], capture_output=True, check=True).stdout)


def shell(model, ctx):
    os.system(f"cp {MODEL} .")
    got("a copy")


def fork(model, ctx):
    got("a process of its own") if os.fork() else os._exit(0)


def writes_results(model, ctx):
    (RESULTS / "runs" / "made-up.json").write_text("{}")
    got("a result written")


@contextlib.contextmanager
def unhooked():
    """Switch the hook off, and on again before anybody looks."""
    call, fence._active = fence._active, None
    try:
        yield
    finally:
        fence._active = call


def unhooked_store(model, ctx):
    with unhooked():
        got(f"{len(Path(MODEL).read_bytes())} bytes of a stored model")


def crossed(model, ctx):
    with fence.crossing():
        got(f"{len(Path(MODEL).read_bytes())} bytes of a stored model")


def unhooked_digits(model, ctx):
    with unhooked():
        scikit_learn(model, ctx)


def unhooked_results(model, ctx):
    with unhooked():
        (RESULTS / "runs" / "made-up.json").write_text("{}")
    got("a result written")


def unhooked_process(model, ctx):
    with unhooked():
        cat(model, ctx)


def unhooked_native(model, ctx):
    with unhooked():
        native_open(model, ctx)


def unhooked_parent(model, ctx):
    with unhooked():
        got(f"{len(Path(f'/proc/{os.getppid()}/environ').read_bytes())} bytes of the parent")


def unhooked_memory(model, ctx):
    with unhooked():
        memory(model, ctx)


def unhooked_frames(model, ctx):
    with unhooked():
        frames(model, ctx)


def network(model, ctx):
    with socket.create_connection(("127.0.0.1", int("@PORT@")), timeout=5):
        got("a connection")


for name, cheat in list(globals().items()):
    if getattr(cheat, "__module__", "") == __name__ and inspect.isfunction(cheat):
        if list(inspect.signature(cheat).parameters) == ["model", "ctx"]:
            method(name, access=Access.FORGET)(cheat)
