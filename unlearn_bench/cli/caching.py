"""Commands ``cache ls``, ``gc`` and ``verify``: look into the store of trained models."""

import json
import time
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from unlearn_bench.cli.app import app, new_console, say

cache_app = typer.Typer(
    help="Inspect and clean up the store of trained models.", no_args_is_help=True
)
app.add_typer(cache_app, name="cache")


@cache_app.command("ls")
def cache_ls(
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """List what the store holds, by kind, the least recently used first."""
    from unlearn_bench.core.quantities import size_text, time_text
    from unlearn_bench.store import cache
    from unlearn_bench.store.layout import default_home

    home, now = default_home(), time.time()
    listed = cache.entries(home)
    waste = cache.rubbish(home)
    if as_json:
        print(
            json.dumps(
                {
                    "home": str(home),
                    "bytes": sum(entry.size for entry in listed),
                    "rubbish_bytes": sum(left.size for left in waste),
                    "artifacts": [
                        {
                            "kind": entry.kind,
                            "key": entry.folder.name,
                            "what": entry.what,
                            "bytes": entry.size,
                            "made": entry.made,
                            "used": entry.used,
                            "schema": entry.schema,
                            "damage": entry.damage,
                        }
                        for entry in listed
                    ],
                },
                indent=1,
            )
        )
        return
    console = new_console()
    table = Table(box=None, pad_edge=False)
    for heading in ("kind", "of", "size", "made", "last used"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "size" else "left")
    for entry in listed:
        ages = (f"{time_text(now - moment)} ago" for moment in (entry.made, entry.used))
        what = f"damaged: {entry.damage}" if entry.damage else entry.what
        table.add_row(entry.kind, escape(what), size_text(entry.size), *ages)
    if listed:
        console.print(table)
    totals: dict[str, list[int]] = {}
    for entry in listed:
        totals.setdefault(entry.kind, []).append(entry.size)
    for kind, sizes in totals.items():
        console.print(f"{kind}: {len(sizes)}, {size_text(sum(sizes))}")
    everything = sum(entry.size for entry in listed)
    console.print(
        f"{len(listed)} artifacts, {size_text(everything)} in {home}", markup=False, soft_wrap=True
    )
    if waste:
        size = size_text(sum(left.size for left in waste))
        console.print(f"{size} left by killed processes or damaged: `unlearn-bench cache gc`")


@cache_app.command("gc")
def cache_gc(
    max_size: Annotated[
        str | None,
        typer.Option(
            help="Keep at most this much, such as 10GB; the least recently used models go first.",
            show_default=False,
        ),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(help="Remove models not used for this long, such as 30d.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be removed.")
    ] = False,
) -> None:
    """Remove leftovers, damaged and outdated artifacts, and models over the limits."""
    from unlearn_bench.core.quantities import parse_age, parse_size, size_text
    from unlearn_bench.store import cache
    from unlearn_bench.store.layout import default_home

    limit = None if max_size is None else parse_size(max_size, "--max-size")
    age = None if older_than is None else parse_age(older_than, "--older-than")
    home = default_home()
    removed, kept = cache.collect(home, max_size=limit, older_than=age, dry_run=dry_run)
    for gone in removed:
        say(
            f"{gone.path.relative_to(home)}  {size_text(gone.size)}  {gone.why}"
            f"{f'  {gone.what}' if gone.what else ''}"
        )
    freed, stays = sum(gone.size for gone in removed), sum(entry.size for entry in kept)
    verbs = ("would remove", "would keep") if dry_run else ("removed", "kept")
    say(
        f"{verbs[0]} {len(removed)} ({size_text(freed)}), "
        f"{verbs[1]} {len(kept)} ({size_text(stays)}) in {home}"
    )
    if limit is not None and stays > limit:
        say(f"still over {max_size}: the rest is in use by a running process")


@cache_app.command("verify")
def cache_verify() -> None:
    """Check every byte of the store; set damaged artifacts aside, to be built again.

    This includes references and controls made by code other than the built-in.
    """
    from unlearn_bench.plugins import registry
    from unlearn_bench.store import cache
    from unlearn_bench.store.layout import default_home

    home, whole, damaged = default_home(), 0, 0
    for folder, damage in cache.verify(home, registry.built_in_codes):
        if damage is None:
            whole += 1
            continue
        damaged += 1
        kept = f"put aside as {damage.place}" if damage.place else "it could not be moved"
        say(f"damaged: {folder.relative_to(home)}: {damage.reason}; {kept}")
    say(f"{whole} whole, {damaged} damaged in {home}")
    if damaged:
        raise typer.Exit(1)
