"""What a report says of tuning: default against chosen setting, the search, what mattered."""

from collections.abc import Mapping, Sequence

from unlearn_bench.report.text import NONE, TextTable
from unlearn_bench.suite.tuned import Budget, NoiseCheck, Tuned, TunedMethod, TunedSetting

READING = (
    "Gap to the surrogates' retraining in points, the mean over surrogates and tuning seeds; a "
    "surrogate is another forget set of the same kind, drawn from the retained data. Fresh: tuned "
    "minus default on a tuning seed that chose nothing, with its 95 % interval over surrogates; "
    "below zero tuning helped. Tuning is the time of all trials, in times of one retraining."
)
COLUMNS = ("Method", "Default", "Chosen", "Trial", "Fresh", "Tuning", "What mattered")
REQUEST = "One request"
# Parameters that are named of those that mattered, and the share below which none is.
NAMED, LEAST = 3, 0.05


def tables(tuned: Tuned) -> tuple[TextTable, ...]:
    """Return one table per dataset, model and scenario, its methods from best to worst."""
    return tuple(table(tuned, setting) for setting in tuned.settings)


def table(
    tuned: Tuned, setting: TunedSetting, requests: Mapping[str, float] | None = None
) -> TextTable:
    """Return default against chosen setting for every method that was tuned in one setting.

    Args:
        tuned: For its budget.
        setting: A dataset, model and scenario.
        requests: What one request costs by each method, in times of one retraining, where the
            settings were run.
    """
    order = sorted(setting.methods.items(), key=lambda m: (m[1].gap is None, m[1].gap or 0, m[0]))
    return TextTable(
        f"Tuning: {setting.name}",
        finding(setting.methods),
        (*COLUMNS[:5], REQUEST, *COLUMNS[5:]) if requests else COLUMNS,
        tuple(_row(name, method, requests) for name, method in order),
        notes=(f"Budget: {tuned.budget}.", READING, *_remarks(setting.methods, tuned.budget)),
    )


def finding(methods: Mapping[str, TunedMethod]) -> str:
    """Say in one sentence for how many methods tuning helped, as far as a fresh seed tells."""
    changed = {name: m.check for name, m in methods.items() if m.check is not None}
    better = [n for n, c in changed.items() if c.difference is not None and c.difference < 0]
    kept = len(methods) - len(changed)
    sentence = (
        f"Tuning came nearer to retraining than the default for {len(better)} of {len(changed)} "
        f"methods on a fresh tuning seed"
    )
    return f"{sentence}; {kept} kept the default" if kept else sentence


def _row(name: str, method: TunedMethod, requests: Mapping[str, float] | None) -> tuple[str, ...]:
    default = method.history[0] if method.history else None
    return (
        name,
        NONE if default is None else f"{default:.1f}",
        _chosen(method),
        f"{method.chosen} of {method.trials}",
        NONE if method.gap is None else fresh(method.check),
        *((f"{requests[name]:.2g}×" if name in requests else NONE,) if requests else ()),
        f"{method.retrainings:.1f}×",
        mattered(method),
    )


def _chosen(method: TunedMethod) -> str:
    if method.gap is None:
        return "default (all failed)"
    return f"{method.gap:.1f}" + (f" ± {method.error:.1f}" if method.error else "")


def fresh(check: NoiseCheck | None) -> str:
    """Write tuned minus default where neither was looked at before."""
    if check is None:
        return "default kept"
    if check.difference is None:
        return "failed" if check.tuned is None else "default failed"
    sign = "+" if check.difference > 0 else "−" if check.difference < 0 else ""
    text = f"{sign}{abs(check.difference):.1f}"
    if check.low is None or check.high is None:
        return text
    return f"{text} ± {(check.high - check.low) / 2:.1f}"


def mattered(method: TunedMethod) -> str:
    """Name the parameters that explain most of the gap's variance."""
    shares = sorted(method.mattered.items(), key=lambda found: -found[1])
    named = [f"{name} {share:.0%}" for name, share in shares[:NAMED] if share >= LEAST]
    return ", ".join(named) or NONE


def best_so_far(history: Sequence[float | None]) -> list[float | None]:
    """Return after each trial the least gap seen; None until one succeeded."""
    best: float | None = None
    found = []
    for gap in history:
        best = gap if best is None else best if gap is None else min(best, gap)
        found.append(best)
    return found


def _remarks(methods: Mapping[str, TunedMethod], budget: Budget) -> list[str]:
    """Say where tuning did not help, what failed, and which searches ended early."""
    remarks = []
    worse = [
        name
        for name, m in methods.items()
        if m.check and m.check.difference is not None and m.check.difference >= 0
    ]
    if worse:
        remarks.append(f"Tuning did not help on the fresh seed: {', '.join(worse)}.")
    unsure = [
        name
        for name, m in methods.items()
        if m.check
        and m.check.difference is not None
        and m.check.difference < 0
        and (m.check.high is None or m.check.high >= 0)
    ]
    if unsure:
        remarks.append(f"Better, but within noise: {', '.join(unsure)}.")
    for name, method in methods.items():
        if method.gap is None:
            why = next(iter(method.failures.values()), method.ended)
            remarks.append(f"{name}: no trial succeeded, and its default is kept: {why}.")
    by_end: dict[str, list[str]] = {}
    for name, method in methods.items():
        if method.trials < budget.trials and method.gap is not None:
            by_end.setdefault(method.ended, []).append(f"{name} ({method.trials})")
    remarks += [f"Ended by {why}: {', '.join(names)}." for why, names in by_end.items()]
    return remarks
