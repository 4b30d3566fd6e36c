"""Weights of the user's own, which ``--original`` and ``--unlearned`` name."""

from collections.abc import Sequence
from pathlib import Path

from unlearn_bench.core.errors import ConfigError, UserError, one_line
from unlearn_bench.core.keys import file_hash
from unlearn_bench.core.quantities import size_text
from unlearn_bench.core.reading import opened, real_path, safetensors_header
from unlearn_bench.plugins import registry
from unlearn_bench.suite.spec import MAX_NAME, OriginalFile, Suite

WEIGHTS_BYTES = 1 << 38


def weights_file(flag: str, path: Path) -> OriginalFile:
    """Return a file of weights with its hash.

    Args:
        flag: Which names it, for errors.
        path: The file.

    Raises:
        UserError: If there is none, or it is too large, or no file of weights.
    """
    path = real_path(path, flag)
    if not path.exists():
        raise UserError(f"{flag}: no file {path}; give a .safetensors file of trained weights")
    try:
        with opened(path) as stream:
            size, start = path.stat().st_size, stream.read(9)
        if start[8:] == b"{":
            safetensors_header(path)  # before a file that lies about its size is digested
        if size > WEIGHTS_BYTES:
            raise UserError(f"{path} has {size_text(size)}; at most {size_text(WEIGHTS_BYTES)}")
        return OriginalFile(path=path, sha256=file_hash(path))
    except UserError as error:
        raise UserError(f"{flag}: {error}") from error
    except OSError as error:
        raise UserError(f"{flag}: cannot read {path}: {error.strerror}") from error


def unlearned_files(
    suite: Suite, paths: Sequence[Path], original: Path | None
) -> dict[str, OriginalFile]:
    """Return the files of ``--unlearned`` by the label that they get."""
    if not paths:
        return {}
    if original is None:
        raise ConfigError(
            "--unlearned: give --original too, the weights before unlearning; forgetting is "
            "measured against them"
        )
    if max(len(suite.datasets), len(suite.models), len(suite.scenarios)) > 1:
        raise ConfigError(
            "--unlearned: a given model is of one architecture and forgot one thing; name one "
            "--dataset, one --model and one --forget"
        )
    files: dict[str, OriginalFile] = {}
    for path in paths:
        file = weights_file("--unlearned", path)
        label = one_line(file.path.stem)[:MAX_NAME]
        if any(other.stem == path.stem for other in paths if other is not path):
            label = one_line(f"{file.path.parent.name}-{file.path.stem}")[:MAX_NAME]
        if label in files or label in registry.methods():
            taken = "another file's" if label in files else "a method's"
            raise ConfigError(
                f"--unlearned: {path.name} would be called {label!r} in the report, which is "
                f"{taken} name; rename the file"
            )
        if twin := next((name for name, f in files.items() if f.sha256 == file.sha256), None):
            raise ConfigError(
                f"--unlearned: {path.name} has the same content as {twin}.safetensors; leave one "
                "out"
            )
        files[label] = file
    return files
