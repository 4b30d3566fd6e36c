"""SECURITY.md gives the limits that are in force."""

import re
from pathlib import Path

import pytest

from unlearn_bench.core import columns, reading
from unlearn_bench.data import decoding, encoded, folder, parquet_files, torchvision_sources
from unlearn_bench.execution import heartbeat
from unlearn_bench.report import archive, limits
from unlearn_bench.results import checks, curves, records
from unlearn_bench.store import layout
from unlearn_bench.suite import (
    arguments,
    cells,
    forget,
    given,
    indices,
    published,
    seeds,
    spec,
    tuned,
    yaml_source,
)
from unlearn_bench.training import weights

TEXT = (Path(__file__).parents[1] / "SECURITY.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("what", "limits"),
    [
        (
            "a suite's file",
            [yaml_source.SUITE_BYTES, yaml_source.VALUES, yaml_source.ALIASES, yaml_source.DEPTH],
        ),
        ("seeds, image size, threads", [seeds.MAX_SEEDS, spec.MAX_IMAGE_SIZE, spec.MAX_THREADS]),
        ("runs of a plan", [cells.MAX_RUNS]),
        ("characters of a name or", [spec.MAX_NAME]),
        ("a number among", [arguments.MAX_ARGUMENT]),
        ("a file of indices", [indices.INDEX_BYTES, forget.MAX_INDICES]),
        ("a file of published figures", [published.PUBLISHED_BYTES]),
        ("a file of tuned settings", [tuned.TUNED_BYTES]),
        ("a run's `progress.json`", [heartbeat.PROGRESS_BYTES]),
        ("a file of MNIST's kind", [torchvision_sources.IDX_BYTES]),
        ("a JSON file", [reading.JSON_BYTES, reading.JSON_DEPTH, reading.WHOLE]),
        ("a file of weights", [given.WEIGHTS_BYTES, reading.HEADER_BYTES]),
        ("numbers in weights", [weights.MORE_NUMBERS]),
        ("an image |", [encoded.IMAGE_BYTES, decoding.MAX_PIXELS]),
        ("images of a folder", [folder.MAX_FILES]),
        (
            "a Parquet file",
            [parquet_files.MAX_ROWS, parquet_files.MAX_GROUP_ROWS, parquet_files.GROUP_BYTES],
        ),
        ("a specification in the store", [layout.SPEC_BYTES]),
        ("`records.csv`", [records.RECORDS_BYTES, records.MAX_ROWS, records.MAX_LINE]),
        (
            "`records.parquet`",
            [columns.TABLE_BYTES, columns.UNPACKED_BYTES, records.MAX_ROWS],
        ),
        ("characters of a name in", [checks.MAX_NAME_LENGTH, checks.MAX_TEXT_LENGTH]),
        ("`curves.", [columns.TABLE_BYTES, columns.UNPACKED_BYTES, curves.MAX_POINTS]),
        ("a bundle", [archive.MAX_BYTES, archive.MAX_FILES]),
        (
            "what a report draws",
            [
                limits.FEW_SETTINGS,
                limits.MOST_SETTINGS,
                limits.MOST_LINES,
                limits.MOST_METHODS,
                limits.MOST_SEEDS,
            ],
        ),
    ],
)
def test_the_table_gives_the_limits_in_force(what: str, limits: list[int]) -> None:
    line = next(line for line in TEXT.splitlines() if line.startswith(f"| {what}"))
    numbers = re.findall(r"\d[\d,]*", line.replace(", ", " ").replace("; ", " "))
    assert [int(number.replace(",", "")) for number in numbers] == limits


def test_the_formats_are_those_that_are_decoded() -> None:
    assert f"| image formats | {', '.join(decoding.FORMATS)} |" in TEXT
