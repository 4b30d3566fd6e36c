"""Examples of the training data that the scenario changed, as the models saw them."""

from collections import defaultdict
from typing import TYPE_CHECKING

from unlearn_bench.analysis.table import Section
from unlearn_bench.report.figures.canvas import (
    GRID,
    Figure,
    Look,
    bare_canvas,
    drawn_name,
    finish,
    settle,
)
from unlearn_bench.results.examples import Example

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_COLUMNS = 4
# Grey or colour values that are told apart: a picture is drawn as one shape per colour, for a page
# without embedded images, and fewer colours are fewer shapes.
_LEVELS = {1: 16, 3: 8}  # by number of channels


def draw(section: Section, look: Look) -> Figure | None:
    """Draw each with its class in the files and the class that it was trained as."""
    import pandas as pd

    examples = section.facts.examples.get((section.dataset, section.scenario), ())
    if not examples:
        return None
    columns = min(_COLUMNS, len(examples))
    lines = -(-len(examples) // columns)
    canvas = bare_canvas((max(4.0, 1.45 * columns), 0.6 + 1.6 * lines))
    grid = canvas.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid[len(examples) :]:
        axes.set_visible(False)
    for axes, example in zip(grid, examples, strict=False):
        _picture(axes, example)
        axes.set_title(
            f"{drawn_name(example.before)} → {drawn_name(example.after)}", fontsize=8.5, pad=4
        )
    title = "What is to be forgotten: training examples as the scenario changed them"
    words = (
        f"{len(examples)} examples of F under the first seed, with their class in the files and "
        "the class that the original was trained on. Test examples changed in the same way are TF; "
        "the files themselves stay as they are."
    )
    settle(canvas, title)
    data = pd.DataFrame(
        [(e.before, e.after, "x".join(map(str, e.shape))) for e in examples],
        columns=["before", "after", "shape"],
    )
    return finish(canvas, title, words, data)


def _picture(axes: "Axes", example: Example) -> None:
    """Draw the pixels as one shape of rectangles per colour, neighbours in a row joined."""
    import numpy as np
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    def box(y: int, start: int, end: int) -> Path:
        corners = [(start, y), (end, y), (end, y + 1), (start, y + 1), (start, y)]
        return Path(corners, closed=True)

    channels, height, width = example.shape
    values = np.frombuffer(example.pixels, dtype=np.uint8).reshape(channels, height, width)
    levels = _LEVELS[channels]
    coarse = values.astype(int) * levels // 256 * 255 // (levels - 1)
    colours = np.broadcast_to(coarse, (3, height, width)).transpose(1, 2, 0)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=True, color=GRID)
    for colour, boxes in _runs(colours).items():
        shape = Path.make_compound_path(*(box(*run) for run in boxes))
        face = [value / 255 for value in colour]
        # Smoothed edges would show as a grid of seams.
        axes.add_patch(PathPatch(shape, facecolor=face, linewidth=0, antialiased=False))


def _runs(
    colours: "NDArray[np.int64]",
) -> dict[tuple[int, ...], list[tuple[int, int, int]]]:
    """Return by colour the runs of equal pixels: row, first column, column behind the last."""
    found: dict[tuple[int, ...], list[tuple[int, int, int]]] = defaultdict(list)
    for y, row in enumerate(colours.tolist()):
        start = 0
        for x in range(1, len(row) + 1):
            if x == len(row) or row[x] != row[start]:
                found[tuple(row[start])].append((y, start, x))
                start = x
    return found
