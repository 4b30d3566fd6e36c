"""Commands ``report``, ``site`` and ``verify``: pages, comparisons and bundles of what was run."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from unlearn_bench.cli.app import app, folder_or_file, new_console, print_table, say
from unlearn_bench.core.errors import ConfigError


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Results folder of a run.")],
    other: Annotated[
        Path | None,
        typer.Argument(
            help="A second results folder: compare it with the first instead of writing a report.",
            show_default=False,
        ),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Open the page, or print its path without a display.")
    ] = False,
    bundle: Annotated[
        bool, typer.Option("--bundle", help="Write an audit bundle for `unlearn-bench verify`.")
    ] = False,
    fail_if_worse: Annotated[
        bool,
        typer.Option("--fail-if-worse", help="Exit with 1 and the reasons if the second is worse."),
    ] = False,
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing",
            help="With --fail-if-worse: permit missing settings, methods, seeds and metrics.",
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The bundle's file (default: FOLDER/bundle.zip), or a folder for the comparison.",
            show_default=False,
            parser=folder_or_file,
            metavar="PATH",
        ),
    ] = None,
) -> None:
    """Rewrite the report of a results folder, or compare two folders."""
    _check_report_flags(
        other,
        show=show,
        bundle=bundle,
        fail_if_worse=fail_if_worse,
        allow_missing=allow_missing,
        out=out,
    )
    if other is not None:
        _compare(folder, other, fail_if_worse, allow_missing, out)
        return
    _write(folder, show=show, bundle=(out or folder / "bundle.zip") if bundle else None)


def _write(folder: Path, *, show: bool, bundle: Path | None) -> None:
    from unlearn_bench.report import summary, write_report
    from unlearn_bench.report.content import read_content

    content = read_content(folder)
    page = write_report(folder, content)
    console = new_console()
    if not show:
        for table in summary(folder, content):
            print_table(console, table)
        console.print(f"report: {page}", markup=False, soft_wrap=True)
    if bundle is not None:
        from unlearn_bench.report.bundle import write_bundle

        written = write_bundle(folder, bundle)
        console.print(
            f"bundle: {bundle} ({written.files} files, manifest SHA-256 {written.manifest})",
            markup=False,
            soft_wrap=True,
        )
    if show:
        _show(page)


def _check_report_flags(
    other: Path | None,
    *,
    show: bool,
    bundle: bool,
    fail_if_worse: bool,
    allow_missing: bool,
    out: Path | None,
) -> None:
    if other is not None and (show or bundle):
        raise ConfigError("--show and --bundle take one results folder, not a comparison")
    if other is None and fail_if_worse:
        raise ConfigError("--fail-if-worse compares two results folders: give a second one")
    if other is None and out is not None and not bundle:
        raise ConfigError("--out names the file of --bundle, or a folder for a comparison of two")
    if allow_missing and not fail_if_worse:
        raise ConfigError("--allow-missing needs --fail-if-worse: give both")


def _show(page: Path) -> None:
    """Open the page where somebody can see it; else, and for scripts, print where it is."""
    import webbrowser

    display = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    say(str(page.resolve()))
    if display:
        webbrowser.open(page.resolve().as_uri())


def _compare(
    first: Path, second: Path, fail_if_worse: bool, allow_missing: bool, out: Path | None
) -> None:
    from unlearn_bench.report.compare import compare, write_comparison

    found = compare(first, second, allow_missing=allow_missing)
    console = new_console()
    for table in found.tables:
        print_table(console, table)
    if out is not None:
        console.print(f"comparison: {write_comparison(found, out)}", markup=False, soft_wrap=True)
    for reason in found.worse:
        console.print(Text(f"worse: {reason}", style="red"), soft_wrap=True)
    if fail_if_worse and found.worse:
        raise typer.Exit(1)


@app.command()
def site(
    folders: Annotated[
        list[str],
        typer.Argument(
            help="Results folders of runs; NAME=DIR gives one another name on the site.",
            metavar="DIR...",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for the site: empty, or one that holds a site.",
            parser=folder_or_file,
            metavar="SITE",
        ),
    ],
) -> None:
    """Write one static site from many results folders: a page per task and per method.

    Pages link to the report.html of each folder, need no network and open from disk. Folders are
    named after their suite; where two have the same suite, after the folder.
    """
    from unlearn_bench.report.site import write_site

    written = write_site(folders, out)
    console = new_console()
    for folder in written.without_report:
        console.print(
            f"not linked: {folder} has no report.html; `unlearn-bench report {folder}` writes it",
            markup=False,
            soft_wrap=True,
        )
    console.print(
        f"site: {written.page} (tasks: {written.tasks}, methods: {written.methods})",
        markup=False,
        soft_wrap=True,
    )


@app.command()
def verify(
    bundle: Annotated[
        Path,
        typer.Argument(help="A bundle's zip file, or the folder unpacked; or an audit's folder."),
    ],
) -> None:
    """Check that a bundle is unchanged and that its tables follow from its runs.

    The tables are made again; pages and figures are not, `unlearn-bench report` draws them. For an
    audit, its pages must say what audit.json holds, and audit.json must have the hash it names.
    """
    from unlearn_bench.audit import files

    if files.is_audit(bundle):
        audit = files.verify(bundle)
        _refuse(audit.problems)
        new_console().print(
            f"verified: audit.json has the hash that it names, {audit.seal}, and the pages beside "
            "it say what it holds",
            markup=False,
            soft_wrap=True,
        )
        return
    from unlearn_bench.report.bundle import verify

    found = verify(bundle)
    _refuse(found.problems)
    new_console().print(
        f"verified: {found.files} files as listed; made again from {found.runs} runs: "
        f"{', '.join(found.tables)}; pages and figures are as listed, and not drawn again; "
        f"manifest SHA-256 {found.manifest}",
        markup=False,
        soft_wrap=True,
    )


def _refuse(problems: Sequence[str]) -> None:
    """End with exit code 1 if anything is not as it was written."""
    console = new_console()
    for problem in problems:
        console.print(Text(f"problem: {problem}", style="red"), soft_wrap=True)
    if problems:
        raise typer.Exit(1)
