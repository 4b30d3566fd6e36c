"""Sizes and times are read and written as people do."""

import pytest

from unlearn_bench.core.errors import ConfigError
from unlearn_bench.core.quantities import parse_age, parse_size, size_text, time_text


@pytest.mark.parametrize(
    ("text", "size"),
    [("10GB", 10**10), ("1.5 kB", 1500), ("2GiB", 2**31), ("0", 0), ("7 b", 7), ("1TB", 10**12)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text, "--max-size") == size


@pytest.mark.parametrize(("text", "age"), [("30d", 30 * 86400), ("12h", 43200), ("0.5 w", 302400)])
def test_ages_are_read(text: str, age: float) -> None:
    assert parse_age(text, "--older-than") == age


@pytest.mark.parametrize("text", ["10", "GB", "-1GB", "1 XB", "1e9B", "", "nan GB", "ten GB"])
def test_a_size_without_number_or_unit_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=f"--max-size {text}: write a number .*such as 10GB"):
        parse_size(text, "--max-size")


def test_an_age_of_no_known_unit_is_refused_with_an_example() -> None:
    with pytest.raises(ConfigError, match="--older-than 3y: .*such as 30d"):
        parse_age("3y", "--older-than")


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2e9, "2.0 GB")]
)
def test_sizes_are_written(size: float, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (59.4, "59 s"),
        (61, "1 min"),
        (3599, "1 h"),
        (4800, "1 h 20 min"),
        (86400, "1 d"),
        (90000, "1 d 1 h"),
    ],
)
def test_times_are_written(seconds: float, text: str) -> None:
    assert time_text(seconds) == text
