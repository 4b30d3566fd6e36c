"""Plug-in files, imported where runs are made: they define, and change nothing that is there."""

from pathlib import Path

from unlearn_bench.core.errors import PluginError
from unlearn_bench.execution.surroundings.patches import Functions
from unlearn_bench.plugins import registry


def load_plugin(file: Path) -> list[str]:
    """Run a plug-in file and return the names of the methods that it registered.

    Raises:
        PluginError: As :func:`registry.load_plugin`; also if it patches functions of others, which
            are put back.
    """
    functions = Functions()
    try:
        return registry.load_plugin(file)
    finally:
        if patched := functions.restore():
            raise PluginError(
                f"{file} patches {', '.join(patched)} while it is imported; define functions of "
                "your own instead"
            )
