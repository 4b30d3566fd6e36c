"""The command ``audit``: what attacks find in one unlearned model, stated for others."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from unlearn_bench.cli import options
from unlearn_bench.cli.app import Plugins, app, new_console
from unlearn_bench.core.errors import ModelError

if TYPE_CHECKING:
    from unlearn_bench.audit.prepare import Asked
    from unlearn_bench.audit.statement import Statement

Original = Annotated[Path, typer.Option(help="Weights before unlearning (.safetensors, .pth).")]
Unlearned = Annotated[Path, typer.Option(help="Weights after unlearning.")]
Model = Annotated[str, typer.Option(help="Architecture of both.")]
Dataset = Annotated[str, typer.Option(help="Data that the original was trained on.")]
Forget = Annotated[str, typer.Option(help="What was forgotten: indices:FILE, class:8 ...")]
Retrained = Annotated[
    list[Path] | None,
    typer.Option(
        help="Reference weights, trained without the forgotten data; repeatable.",
        show_default=False,
    ),
]
Controls = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=100,
        help="References to train here. Default: 3, or none with --retrained.",
        show_default=False,
    ),
]
RecipeFile = Annotated[
    Path | None,
    typer.Option(help="YAML file with the original's training recipe.", show_default=False),
]
Subject = Annotated[
    str, typer.Option(help="Name of the person whose data were forgotten, for the page.")
]
Requested = Annotated[str, typer.Option(help="Date of the request, for the page.")]

_CODES = {"not detected": 0, "exposed": 1}
_STYLES = {"not detected": "green", "exposed": "red"}


@app.command()
def audit(
    original: Original,
    unlearned: Unlearned,
    model: Model,
    dataset: Dataset,
    forget: Forget,
    retrained: Retrained = None,
    controls: Controls = None,
    recipe: RecipeFile = None,
    epochs: options.Epochs = None,
    subject: Subject = "",
    requested: Requested = "",
    out: options.Out = None,
    device: options.Device = "auto",
    data_root: options.DataRoot = None,
    plugin: Plugins = None,
    stem: options.Stem = None,
    image_size: options.ImageSize = None,
    mean: options.Mean = None,
    std: options.Std = None,
    download: options.Download = False,
) -> None:
    """State what attacks find in an unlearned model, how certain that is, and what was not tested.

    Writes audit.html, audit.md and audit.json. Exit codes: 0 not detected, 1 exposed, 3 no
    statement is possible.
    """
    flags = dict(locals())
    console = new_console()
    with console.status("loading torch and timm"):
        from unlearn_bench.audit import files

    out = flags["out"] or Path("audit")
    files.refuse_foreign(out)  # before the minutes that it takes
    said = _made(flags, console)
    page = files.write(said, out)
    word = said.headline.word
    line = Text(f"{word}: {said.headline.sentence}", _STYLES.get(word, "yellow"))
    console.print(line, soft_wrap=True)
    console.print(f"audit: {page}", markup=False, soft_wrap=True)
    if code := _CODES.get(word, 3):
        raise typer.Exit(code)


def _made(flags: Mapping[str, Any], console: Console) -> "Statement":
    """Return the statement that the command's flags ask for."""
    from unlearn_bench.audit.examine import examine
    from unlearn_bench.audit.prepare import plan_for, subject_of
    from unlearn_bench.cli.asked import prepare, setup_of
    from unlearn_bench.execution.devices import find_device
    from unlearn_bench.execution.failures import RunFailedError
    from unlearn_bench.execution.run import Runner
    from unlearn_bench.store.store import Store

    files = flags["plugin"] or ()
    prepare(None, None, "local", files)
    device = find_device(flags["device"], f"--device {flags['device']}")
    asked = _asked(flags)
    plan = plan_for(asked, device.type)
    setup = setup_of(device, flags["data_root"], flags["download"], files)

    def say(text: str) -> None:
        console.print(Text(text, "dim"), soft_wrap=True)

    runner = Runner(
        Store(setup.home, say),
        device,
        data_root=setup.data_root,
        download=setup.download,
        results=(flags["out"] or Path("audit")).absolute(),
    )
    try:
        with console.status("audit") as status:
            return examine(runner, subject_of(asked, plan, runner, status.update), status.update)
    except RunFailedError as failure:
        raise ModelError(f"the audit cannot be made: {failure}") from failure


def _asked(flags: Mapping[str, Any]) -> "Asked":
    from unlearn_bench.audit.prepare import TRAINED, Asked, read_recipe
    from unlearn_bench.suite.config import normalize

    usual = 0 if flags["retrained"] else TRAINED
    constants = normalize(flags["mean"], flags["std"])
    given = {"image_size": flags["image_size"], "normalize": constants}
    same = ("original", "unlearned", "dataset", "forget", "subject", "requested")
    return Asked(
        **{name: flags[name] for name in same},
        model={"name": flags["model"], "stem": flags["stem"] or "auto"},
        retrained=tuple(flags["retrained"] or ()),
        controls=usual if flags["controls"] is None else flags["controls"],
        recipe=read_recipe(flags["recipe"], flags["epochs"]),
        options={name: value for name, value in given.items() if value is not None},
    )
