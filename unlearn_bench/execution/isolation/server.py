"""The process that methods' processes are forked from: libraries loaded, no data, no store.

Run as ``python -P -m unlearn_bench.execution.isolation.server READ WRITE STEPS`` with three open
files. It is told of one call after the other on the first, answers on the second when nothing of
a call runs any more, and passes the third on to the calls, which tell their steps there. It ends
with the one who started it, and takes its folder with it.
"""

import copy
import gc
import json
import os
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

import psutil
import safetensors.torch
import torch
from torch import nn

from unlearn_bench.core.fence import Fence
from unlearn_bench.execution.calling import call
from unlearn_bench.execution.failures import Failures, RunFailedError
from unlearn_bench.execution.isolation import call as calls
from unlearn_bench.execution.isolation.confine import (
    adopt_orphans,
    confine,
    die_with_parent,
    readable,
)
from unlearn_bench.execution.task import Task, Unlearning
from unlearn_bench.plugins import registry
from unlearn_bench.toolkit.context import TrainingLog
from unlearn_bench.toolkit.state import State
from unlearn_bench.training.numerics import repeat_itself

# Elsewhere a process that has loaded torch cannot be forked safely: it does one call and ends.
FORKS = sys.platform == "linux"
STEP = 300  # characters of a step that are passed on
IN, WORK = "in", "work"


def main(read: int, write: int, steps: int) -> None:
    """Do calls until the one who asks for them is gone."""
    registry.methods()
    torch.set_num_threads(1)
    adopt_orphans()
    home = Path.cwd()
    signal.signal(signal.SIGTERM, lambda *_: _end(home))
    die_with_parent(signal.SIGTERM)  # not killed: the folder is to go as well
    gc.freeze()  # what is loaded stays where it is: forks share it
    try:
        with os.fdopen(read) as requests, os.fdopen(write, "w") as answers:
            _serve(home, requests, answers, steps)
    except BrokenPipeError:
        pass  # who asked is gone
    except Exception:
        traceback.print_exc()
    _end(home)


def _serve(home: Path, requests: TextIO, answers: TextIO, steps: int) -> None:
    for line in requests:
        request = json.loads(line)
        closed = {Path(path): what for path, what in request["closed"].items()}
        # Looked up once for all calls.
        may_read = readable(tuple(closed), tuple(map(Path, request["extra"])))
        if not FORKS:
            _work(home, closed, may_read, steps)
        child = os.fork() if FORKS else 0
        if FORKS and not child:
            requests.close()
            os.close(answers.fileno())
            _work_and_exit(home, closed, may_read, steps)
        code, seconds = _wait(child) if child else (0, None)
        answers.write(json.dumps({"code": code, "seconds": seconds}) + "\n")
        answers.flush()
        if not FORKS:
            break


def _end(home: Path) -> NoReturn:
    _end_family()
    shutil.rmtree(home, ignore_errors=True)
    os._exit(0)


def _wait(child: int) -> tuple[int, float]:
    """Wait for a call to end, end what it left running, and return its code and CPU seconds."""
    _, status, usage = os.wait4(child, 0)
    _end_family()
    return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime


def _end_family() -> None:
    while family := psutil.Process().children():  # orphans come to us one generation at a time
        for process in family:
            with suppress(psutil.Error):
                process.kill()
            with suppress(ChildProcessError):
                os.waitpid(process.pid, 0)


def _work_and_exit(
    home: Path, closed: Mapping[Path, str], may_read: Mapping[Path, int], steps: int
) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with_parent(signal.SIGKILL)
    code = 1
    try:
        _work(home, closed, may_read, steps)
        code = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _work(home: Path, closed: Mapping[Path, str], may_read: Mapping[Path, int], steps: int) -> None:
    """Do one call: read what is handed over, give up all else, and only then meet the method.

    Args:
        home: Of this process; the call's files are in two folders there.
        closed: What must not be touched; where it is tried all the same, the hook names it.
        may_read: What stays within reach.
        steps: Open for writing: what is in force, and then each step.
    """

    def tell(what: str, text: str) -> None:
        os.write(steps, (json.dumps({what: text[:STEP]}) + "\n").encode())

    work = home / WORK
    os.chdir(work)
    facts = json.loads((home / IN / calls.FACTS).read_text())
    data = (home / IN / calls.TENSORS).read_bytes()
    given = {name: home / IN / name for name in calls.PLUGINS}
    plugins = {name: file.read_bytes() for name, file in given.items() if file.exists()}
    # Before the first thread: each is confined by itself.
    tell("in_force", confine(work, may_read))
    torch.set_num_threads(facts["threads"])
    repeat_itself()
    fence = Fence(closed)
    failures = Failures(torch.device(facts["device"]))
    tensors = safetensors.torch.load(data)
    del data
    try:
        answer = failures.guard(lambda: _call(work, facts, tensors, plugins, fence, tell))
    except RunFailedError as failure:
        cause = failure.__cause__
        trace = "".join(traceback.format_exception(cause)) if cause else ""
        answer = {"failed": str(failure), "trace": trace}
    (work / calls.ANSWER).write_text(json.dumps(answer, allow_nan=False))


def _call(
    work: Path,
    facts: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    plugins: Mapping[str, bytes],
    fence: Fence,
    tell: Any,
) -> dict[str, Any]:
    """Call the method, write its weights, and return the rest of the answer."""
    for name, text in plugins.items():
        file = work / name
        file.write_bytes(text)
        registry.load_plugin(file)
    method = calls.with_all_handed_over(registry.get(facts["method"]))
    task = calls.read_task(facts, tensors)
    model = task.load(calls.below("original.", tensors))
    log = facts["log"] and TrainingLog(
        {n: t.to(task.device) for n, t in calls.below("log.", tensors).items()}, *facts["log"]
    )
    unlearning = Unlearning(
        task,
        method,
        step=lambda text: tell("step", text),
        training_log=log,
        given=calls.below("given.", tensors) if facts["given"] else None,
        limit=facts["limit"],
        draw=facts["draw"],
        fence=fence,
        state=State(calls.below("state.", tensors), facts["state"]),
        checkpoints=calls.read_checkpoints(facts, tensors, task.device),
        surrogates=tensors.get(calls.SURROGATES),
    )
    _warm_up(task, model)
    called = call(unlearning, model, facts["params"])
    state = called.model.state_dict()
    packed = {name: t.detach().cpu().clone().contiguous() for name, t in state.items()}
    safetensors.torch.save_file(packed, work / calls.WEIGHTS)
    left = called.state if facts["stream"] else None
    if left is not None:
        safetensors.torch.save_file(left.tensors, work / calls.STATE)
    return {
        "cost": called.cost,
        "log": called.log,
        "halved": called.halved,
        "state": None if left is None else left.plain,
    }


def _warm_up(task: Task, model: nn.Module) -> None:
    """Take a step with a copy of the model.

    What libraries set up at their first use is no cost of a method's; in the harness's own process
    the original's training has paid it.
    """
    mirror = copy.deepcopy(model).train()
    shape = min(8, task.recipe.batch_size), *task.data.train.images.shape
    with suppress(Exception):  # whatever it is, the method will meet it
        mirror(torch.zeros(shape, device=task.device, dtype=task.dtype)).sum().backward()
        torch.optim.SGD(mirror.parameters(), lr=0.0).step()


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks where threads are
    main(*map(int, sys.argv[1:]))
