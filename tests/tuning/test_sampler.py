"""What is tried next follows from what was tried; a parameter without effect harms nothing."""

import builtins
from pathlib import Path
from typing import Any

import pytest

from unlearn_bench.core.errors import ConfigError
from unlearn_bench.plugins.tunable import Choice, Range
from unlearn_bench.tuning import sampler

SPACE = (
    Range("lr", 1e-4, 1e-1, log=True, integer=False),
    Range("epochs", 1, 20, log=True, integer=True),
    Choice("mode", ("train", "eval", None)),
)


def value(params: Any) -> float:
    """Least at a learning rate of 0.01, whatever else."""
    return abs(float(params["lr"]) - 0.01)


def search(trials: int, kind: str = "tpe", seed: int = 3) -> list[tuple[dict[str, Any], float]]:
    tried: list[tuple[dict[str, Any], float]] = []
    while len(tried) < trials:
        found = sampler.propose(SPACE, tried, seed=seed, startup=4, kind=kind)
        assert found is not None
        tried.append((found, value(found)))
    return tried


@pytest.mark.parametrize("kind", ["tpe", "random"])
def test_the_same_seed_gives_the_same_settings_however_often_it_is_resumed(kind: str) -> None:
    whole = search(7, kind)
    for done in range(7):
        again = sampler.propose(SPACE, whole[:done], seed=3, startup=4, kind=kind)
        assert again == whole[done][0]
    assert [p for p, _ in search(3, kind, seed=4)] != [p for p, _ in whole[:3]]


def test_settings_lie_in_the_space_and_none_is_tried_twice() -> None:
    tried = [params for params, _ in search(10)]
    for params in tried:
        assert all(dimension.holds(params[dimension.name]) for dimension in SPACE)
        assert float(f"{params['lr']:.4g}") == params["lr"]
    assert len({repr(params) for params in tried}) == len(tried)


def test_a_small_space_ends_when_all_of_it_was_tried() -> None:
    space = (Choice("on", (False, True)),)
    tried: list[tuple[dict[str, Any], float]] = []
    while (found := sampler.propose(space, tried, seed=0, startup=2, kind="tpe")) is not None:
        tried.append((found, 1.0))
    assert sorted(params["on"] for params, _ in tried) == [False, True]
    assert sampler.propose((), [], seed=0, startup=2, kind="tpe") is None


def test_a_default_outside_of_the_space_is_no_obstacle() -> None:
    outside = [({"lr": 5.0, "epochs": 1, "mode": "train"}, 1.0)]
    assert sampler.propose(SPACE, outside, seed=0, startup=1, kind="tpe") is not None


def test_the_parameter_that_decides_mattered_most() -> None:
    shares = sampler.mattered(SPACE, search(12, "random"))
    assert max(shares, key=lambda name: shares[name]) == "lr"
    assert sum(shares.values()) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    "tried",
    [
        [],
        [({"lr": 0.01, "epochs": n, "mode": "train"}, 1.0) for n in range(1, 9)],  # no effect
        [({"lr": 0.01, "epochs": 3, "mode": "train"}, n) for n in range(8)],  # nothing varied
        [({"lr": 0.01, "epochs": n, "mode": "train"}, float(n == 1)) for n in range(1, 9)],
        [({"lr": 9.0, "epochs": n, "mode": "train"}, n) for n in range(8)],  # outside
    ],
)
def test_dead_parameters_do_not_break_the_analysis(tried: list[Any]) -> None:
    shares = sampler.mattered(SPACE, tried)
    assert all(0 <= share <= 1 for share in shares.values()) and "lr" not in shares


def test_the_journal_is_optunas_own(tmp_path: Path) -> None:
    optuna = sampler.require()
    tried = search(3)
    for _ in range(2):  # written again, it replaces the one before
        sampler.write_journal(tmp_path, {"digits ssd": (SPACE, tried)})
    assert [path.name for path in tmp_path.iterdir()] == [sampler.JOURNAL]
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / sampler.JOURNAL))
    study = optuna.load_study(
        study_name="digits ssd", storage=optuna.storages.JournalStorage(backend)
    )
    assert [trial.value for trial in study.trials] == [v for _, v in tried]


def test_without_optuna_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "optuna":
            raise ModuleNotFoundError("No module named 'optuna'", name="optuna")
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    sampler.require.cache_clear()
    with pytest.raises(ConfigError, match=r"pip install 'unlearn-bench\[tune\]'"):
        sampler.require()
