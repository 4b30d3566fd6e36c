"""What a method must not touch while it is called: an audit hook that refuses, and remembers.

The answer to what a method is asked lies on the same machine: retrained models in the store, the
data in their folders, the results of others. While a method runs, Python's own ways to them are
closed: opening, listing and changing files there, starting processes, loading libraries by
ctypes, walking up the stack, and asking the garbage collector for everybody's objects. A refusal
that somebody catches and hides ends the call all the same.

A hook sees what Python does, not what native code does: :mod:`unlearn_bench.execution.isolation`
closes that as well.
"""

import contextlib
import inspect
import os
import sys
import sysconfig
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from unlearn_bench.core.errors import MethodError, visible

# What of a run's environment says how its method was kept apart, and what it says of most.
ISOLATION, FENCED = "isolation", "audit hook"

# By event, which of its arguments are paths.
_READS = {
    "open": (0,),
    "os.listdir": (0,),
    "os.scandir": (0,),
    "os.mkdir": (0,),
    "os.truncate": (0,),
    "os.utime": (0,),
    "os.getxattr": (0,),
    "os.link": (0, 1),
    "os.symlink": (0, 1),
    "sqlite3.connect": (0,),
    "ctypes.dlopen": (0,),
}
# Also refused for the folders that hold what is closed.
_MOVES = {
    "os.rename": (0, 1),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.chmod": (0,),
    "os.chown": (0,),
}
_VERBS = {
    "open": "opened",
    "os.listdir": "listed",
    "os.scandir": "listed",
    "sqlite3.connect": "opened",
    "ctypes.dlopen": "loaded",
    "os.rename": "renamed",
    "os.remove": "removed",
    "os.rmdir": "removed",
}
_SPAWNS = frozenset(
    {
        "subprocess.Popen",
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
        "os.fork",
        "os.forkpty",
        "pty.spawn",
    }
)
_FRAMES = frozenset({"sys._getframe", "sys._current_frames", "sys._current_exceptions"})
_OBJECTS = frozenset({"gc.get_objects", "gc.get_referrers", "gc.get_referents"})
_ATTRIBUTE = "object.__getattr__"
_FRAME_ATTRIBUTES = frozenset({"tb_frame", "gi_frame", "cr_frame", "ag_frame"})
_NATIVE = frozenset({"ctypes.dlopen", "ctypes.dlsym", "ctypes.cdata", "ctypes.string_at"})
# What processes of this machine show of themselves, and of this one.
_PROC = frozenset({"environ", "mem", "maps", "smaps", "cmdline", "clear_refs", "fd", "root"})

_active: "_Call | None" = None
_installed = False
_crossing = threading.local()


@dataclass
class _Call:
    """A method under way.

    Attributes:
        fence: Says what is closed.
        method: Its name.
        own: The file that defines it.
        exempt: Threads that were there before: the harness's.
        touched: What was refused so far, in words.
    """

    fence: "Fence"
    method: str
    own: str
    exempt: frozenset[int]
    touched: list[str] = field(default_factory=list)

    def refuse(self, what: str) -> None:
        """Remember what was done and raise."""
        self.touched.append(what)
        raise self.error()

    def end(self, active: "_Call | None") -> None:
        """Remember it if the method put another call, or none, in this one's place."""
        if active is not self and not self.touched:
            self.touched.append("switched off what watches it")

    def error(self) -> MethodError:
        """Return the error for the first thing that was touched."""
        return MethodError(
            f"method {self.method!r} {self.touched[0]} during its call; a method may use only "
            "its model and what ctx provides"
        )


class Fence:
    """Places that are closed to methods, each with what it is.

    Args:
        closed: What a place is, in words, by its path; what lies below is closed as well.
    """

    def __init__(self, closed: Mapping[Path, str]) -> None:
        self._closed = {_real(path): what for path, what in closed.items()}
        # The innermost counts: a data folder may hold the environment that Python runs from.
        self._places = dict.fromkeys(map(_real, _free()), "") | self._closed
        self._named: dict[str, bool] = {}

    @property
    def closed(self) -> Mapping[Path, str]:
        """The places that are closed, resolved, and what each is."""
        return self._closed

    def holding(self, real: Path) -> str:
        """Return what closed place a resolved path lies in, "" if in none."""
        return next((self._places[p] for p in (real, *real.parents) if p in self._places), "")

    def is_above(self, real: Path) -> bool:
        """Whether a resolved path is a folder that holds a closed place."""
        return any(real in closed.parents for closed in self._closed)

    @contextlib.contextmanager
    def around(self, method: str, own: Path) -> Iterator[None]:
        """Close the places, and what else leads out of a call, within the block.

        Environment variables that name a closed place are hidden; all are put back afterwards.

        Args:
            method: Name of the method that is called.
            own: The file that defines it.

        Raises:
            MethodError: At the end, if something was refused and nobody said so.
        """
        global _active
        _install()
        threads = {thread.ident or 0 for thread in threading.enumerate()}
        call = _Call(self, method, str(own), frozenset(threads - {threading.get_ident()}))
        with self._hidden_environment():
            outer, _active = _active, call
            try:
                yield
            except (Exception, SystemExit) as error:
                call.end(_active)
                if call.touched:
                    raise call.error() from error
                raise
            finally:
                call.end(_active)
                _active = outer
        if call.touched:
            raise call.error()

    def _names(self, value: str) -> bool:
        """Whether the value of an environment variable is, or lists, a closed place."""
        if value not in self._named:
            paths = [part for part in value.split(os.pathsep) if os.sep in part]
            self._named[value] = any(self.holding(_real(path)) for path in paths)
        return self._named[value]

    @contextlib.contextmanager
    def _hidden_environment(self) -> Iterator[None]:
        before = dict(os.environ)
        for name, value in before.items():
            if self._names(value):
                del os.environ[name]
        try:
            yield
        finally:
            if dict(os.environ) != before:
                os.environ.clear()
                os.environ.update(before)


@contextlib.contextmanager
def crossing() -> Iterator[None]:
    """Let the harness itself, called by a method, read and write as ever within the block."""
    before = getattr(_crossing, "open", False)
    _crossing.open = True
    try:
        yield
    finally:
        _crossing.open = before


def _install() -> None:
    """Add the hook to this process, once: none can be taken away again."""
    global _installed
    if not _installed:
        sys.addaudithook(_hook)
        _installed = True


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    call = _active
    if call is None:
        return
    look = _LOOKS.get(event)
    if look is None or event == _ATTRIBUTE and arguments[1] not in _FRAME_ATTRIBUTES:
        return
    if getattr(_crossing, "open", False) or threading.get_ident() in call.exempt:
        return
    with crossing():  # looking raises events of its own
        look(call, event, arguments)


def _look_at_paths(call: _Call, event: str, arguments: tuple[Any, ...]) -> None:
    positions = _MOVES.get(event) or _READS[event]
    for given in (arguments[position] for position in positions):
        if isinstance(given, str | bytes | os.PathLike):
            _look_at_path(call, event, os.fsdecode(given))
    if event in _NATIVE:
        _look_at_native(call, event, arguments)


def _look_at_path(call: _Call, event: str, path: str) -> None:
    try:
        real = _real(path)
    except (OSError, ValueError):  # the working folder is gone, or no path at all
        return
    what = call.fence.holding(real)
    if (
        not what
        and real.parts[1:2] == ("proc",)
        and set(_PROC) & {*real.parts[3:], *Path(path).parts}
    ):
        what = "what the system says of a process"
    if not what and call.fence.is_above(real):
        # A folder that is open leads further down, by names that no event shows in full.
        leads_down = event == "open" and real.is_dir()
        what = "the folder of closed places" if leads_down or event in _MOVES else ""
    if what:
        verb = _VERBS.get(event, "changed")
        call.refuse(f"{verb} {visible(str(Path(path).absolute()))} ({what})")


def _real(path: str | Path) -> Path:
    return Path(os.path.realpath(path))


def _look_at_spawn(call: _Call, event: str, arguments: tuple[Any, ...]) -> None:
    if _is_own(call, _asking(_is_standard)):
        program = arguments[0] if arguments else None
        what = os.fsdecode(program) if isinstance(program, str | bytes) else event
        call.refuse(f"started a process ({visible(what)[:80]})")


def _look_at_frames(call: _Call, event: str, arguments: tuple[Any, ...]) -> None:
    if _is_own(call, _asking(_hands_frames_on)):
        call.refuse(f"walked the stack ({event})")


def _look_at_attribute(call: _Call, event: str, arguments: tuple[Any, ...]) -> None:
    if _is_own(call, _asking(_hands_frames_on)):
        call.refuse(f"walked the stack ({arguments[1]})")


def _look_at_objects(call: _Call, event: str, arguments: tuple[Any, ...]) -> None:
    if _is_own(call, _asking(lambda frame: False)):
        call.refuse(f"searched the memory of the process ({event})")


def _look_at_native(call: _Call, event: str, arguments: tuple[Any, ...]) -> None:
    if _is_own(call, _asking(_is_ctypes)):
        call.refuse(f"called native code ({event})")


_Look = Callable[[_Call, str, tuple[Any, ...]], None]
_LOOKS: dict[str, _Look] = {
    **dict.fromkeys(_SPAWNS, _look_at_spawn),
    **dict.fromkeys(_FRAMES, _look_at_frames),
    **dict.fromkeys(_OBJECTS, _look_at_objects),
    **dict.fromkeys(_NATIVE, _look_at_native),
    **dict.fromkeys((*_READS, *_MOVES), _look_at_paths),
    _ATTRIBUTE: _look_at_attribute,
}


def _asking(passes_on: Callable[[FrameType], bool]) -> FrameType | None:
    """Return the frame that asked for what the hook is looking at.

    Args:
        passes_on: Whether a frame only does so for whoever called it.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals is globals():
        frame = frame.f_back
    while frame is not None and passes_on(frame) and _is_genuine(frame):
        frame = frame.f_back
    return frame


def _is_own(call: _Call, frame: FrameType | None) -> bool:
    """Whether a frame is the method's: of its file, or of no library."""
    if frame is None:
        return False
    file = frame.f_code.co_filename
    if file == call.own or not (file.startswith((*_LIBRARIES, "<frozen"))):
        return True
    return not _is_genuine(frame)


def _is_genuine(frame: FrameType) -> bool:
    """Whether a frame's code runs in the module that it names: a file name anyone may choose."""
    module = sys.modules.get(str(frame.f_globals.get("__name__")))
    return getattr(module, "__dict__", None) is frame.f_globals


def _is_standard(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return file.startswith(("<frozen", *_STANDARD)) and not file.startswith(_INSTALLED)


def _is_ctypes(frame: FrameType) -> bool:
    return "ctypes" in Path(frame.f_code.co_filename).parts


def _hands_frames_on(frame: FrameType) -> bool:
    # Printing a traceback, as the rest of that module does, shows frames to nobody.
    code = frame.f_code
    return code.co_filename == inspect.__file__ or (
        code.co_filename == traceback.__file__ and code.co_name in ("walk_stack", "walk_tb")
    )


_PATHS = sysconfig.get_paths()
_STANDARD = tuple({_PATHS[name] + os.sep for name in ("stdlib", "platstdlib")})
_INSTALLED = tuple({_PATHS[name] + os.sep for name in ("purelib", "platlib")})
_LIBRARIES = (*_STANDARD, *_INSTALLED, str(Path(__file__).parents[1]) + os.sep)


def _free() -> tuple[str, ...]:
    """Return what stays open wherever it lies: Python, its packages, and temporary files."""
    here = str(Path(__file__).parents[1])
    return sys.prefix, sys.base_prefix, tempfile.gettempdir(), here, *_PATHS.values()
