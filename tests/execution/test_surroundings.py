"""What a plug-in leaves changed is named and put back: no run's numbers depend on another run."""

import gc
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
import torch.nn.functional as functional
from torch import nn
from torch._dynamo import disable
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.overrides import TorchFunctionMode

from unlearn_bench.core.errors import MethodError
from unlearn_bench.core.exits import exits_raise
from unlearn_bench.execution.interrupt import Interrupted, first_in_good_order
from unlearn_bench.execution.surroundings import Left, leftovers, put_back
from unlearn_bench.execution.surroundings.shared import SHARED
from unlearn_bench.measure import evaluate


def hook(*_: object) -> None: ...


def enter(mode: Any) -> Callable[[], object]:
    return lambda: mode.__enter__()


def patch(place: Any, name: str) -> Callable[[], object]:
    return lambda: setattr(place, name, hook)


def lower_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0 if hard else 0, hard))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))


CHANGES: dict[str, tuple[Callable[[], object], str]] = {
    "dtype": (
        lambda: torch.set_default_dtype(torch.float64),
        "default dtype: torch.float32 became torch.float64",
    ),
    "device": (lambda: torch.set_default_device("meta"), "default device: cpu became meta"),
    "function mode": (enter(TorchFunctionMode()), "function modes: 0 became 1"),
    "gradients": (
        lambda: torch.set_grad_enabled(False),
        "gradients enabled: True became False",
    ),
    "inference mode": (enter(torch.inference_mode()), "inference mode: False became True"),
    "autocast": (enter(torch.autocast("cpu", dtype=torch.bfloat16)), "autocast: cpu"),
    "autocast dtype": (
        lambda: torch.set_autocast_dtype("cuda", torch.bfloat16),
        "autocast: cuda",
    ),
    "deterministic": (
        lambda: torch.set_deterministic_debug_mode("warn"),
        "deterministic algorithms: 0 became 1",
    ),
    "cudnn": (
        lambda: setattr(torch.backends.cudnn, "benchmark", not torch.backends.cudnn.benchmark),
        "flags of torch: cudnn.benchmark",
    ),
    "precision": (
        lambda: torch.set_float32_matmul_precision("medium"),
        "cuda.matmul.fp32_precision",
    ),
    "denormals": (lambda: torch.set_flush_denormal(True), "denormals flushed: False became True"),
    "anomalies": (lambda: torch.autograd.set_detect_anomaly(True), "anomaly detection: "),
    "threads": (lambda: torch.set_num_threads(torch.get_num_threads() + 1), "threads: "),
    "forward hook": (
        lambda: register_module_forward_hook(hook),
        "hooks on every module or optimiser: global forward hooks",
    ),
    "optimiser hook": (
        lambda: register_optimizer_step_post_hook(hook),
        "hooks on every module or optimiser: global optimizer post hooks",
    ),
    "NumPy's generator": (
        lambda: np.random.set_bit_generator(np.random.PCG64(1)),
        "NumPy's generator",
    ),
    "NumPy's errors": (lambda: np.seterr(all="raise"), "NumPy's handling of errors: "),
    "stdout": (lambda: setattr(sys, "stdout", None), "standard streams: stdout"),
    "file of stderr": (lambda: os.close(2), "standard streams: stderr"),
    "folder": (lambda: os.chdir("/"), "working folder"),
    "limit": (lower_limit, "resource limits: RLIMIT_NOFILE"),
    "handler": (
        lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
        "signal handlers: SIGUSR1",
    ),
    "umask": (lambda: os.umask(0o277), "permissions of new files"),
    "recursion": (
        lambda: sys.setrecursionlimit(sys.getrecursionlimit() + 7),
        "recursion limit: ",
    ),
    "collection": (gc.disable, "garbage collection: True became False"),
    "torch function": (
        patch(functional, "cross_entropy"),
        "patched functions: torch.nn.functional.cross_entropy",
    ),
    "tensor": (patch(torch.Tensor, "backward"), "patched functions: torch.Tensor.backward"),
    "layer": (patch(nn.Linear, "forward"), "patched functions: torch.nn.Linear.forward"),
    "clock": (patch(time, "perf_counter"), "patched functions: time.perf_counter"),
    "draws": (patch(random, "random"), "patched functions: random.random"),
    "harness": (patch(evaluate, "logits"), "patched functions: unlearn_bench.measure.evaluate."),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_plug_in_changes_is_named_and_put_back(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    change, words = CHANGES[name]
    before = [shared.read() for shared in SHARED]
    with put_back() as left:
        change()
    assert words in "; ".join(left.changed) and not left.running
    assert [shared.read() for shared in SHARED] == before
    with put_back() as left:
        pass
    assert left == Left()


def test_nothing_is_said_of_a_plug_in_that_tidies_up_or_only_raises(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ZeroDivisionError), put_back() as left:
        with torch.no_grad(), torch.autocast("cpu"):
            threading.Thread(target=hook).start()
            subprocess.run(["true"], check=True)
            # As torch itself does when it compiles.
            monkeypatch.setattr(torch.optim.SGD, "step", disable(torch.optim.SGD.step))
            1 / 0  # noqa: B018
    assert left == Left()
    left.refuse("the method")


def test_a_closed_stream_is_open_again_for_whoever_holds_it(tmp_path: Path) -> None:
    child = os.fork()
    if not child:  # the streams of this process are pytest's
        file = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
        for number in (1, 2):
            os.dup2(file, number)
        held, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))
        sys.stdout = held
        with put_back() as left:
            sys.stdout.close()
            sys.stderr.close()
            os.close(2)
        held.write("again\n")
        held.flush()
        sys.stderr.write("; ".join(left.changed))
        sys.stderr.flush()
        os._exit(0)
    os.waitpid(child, 0)
    assert (tmp_path / "out").read_text() == "again\nstandard streams: stdout, stderr"


def test_threads_and_processes_left_running_are_named_and_processes_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leftovers, "PATIENCE", 0.3)
    go_on = threading.Event()
    with put_back() as left:
        thread = threading.Thread(target=go_on.wait, name="tinkering", daemon=True)
        thread.start()
        child = subprocess.Popen(["sh", "-c", "sleep 600 & wait"])
    go_on.set()
    assert left.running == [
        "threads still running: tinkering",
        "processes still running, now ended: sh",
    ]
    assert not psutil.pid_exists(child.pid)
    assert not [p for p in psutil.Process().children() if p.name() == "sleep"]
    with pytest.raises(MethodError, match="the method left changed .*tinkering; processes"):
        left.refuse("the method")


def test_an_alarm_left_set_does_not_go_off(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = signal.getitimer(signal.ITIMER_REAL)[0]
    signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        with put_back() as left:
            signal.alarm(600)
        assert left.changed == ["alarm set: False became True"]
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, seconds)


def test_a_fork_that_outlives_its_plug_in_does_not_run_the_suite_too(tmp_path: Path) -> None:
    with put_back() as left:
        child = os.fork()
    (tmp_path / str(os.getpid())).touch()
    assert [path.name for path in tmp_path.iterdir()] == [str(os.getpid())] and child
    assert left == Left()


def test_an_exit_raises_where_it_would_end_the_suite_and_only_there() -> None:
    real = os._exit
    with exits_raise():
        with exits_raise(), pytest.raises(SystemExit, match=r"os._exit\(0\) was called"):
            os._exit(0)
        child = os.fork()
        if not child:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert os._exit is not real
    assert os._exit is real


@pytest.mark.parametrize("answer", ["obeys", "is deaf", "fails"])
def test_after_ctrl_c_the_suite_ends_and_the_next_one_kills(answer: str) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with pytest.raises(Interrupted), first_in_good_order(lambda text: None), put_back():
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(60)
            except KeyboardInterrupt:
                if answer == "obeys":
                    raise
                if answer == "fails":
                    raise ValueError from None
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)
    with put_back() as left:
        pass
    assert left == Left()


# Each ends or disturbs whatever runs in the same process.
DISTURBING = '''
"""Methods that end their process, or leave it changed."""

import functools
import os
import sys

import torch
from torch.nn.modules.module import register_module_forward_hook

from unlearn_bench.api import Access, method


os.chdir("/")  # --out is relative


class Unspeakable(Exception):
    def __str__(self):
        raise GeneratorExit("nothing to say")


def raising(error):
    raise error


def patched():
    torch.nn.functional.cross_entropy = lambda logits, labels, **_: logits.sum() * 0


def hooked():
    register_module_forward_hook(lambda module, given, output: output * 1.001)


def without_gradients():
    torch.set_grad_enabled(False)


def elsewhere():
    os.chdir("/")


def forked():
    if not os.fork():
        raise ValueError("in the child")


TRICKS = {
    "exits": lambda: os._exit(0),
    "leaves": lambda: sys.exit(0),
    "interrupts": lambda: raising(KeyboardInterrupt()),
    "generates": lambda: raising(GeneratorExit()),
    "unspeakable": lambda: raising(Unspeakable()),
    "patches": patched,
    "hooks": hooked,
    "gradients": without_gradients,
    "folder": elsewhere,
    "forks": forked,
}


def register(name):
    @method(name, access=Access.NONE)
    def trick(model, ctx):
        TRICKS[name]()
        return model


for name in TRICKS:
    register(name)
'''
REASONS = {
    "exits": "SystemExit: os._exit(0) was called; return instead, or raise an error",
    "leaves": "SystemExit: 0",
    "interrupts": "KeyboardInterrupt",
    "generates": "GeneratorExit",
    "unspeakable": "Unspeakable: its message cannot be shown: GeneratorExit",
    "patches": "shared: patched functions: torch.nn.functional.cross_entropy; undo it",
    "hooks": "shared: hooks on every module or optimiser: global forward hooks; undo it",
    "gradients": "shared: gradients enabled: True became False; undo it",
    "folder": "shared: working folder; undo it",
    "forks": "method 'forks' started a process (os.fork) during its call; ",
}
COSTS = "seconds|bytes|time_ratio|break_even"


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.heavy)])
@pytest.mark.thorough
def test_methods_that_end_or_disturb_their_process_fail_alone_and_change_no_other_run(
    workers: int, cli: Any, finished: Any, write: Any, home: Path, tmp_path: Path
) -> None:
    ended = cli(
        "run",
        finished.suite,
        "--methods",
        ",".join([*REASONS, "finetune"]),
        "--set",
        "finetune.epochs=1",
        "--plugin",
        write("disturbing.py", DISTURBING),
        "--workers",
        workers,
        "--out",
        "out",
        cwd=tmp_path,
        env={"OMP_NUM_THREADS": "1"},
    )
    assert ended.code == 1 and ended.err == "" and "Traceback" not in ended.out
    assert f"{len(REASONS)} of" in ended.out and "runs failed" in ended.out
    found = pd.read_csv(tmp_path / "out" / "records.csv", keep_default_na=False)
    failed = found[found["status"] == "failed"].set_index("method")["error"]
    assert set(failed.index) == set(REASONS)
    for name, reason in REASONS.items():
        assert reason in failed[name].replace("what other runs share", "shared"), failed[name]
    expected = pd.read_csv(finished.out / "records.csv", keep_default_na=False)
    for method in ("finetune", "retrain", "original"):
        was, now = (
            frame[(frame["method"] == method) & ~frame["metric"].str.contains(COSTS)]
            for frame in (expected, found)
        )
        columns = ["run_key", "metric", "split", "value", "status"]
        assert now[columns].values.tolist() == was[columns].values.tolist() != [], method


def test_ctrl_c_in_the_midst_of_a_method_ends_the_suite(
    cli: Any, finished: Any, write: Any, trained: Path, tmp_path: Path
) -> None:
    slow = write(
        "slow.py",
        f"""
        import time
        from pathlib import Path
        from unlearn_bench.api import Access, method

        @method("slow", access=Access.NONE)
        def slow(model, ctx):
            Path({str(tmp_path / "begun")!r}).touch()
            time.sleep(600)
        """,
    )
    argv = ["run", finished.suite, "--methods", "slow", "--plugin", slow, "--workers", 1]
    running = cli.start(*argv, "--out", tmp_path / "out")
    while not (tmp_path / "begun").exists():
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGINT)
    ended = running.wait()
    assert ended.code == 130 and "the same command continues" in ended.out
    found = pd.read_csv(tmp_path / "out" / "records.csv")
    assert "slow" not in set(found["method"])
