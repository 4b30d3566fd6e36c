"""What `unlearn-bench run` accepts: its arguments and options, in the order of its help."""

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
Seed = Annotated[
    int | None,
    typer.Option(
        help="Run only this seed, counted from 0; for array jobs that share --out.",
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
        help="Evaluate a model unlearned elsewhere (.safetensors, .pth); needs --original; "
        "repeatable. Without --methods, no method is run.",
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
        help="Column of parquet:PATH with the labels, such as coarse_label.",
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
ImageColumn = Annotated[
    str | None,
    typer.Option(
        help="Column of parquet:PATH with the images. Default: image or img.",
        show_default=False,
        metavar="COLUMN",
    ),
]
SplitColumn = Annotated[
    str | None,
    typer.Option(
        help="Column of parquet:PATH that marks each row as train or test.",
        show_default=False,
        metavar="COLUMN",
    ),
]
SurrogateData = Annotated[
    str | None,
    typer.Option(
        help="Another dataset whose images, without labels, methods such as scar read in place of "
        "images that they make themselves.",
        show_default=False,
        metavar="DATASET",
    ),
]
SkipCorrupt = Annotated[
    bool,
    typer.Option("--skip-corrupt", help="Leave out images that cannot be decoded, and list them."),
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
    typer.Option(
        help="Normalise inputs by this standard deviation; with --mean.",
        show_default=False,
        metavar="NUMBERS",
    ),
]
Pretrained = Annotated[
    bool, typer.Option("--pretrained", help="Start from timm's pre-trained weights.")
]
Download = Annotated[bool, typer.Option("--download", help="Download missing datasets.")]
Workers = Annotated[
    str,
    typer.Option(
        help="Parallel runs, each in its own process: auto (as many as cores and memory allow, "
        "one per GPU) or a number (several share a GPU as far as its memory allows)."
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Only print what would be done, what is stored, and how long it takes."
    ),
]
Timeout = Annotated[
    str | None,
    typer.Option(
        help="Time limit of one run, such as 90s, 10m or 2h, including the training that it "
        "depends on; a run that takes longer fails, and the others continue.",
        show_default=False,
    ),
]
Backend = Annotated[
    Literal["local", "ray"],
    typer.Option(help="Where runs are executed: this machine or a Ray cluster."),
]
Address = Annotated[
    str | None,
    typer.Option(help="Address of the Ray cluster: auto or ray://HOST:PORT.", show_default="auto"),
]
Track = Annotated[
    Literal["tensorboard", "mlflow", "wandb"] | None,
    typer.Option(help="Send every run's metrics to this tracker as well.", show_default=False),
]
Params = Annotated[
    Path | None,
    typer.Option(
        help="Use settings from a tuned.yaml of `unlearn-bench tune` instead of the suite's; "
        "`none` uses published defaults.",
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
        help="Accept settings tuned for other data, another model or another version.",
    ),
]
Trials = Annotated[
    int, typer.Option(min=1, max=10_000, help="Settings to try per method, including the default.")
]
BudgetTimes = Annotated[
    float,
    typer.Option(
        "--budget",
        help="Time limit for all trials of a method, in multiples of one retraining.",
    ),
]
Surrogates = Annotated[
    int, typer.Option(min=1, max=100, help="Number of surrogate forget sets to tune on.")
]
TuningSeeds = Annotated[
    int, typer.Option(min=1, max=1000, help="Seeds per trial; no report uses them.")
]
Sampler = Annotated[
    Literal["tpe", "random"],
    typer.Option(help="Sampler for the settings after a random first half."),
]
Isolate = Annotated[
    bool,
    typer.Option(
        "--isolate",
        help="Run every method in its own process without access to the store or the data; uses "
        "Landlock on Linux.",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
