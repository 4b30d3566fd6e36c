"""What `unlearn-bench run` can be told: its arguments and options, in the order of its help."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from unlearn_bench.cli.app import folder_or_file

Suite = Annotated[
    str | None,
    typer.Argument(help="A suite's name, or a YAML file. Default: digits.", show_default=False),
]
Methods = Annotated[
    str | None, typer.Option(help="Comma-separated names, or `all`.", show_default=False)
]
Model = Annotated[
    str | None,
    typer.Option(
        help="Any timm architecture, torchvision:NAME, hf-hub:OWNER/NAME, or a plug-in's.",
        show_default=False,
    ),
]
Dataset = Annotated[
    str | None,
    typer.Option(help="A named dataset, parquet:PATH or imagefolder:PATH.", show_default=False),
]
DataRoot = Annotated[
    Path | None, typer.Option(help="Folder of the datasets. Default: data.", show_default=False)
]
Forget = Annotated[
    list[str] | None,
    typer.Option(
        help="class:8, random:0.1 or any other of `list scenarios`; repeatable.",
        show_default=False,
    ),
]
Seeds = Annotated[
    str | None,
    typer.Option(
        help="How many seeds, each with its own original; or originals x unlearnings from each, "
        "such as 5x3.",
        show_default=False,
        metavar="NUMBER",
    ),
]
References = Annotated[
    int | None,
    typer.Option(
        min=2, help="Retrained models per seed, for sharper verdicts.", show_default=False
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(min=1, help="Epochs of the original's training.", show_default=False),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Results folder. Default: runs/SUITE.",
        show_default=False,
        parser=folder_or_file,
        metavar="PATH",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="METHOD.PARAMETER=VALUE; repeatable.",
        show_default=False,
        metavar="SETTING",
    ),
]
Original = Annotated[
    Path | None,
    typer.Option(
        help="Start from these weights (.safetensors, .pth) instead of training.",
        show_default=False,
    ),
]
Unlearned = Annotated[
    list[Path] | None,
    typer.Option(
        help="Judge this model (.safetensors, .pth), unlearned elsewhere; with --original, "
        "from which it came; repeatable. Without --methods no method is run.",
        show_default=False,
    ),
]
Stem = Annotated[
    str | None,
    typer.Option(help="auto, small or standard first layers.", show_default=False),
]
ImageSize = Annotated[
    int | None, typer.Option(min=1, help="Resize images to this side.", show_default=False)
]
LabelColumn = Annotated[
    str | None,
    typer.Option(
        help="Column of parquet:PATH to learn, such as coarse_label.",
        show_default=False,
        metavar="COLUMN",
    ),
]
GroupColumn = Annotated[
    str | None,
    typer.Option(
        help="Column with the fine classes for subclass:NAME. Default: fine_label.",
        show_default=False,
        metavar="COLUMN",
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        help="Normalise inputs by this mean, one value or one per channel; with --std.",
        show_default=False,
        metavar="NUMBERS",
    ),
]
Std = Annotated[
    str | None,
    typer.Option(help="And by this standard deviation.", show_default=False, metavar="NUMBERS"),
]
Pretrained = Annotated[
    bool, typer.Option("--pretrained", help="Begin with timm's pre-trained weights.")
]
Download = Annotated[bool, typer.Option("--download", help="Download missing datasets.")]
Workers = Annotated[
    str,
    typer.Option(
        help="Runs at a time, each in a process of its own: auto (what cores and memory hold, "
        "one per GPU) or a number (several on a GPU as far as its memory holds them)."
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Only say what would be done, what is there, how long."),
]
Timeout = Annotated[
    str | None,
    typer.Option(
        help="Longest time for one run, such as 90s, 10m or 2h, the training of what it needs "
        "first included; a run that takes longer fails, the others go on.",
        show_default=False,
    ),
]
Backend = Annotated[
    Literal["local", "ray"], typer.Option(help="Where runs go on: this machine or a cluster.")
]
Address = Annotated[
    str | None,
    typer.Option(help="Of the Ray cluster: auto or ray://HOST:PORT.", show_default="auto"),
]
Track = Annotated[
    Literal["tensorboard", "mlflow", "wandb"] | None,
    typer.Option(help="Send every run's metrics to this tracker as well.", show_default=False),
]
Params = Annotated[
    Path | None,
    typer.Option(
        help="Settings from a tuned.yaml of `unlearn-bench tune`, instead of the suite's; `none` "
        "for published defaults where the suite has tuned ones.",
        show_default=False,
    ),
]
Tune = Annotated[
    bool,
    typer.Option(
        "--tune",
        help="Tune every method first, into OUT/tuning, with the default budget of `tune`.",
    ),
]
AllowStale = Annotated[
    bool,
    typer.Option(
        "--allow-stale",
        help="Take settings that were tuned for other data, another model or another version.",
    ),
]
Trials = Annotated[
    int, typer.Option(min=1, max=10_000, help="Settings to try per method, the default included.")
]
BudgetTimes = Annotated[
    float,
    typer.Option(
        "--budget",
        help="Longest time of a method's trials together, in times of one retraining.",
    ),
]
Surrogates = Annotated[
    int, typer.Option(min=1, max=100, help="Forget sets of the same kind to tune on.")
]
TuningSeeds = Annotated[
    int, typer.Option(min=1, max=1000, help="Seeds per trial, none of them of a report.")
]
Sampler = Annotated[
    Literal["tpe", "random"],
    typer.Option(help="What chooses settings after a random first half."),
]
Isolate = Annotated[
    bool,
    typer.Option(
        "--isolate",
        help="Call every method in a process of its own that can reach neither the store nor the "
        "data; on Linux by Landlock.",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
