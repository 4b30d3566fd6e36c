"""What a method's process gives up before it sees the method: files, network, its way out."""

import contextlib
import ctypes
import functools
import importlib.util
import os
import signal
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path

from unlearn_bench.execution.isolation import landlock

# Shared libraries, programs, and what Python and torch ask of the system when they begin to work.
_SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime",
    "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm",
    "/proc/driver", "/proc/devices", "/sys/devices", "/sys/bus/pci", "/sys/module",
    "/dev/urandom", "/dev/random",
)  # fmt: skip
# The peak of memory is reset by writing to the second.
_USABLE = ("/dev/null", "/proc/self/clear_refs", "/dev/kfd", "/dev/dri", "/dev/nvidia-caps")
_PACKAGES = ("unlearn_bench", "unlearn_bench_methods", "unlearn_bench_suites")
_NEW_USERS, _NEW_NETWORK = 0x10000000, 0x40000000
_DIE_WITH_PARENT, _ADOPT_ORPHANS = 1, 36

# Environment variables that a method's process is given; what they name is not of a user's.
_KEPT = {"PATH", "LANG", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV"}
_KEPT_PREFIXES = (
    "LC_", "OMP_", "MKL_", "OPENBLAS_", "KMP_", "GOMP_", "CUDA_", "CUBLAS_", "NVIDIA_",
    "PYTORCH_", "TORCH_", "TORCHINDUCTOR_", "TRITON_", "HIP_", "ROCR_", "HSA_",
)  # fmt: skip


def environment(home: Path) -> dict[str, str]:
    """Return the environment of a method's process, whose home is a folder of its own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or name.startswith(_KEPT_PREFIXES)
    }
    own = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), str(home))
    caches = {name: str(path) for name, path in weight_caches().items()}
    return (
        kept
        | own
        | caches
        | {"PYTHONPATH": _search_path(), "USER": "method", "HF_HUB_OFFLINE": "1"}
    )


def weight_caches() -> dict[str, Path]:
    """Return where pre-trained weights are kept, by the environment variable that says so."""
    home = Path.home()
    hub = Path(os.environ.get("HF_HOME", home / ".cache" / "huggingface"))
    return {
        "HF_HUB_CACHE": Path(os.environ.get("HF_HUB_CACHE", hub / "hub")),
        "TORCH_HOME": Path(os.environ.get("TORCH_HOME", home / ".cache" / "torch")),
    }


@functools.lru_cache(maxsize=8)
def readable(closed: tuple[Path, ...], extra: tuple[Path, ...] = ()) -> Mapping[Path, int]:
    """Return what a method's process may read, and how: Python, its packages and the system.

    Args:
        closed: Places that must stay closed wherever they lie.
        extra: Further places to read, such as the cache of pre-trained weights.
    """
    places = [place.resolve() for place in closed]
    found: dict[Path, int] = {}
    for path in dict.fromkeys([*_python(), *map(Path, _SYSTEM), *extra]):
        for part, rights in landlock.without(path.resolve(), places):
            found[part] = found.get(part, 0) | rights
    return found


def confine(work: Path, may_read: Mapping[Path, int]) -> str:
    """Give up all files but those and the folder of work, and the network; say what is in force.

    Args:
        work: Where the process may write.
        may_read: As :func:`readable` gives it.
    """
    network = _leave_network()
    usable = [*map(Path, _USABLE), *Path("/dev").glob("nvidia*")]
    own = {Path("/proc/self"): landlock.READ}
    version = landlock.restrict({**may_read, **own}, usable, work)
    if not network and version >= 4:
        network = "no TCP"
    files = f"Landlock ABI {version}" if version else "no Landlock on this system"
    return f"process, {files}, {network or 'network open'}"


def _python() -> Iterator[Path]:
    """Yield where Python's own files and packages lie."""
    yield from map(Path, (sys.prefix, sys.base_prefix, *sysconfig.get_paths().values()))
    ours = _our_packages()
    yield from ours
    for path in (Path(path).resolve() for path in sys.path if path):
        # Of a checkout only the packages: data and results may lie beside them.
        if path.is_dir() and not any(path in place.parents for place in ours):
            yield path
    yield from map(Path, filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)))


def _our_packages() -> list[Path]:
    found = (importlib.util.find_spec(name) for name in _PACKAGES)
    places = [(spec and spec.submodule_search_locations) or () for spec in found]
    return [Path(place).resolve() for some in places for place in some]


def _search_path() -> str:
    """Return where Python looks for packages, without the working folder, where data may lie."""
    here = None if any(Path.cwd() in place.parents for place in _our_packages()) else Path.cwd()
    return os.pathsep.join(path for path in sys.path if path and Path(path) != here)


def _leave_network() -> str:
    """Move into a network of its own, where the system permits that; say so."""
    if sys.platform != "linux":
        return ""
    libc, user, group = ctypes.CDLL(None, use_errno=True), os.getuid(), os.getgid()
    if libc.unshare(_NEW_NETWORK) == 0:
        return "no network"
    if libc.unshare(_NEW_USERS | _NEW_NETWORK) != 0:
        return ""
    with contextlib.suppress(OSError):  # only names hang on it
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return "no network"


def die_with_parent(by: signal.Signals) -> None:
    """Let the system send this process a signal when the one that started it is gone."""
    _prctl(_DIE_WITH_PARENT, by)


def adopt_orphans() -> None:
    """Become the parent of whatever descendants leave behind, so that it can be ended."""
    _prctl(_ADOPT_ORPHANS, 1)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
