"""Serve command lines from a process that has torch loaded: each runs in a fork of its own.

Starting Python with torch and timm takes seconds, a fork milliseconds. What is forked has
imported the libraries and the built-in methods and done nothing else; ``python -m
unlearn_bench`` then runs in full, in its own process group, with its own environment, working
folder and streams.

A fork server of workers would load the same libraries once more. With ``warm_workers`` one is
forked at the start, waits until multiprocessing would start its own, and takes its place.

Requests are lines of JSON on stdin; the answers, also lines of JSON, are the process id and
then, once it ended, the exit code.
"""

import gc
import importlib
import json
import os
import resource
import runpy
import signal
import socket
import sys
import traceback
from multiprocessing import util
from pathlib import Path

PRELOADED = (
    "jinja2",
    "matplotlib.backends.backend_pdf",
    "matplotlib.backends.backend_svg",
    "pyarrow.parquet",
    "seaborn",
    "sklearn.datasets",
    "unlearn_bench.cli.catalogue",
    "unlearn_bench.suite.config",
    "unlearn_bench.execution.dry_run",
    "unlearn_bench.execution.local",
    "unlearn_bench.conformance",
    "unlearn_bench.execution.scheduler",
    "unlearn_bench.measure.metrics.mia_fitted",
    "unlearn_bench.measure.metrics.mia_legacy",
    "unlearn_bench.measure.lab",
    "unlearn_bench.cli.progress",
    "unlearn_bench.report.figures",
    "unlearn_bench.report.figures.labels",
    "unlearn_bench.report.html",
    "unlearn_bench.report.latex",
    "unlearn_bench.report.markdown",
    "unlearn_bench_methods",
)


def _lend_fork_server() -> None:
    """Let a process that is forked now be what multiprocessing starts as its fork server."""
    near, far = socket.socketpair()
    spare = os.fork()
    if not spare:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # as a true one begins
        near.close()
        code, fds, *_ = socket.recv_fds(far, 2**16, 2)
        try:
            if code:  # else the command line ended without workers
                far.close()
                exec(code.decode(), {"passed": fds})
        finally:
            os._exit(0)
    far.close()
    spawn = util.spawnv_passfds

    def lend(path: str, args: list[str], fds: list[int]) -> int:
        given = "main({}, {}, ".format(*fds)
        if "multiprocessing.forkserver" not in args[-1] or given not in args[-1]:
            return spawn(path, args, fds)
        code = args[-1].replace(given, "main(*passed, ")
        socket.send_fds(near, [code.encode()], fds)
        util.spawnv_passfds = spawn
        near.close()
        return spare

    util.spawnv_passfds = lend


def _run(request: dict) -> int:
    os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    for number, path in enumerate((os.devnull, request["out"], request["err"])):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(path, flags, 0o644), number)
    if request["file_limit"]:
        # Python ignores SIGXFSZ, so that a write past the limit fails like one on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_limit"],) * 2)
    if limit := request.get("memory_limit"):
        # Beyond what the libraries have mapped already.
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        mapped = pages * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + limit,) * 2)
    if request.get("packages"):  # as if they had been installed before the start
        sys.path.append(request["packages"])
        importlib.import_module("unlearn_bench.plugins.registry")._loaded_entry_points = False
    if not request.get("figures", True):
        importlib.import_module("unlearn_bench.report.figures").draw = lambda *_: {}
    if request.get("warm_workers"):
        _lend_fork_server()
    sys.argv = ["unlearn-bench", *request["argv"]]
    try:
        runpy.run_module("unlearn_bench", run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing that a library prints may pass for an answer
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else each fork looks through all that was loaded, and copies it by doing so
    for line in sys.stdin:
        child = os.fork()
        if not child:
            code = 1
            try:
                code = _run(json.loads(line))
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
        answers.write(f'{{"pid": {child}}}\n')
        answers.flush()
        _, status = os.waitpid(child, 0)
        answers.write(f'{{"code": {os.waitstatus_to_exitcode(status)}}}\n')
        answers.flush()


if __name__ == "__main__":
    main()
