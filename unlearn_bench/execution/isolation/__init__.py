"""Calls of methods in a process of their own, which is handed tensors and can reach nothing else.

:mod:`call` is what travels, :mod:`server` the other side, :mod:`confine` what that gives up and
:mod:`landlock` how. This is the harness's side.
"""

import contextlib
import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from unlearn_bench.core.errors import MethodError, one_line
from unlearn_bench.execution.failures import RunFailedError
from unlearn_bench.execution.isolation.call import (
    Answer,
    Call,
    read_answer,
    read_state,
    read_weights,
)
from unlearn_bench.execution.isolation.confine import environment
from unlearn_bench.toolkit.state import State

IN, WORK = "in", "work"
PATIENCE = 5.0  # seconds for the server to end
MOST = 1 << 16  # bytes of steps that are looked at together
# A method's process that says it took less than half the time it took, and seconds less, is lying.
DOUBT, DOUBTED_SECONDS = 0.5, 3.0


class RemoteError(Exception):
    """What a method raised in its own process, as a text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@dataclass(frozen=True)
class Returned:
    """What came back of a call.

    Attributes:
        weights: By name; not yet compared with what is expected.
        answer: Costs, log and what else is said.
        in_force: What the process had given up, in words.
        state: What the method leaves for its next request; None where it keeps nothing.
    """

    weights: Mapping[str, Tensor]
    answer: Answer
    in_force: str
    state: State | None = None


class Isolation:
    """Calls methods in processes of their own, one at a time.

    The server that they are forked from starts with the first call, which takes seconds, serves
    all of this process, and ends with it.
    """

    _server: "ClassVar[_Server | None]" = None

    def call(
        self,
        call: Call,
        closed: Mapping[Path, str],
        extra: Iterable[Path],
        step: Callable[[str], None],
    ) -> Returned:
        """Call a method and return what it gave back.

        Args:
            call: What it is handed.
            closed: Places that must stay closed wherever they lie, and what each is.
            extra: Places that it may read besides Python's.
            step: Notified of what the method's training says of its epochs.

        Raises:
            RunFailedError: If it failed, with its reason.
            MethodError: If its process ended without an answer.
        """
        server = Isolation._server
        if server is None or not server.runs:
            server = Isolation._server = _Server()
        try:
            return server.call(call, closed, extra, step)
        except BaseException as error:
            if not isinstance(error, RunFailedError | MethodError):
                server.end()  # Ctrl-C, for one: nothing of the call may go on
            raise


class _Server:
    """The process that calls are forked from, and the folder that they share with this one."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="unlearn-bench-"))
        theirs_read, write = os.pipe()
        read, theirs_write = os.pipe()
        self._steps, theirs_steps = os.pipe()
        theirs = (theirs_read, theirs_write, theirs_steps)
        module = "unlearn_bench.execution.isolation.server"
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *map(str, theirs)],
            pass_fds=theirs,
            stdin=subprocess.DEVNULL,
            cwd=self.folder,
            env=environment(self.folder / WORK),
            start_new_session=True,  # Ctrl-C is for the harness, which decides what it means
        )
        for number in theirs:
            os.close(number)
        self._requests, self._answers = os.fdopen(write, "w"), read
        self._pid = os.getpid()
        self._finalizer = weakref.finalize(self, _end, self._process, self.folder, self._pid)

    @property
    def runs(self) -> bool:
        """Whether it can be asked: it is alive, and this process's own."""
        return self._pid == os.getpid() and self._process.poll() is None

    def end(self) -> None:
        """End it with all that it started."""
        self._finalizer()

    def call(
        self,
        call: Call,
        closed: Mapping[Path, str],
        extra: Iterable[Path],
        step: Callable[[str], None],
    ) -> Returned:
        """Do one call, as :meth:`Isolation.call` says."""
        for name in (IN, WORK):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir(mode=0o700)
        call.write(self.folder / IN)
        named = {str(path): what for path, what in closed.items()}
        request = {"closed": named, "extra": [*map(str, extra)]}
        with contextlib.suppress(BrokenPipeError):  # seen below
            self._requests.write(json.dumps(request) + "\n")
            self._requests.flush()
        ended, in_force = self._wait(step)
        shutil.rmtree(self.folder / IN, ignore_errors=True)
        if ended["code"]:
            raise MethodError(_obituary(ended["code"]))
        answer = read_answer(self.folder / WORK)
        if answer.failed is not None:
            cause = RemoteError(answer.trace) if answer.trace else None
            raise RunFailedError(one_line(answer.failed)) from cause
        if answer.cost is None:
            raise MethodError("the method's process left an answer without costs")
        doubt(answer, ended["seconds"])
        weights = read_weights(self.folder / WORK, call.original)
        state = read_state(self.folder / WORK, answer) if call.method.keeps_state else None
        shutil.rmtree(self.folder / WORK, ignore_errors=True)
        return Returned(weights, answer, in_force, state)

    def _wait(self, step: Callable[[str], None]) -> tuple[dict[str, Any], str]:
        """Pass steps on until the call has ended; return how, and what was in force."""
        in_force, told, answered = "", b"", b""
        with selectors.DefaultSelector() as either:
            either.register(self._steps, selectors.EVENT_READ)
            either.register(self._answers, selectors.EVENT_READ)
            while not answered.endswith(b"\n"):
                ready = {key.fd for key, _ in either.select()}
                if self._steps in ready:
                    *lines, told = (told + os.read(self._steps, MOST)).split(b"\n")
                    told = told[:MOST]
                    for line in lines:
                        what, text = step_of(line)
                        if what == "in_force" and not in_force:
                            in_force = text  # the first line, from before the method was met
                        elif what == "step":
                            step(text)
                elif self._answers in ready:
                    part = os.read(self._answers, MOST)
                    if not part:
                        return {"code": self._process.wait(), "seconds": None}, in_force
                    answered += part
        return json.loads(answered), in_force


def step_of(line: bytes) -> tuple[str, str]:
    """Read a line that a method's process may have written."""
    try:
        ((what, text),) = json.loads(line).items()
        return str(what), one_line(str(text))[:300]
    except (ValueError, AttributeError, RecursionError):
        return "", ""


def _obituary(code: int) -> str:
    if code == -9:
        return (
            "the method's process was killed (signal 9): most likely there was not enough memory; "
            "use fewer --workers, a smaller batch size or a smaller model"
        )
    return f"the method's process ended with code {code} and left no answer"


def doubt(answer: Answer, seconds: float | None) -> None:
    """Refuse costs that the system contradicts: a method could have written them itself.

    Raises:
        MethodError: With both.
    """
    if answer.cost is None or seconds is None or "unlearn" not in answer.cost.seconds:
        return
    said = answer.cost.seconds["unlearn"].cpu
    if said < DOUBT * seconds - DOUBTED_SECONDS:
        raise MethodError(
            f"the method's process says it took {said:.1f} CPU s, the system {seconds:.1f}: its "
            "times cannot be trusted"
        )


def _end(process: "subprocess.Popen[bytes]", folder: Path, pid: int) -> None:
    if os.getpid() != pid:  # a fork's copy
        return
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    shutil.rmtree(folder, ignore_errors=True)
