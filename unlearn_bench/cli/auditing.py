"""The command ``audit``: what attacks find in one unlearned model, stated for others."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from unlearn_bench.cli import options
from unlearn_bench.cli.app import Plugins, app, new_console

Weights = Annotated[Path, typer.Option(help="Weights before unlearning (.safetensors, .pth).")]
After = Annotated[Path, typer.Option(help="And after it.")]


@app.command()
def audit(
    original: Weights,
    unlearned: After,
    model: Annotated[str, typer.Option(help="Architecture of both.")],
    dataset: Annotated[str, typer.Option(help="Data that the original was trained on.")],
    forget: Annotated[str, typer.Option(help="indices:FILE, class:8 ...: what was forgotten.")],
    retrained: Annotated[
        list[Path] | None,
        typer.Option(
            help="Weights trained without it, a reference; repeatable.", show_default=False
        ),
    ] = None,
    controls: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=100,
            help="References to train here. Default: 3, or none with --retrained.",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(help="YAML file of the original's recipe, to train by.", show_default=False),
    ] = None,
    epochs: options.Epochs = None,
    subject: Annotated[str, typer.Option(help="Whose data, for the page.")] = "",
    requested: Annotated[str, typer.Option(help="Date of the request, for the page.")] = "",
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
    """State what attacks find in an unlearned model, how sure that is, and what was not looked at.

    Writes audit.html, audit.md and audit.json. Exit codes: 0 not detected, 1 exposed, 3 no
    statement is possible.
    """
    from unlearn_bench.cli.asked import prepare, setup_of
    from unlearn_bench.execution.devices import find_device
    from unlearn_bench.suite.config import normalize

    console = new_console()
    with console.status("loading torch and timm"):
        from unlearn_bench.audit import files
        from unlearn_bench.audit.examine import examine
        from unlearn_bench.audit.prepare import TRAINED, Asked, plan_for, read_recipe, subject_of
        from unlearn_bench.execution.run import Runner
        from unlearn_bench.store.store import Store

    prepare(None, None, "local", plugin or ())
    found, place = find_device(device, f"--device {device}"), out or Path("audit")
    given = {"image_size": image_size, "normalize": normalize(mean, std)}
    asked = Asked(
        original,
        unlearned,
        {"name": model, "stem": stem or "auto"},
        dataset,
        forget,
        tuple(retrained or ()),
        (0 if retrained else TRAINED) if controls is None else controls,
        read_recipe(recipe, epochs),
        {name: value for name, value in given.items() if value is not None},
        subject,
        requested,
    )
    plan = plan_for(asked, found.type)
    setup = replace(setup_of(found, data_root, download, plugin or ()), results=place.absolute())

    def say(text: str) -> None:
        console.print(Text(text, "dim"), soft_wrap=True)

    runner = Runner(
        Store(setup.home, say), found, data_root=setup.data_root, download=download, results=place
    )
    with console.status("audit") as status:
        said = examine(runner, subject_of(asked, plan, runner, status.update), status.update)
    page = files.write(said, place)
    style = {"exposed": "red", "not detected": "green"}.get(said.headline.word, "yellow")
    console.print(Text(f"{said.headline.word}: {said.headline.sentence}", style), soft_wrap=True)
    console.print(f"audit: {page}", markup=False, soft_wrap=True)
    code = {"not detected": 0, "exposed": 1}.get(said.headline.word, 3)
    if code:
        raise typer.Exit(code)
