"""The CSV of a committed report comes back byte for byte from the Parquet file beside it."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from unlearn_bench.core.errors import OutputError

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "restore_records.py"


@pytest.mark.usefixtures("no_figures")
def test_records_are_restored_to_the_byte(folder: Any, realistic: Any, run: Any) -> None:
    from unlearn_bench.report import write_report

    place = folder([*realistic(), run("=1+1", error="a, b\nc")])
    write_report(place)
    before = (place / "records.csv").read_bytes()
    page = (place / "report.html").read_bytes()
    (place / "records.csv").unlink()
    with pytest.raises(OutputError, match="no records.csv.*restore_records.py"):
        write_report(place)
    assert (place / "report.html").read_bytes() == page, "nothing is overwritten"
    spec = importlib.util.spec_from_file_location("restore_records", SCRIPT)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.restore(place)
    assert (place / "records.csv").read_bytes() == before
