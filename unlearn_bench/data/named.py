"""Training examples that a scenario names one by one: by index, or by the names of their files."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from unlearn_bench.core.errors import DataError, visible
from unlearn_bench.data.attributes import Attributes
from unlearn_bench.suite.forget import Forget


def named_places(
    forget: Forget, count: int, numbers: Tensor | None, attributes: Attributes
) -> Tensor:
    """Return where the examples stand that a scenario, or any request of it, names.

    Args:
        forget: The scenario.
        count: Number of training examples.
        numbers: By which indices name them, ascending, [count]; None where that is their place.
        attributes: Know the names of their files.

    Returns:
        int64 [M] into the training part; empty where it names nobody one by one.

    Raises:
        DataError: If there is no such example.
    """
    for request in forget.requests:
        if request.of is not None:
            _check_mask(request.of, count, numbers)
    found = [torch.empty(0, dtype=torch.int64)]
    if forget.named:
        found.append(_by_index(forget.named, count, numbers))
    if forget.named_files:
        found.append(_by_file(forget.named_files, attributes))
    return torch.cat(found)


def _check_mask(length: int, count: int, numbers: Tensor | None) -> None:
    # Where a test part was held out, the user counts its images as well: they lie in between.
    least, most = (count, count) if numbers is None else (int(numbers.max()) + 1, 2 * count + 1)
    if least <= length <= most:
        return
    if numbers is None:
        raise DataError(
            f"the forget mask has {length} zeros and ones, but the training part has {count} "
            "examples; give one for each, in their order"
        )
    raise DataError(
        f"the forget mask has {length} zeros and ones; give one for every image in their order, "
        f"also for those held out as the test part: the last of training alone is number {least}"
    )


def _by_index(named: tuple[int, ...], count: int, numbers: Tensor | None) -> Tensor:
    asked = torch.tensor(named)
    if numbers is None:
        if int(asked.max()) >= count:
            raise DataError(
                f"forget index {int(asked.max())} does not exist: the training part has "
                f"{count} examples, 0 to {count - 1}"
            )
        return asked
    absent = asked[~torch.isin(asked, numbers)]
    if len(absent):
        raise DataError(
            f"forget index {int(absent[0])} is not in the training part, whose {count} examples "
            f"are named up to {int(numbers[-1])}: the others are in the test part, held out as a "
            "fifth of each class where a dataset has none; name others, or add a test part"
        )
    return torch.searchsorted(numbers, asked)


def _by_file(named: tuple[str, ...], attributes: Attributes) -> Tensor:
    """Find every file by its path below the dataset's folder, or by the end of that path."""
    known = attributes.files() if attributes.files else ()
    if not any(known):
        raise DataError(
            f"{named[0]!r}: the examples of this dataset come without file names; name "
            "them by index, counted from 0"
        )
    by_name: defaultdict[str, list[int]] = defaultdict(list)
    for place, path in enumerate(known):
        by_name[path.rpartition("/")[2]].append(place)
    return torch.tensor([_place(name, known, by_name) for name in named])


def _place(name: str, known: Sequence[str], by_name: Mapping[str, list[int]]) -> int:
    given = name.replace("\\", "/").removeprefix("./")
    there = by_name.get(given.rpartition("/")[2], [])
    same = [p for p in there if known[p] == given] or [
        p for p in there if f"/{known[p]}".endswith(f"/{given}") or given.endswith(f"/{known[p]}")
    ]
    if len(same) == 1:
        return same[0]
    if not same:
        raise DataError(
            f"no training example comes from a file {name!r}; write its path below the "
            f"dataset's folder, such as {visible(known[0])}"
        )
    raise DataError(
        f"{len(same)} training examples come from files {name!r}, such as "
        f"{visible(known[same[0]])} and {visible(known[same[1]])}; write more of the path"
    )
