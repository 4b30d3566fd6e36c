"""Names of what lies in a results folder; without anything heavy, as ``status`` needs no more."""

from pathlib import Path

# Names of the files that processes at work lock begin with it.
LOCK = ".lock"
# What lies in a results folder beside files.
FOLDERS = ("runs", "plugins", "figures")
# What `run --tune` puts into a results folder before its suite.
TUNING = "tuning"


def seed_lock(out: Path, seed: int) -> Path:
    """Return the file that a process on one seed locks."""
    return out / f"{LOCK}-seed-{seed}"
