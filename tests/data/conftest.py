"""Small made-up datasets in the layouts in which real ones lie on disk."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

REAL_DATA = Path(__file__).parents[2] / ".." / "shared" / "data"


@pytest.fixture
def real_data() -> Path:
    if not REAL_DATA.is_dir():
        pytest.skip("real MNIST and CIFAR-10 are not at ../shared/data")
    return REAL_DATA


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _encode(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """Encode an array [H, W] or [H, W, 3] as PNG or JPEG."""
    return _encode


@pytest.fixture
def write_parquet() -> Callable[..., None]:
    """Write images and labels as the Hugging Face hub has them."""

    def write(
        path: Path,
        images: Sequence[bytes | None],
        labels: Sequence[object],
        *,
        names: Sequence[str] | None = None,
        columns: tuple[str, str] = ("image", "label"),
        plain: bool = False,
        row_group_size: int = 3,
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        cells = (
            images if plain else [{"bytes": b, "path": f"{i}.png"} for i, b in enumerate(images)]
        )
        kind = pa.binary() if plain else pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = pa.table({columns[0]: pa.array(cells, kind), columns[1]: pa.array(labels)})
        if names is not None:
            features = {columns[1]: {"names": list(names), "_type": "ClassLabel"}}
            metadata = {"huggingface": json.dumps({"info": {"features": features}})}
            table = table.replace_schema_metadata(metadata)
        pq.write_table(table, path, row_group_size=row_group_size)

    return write
