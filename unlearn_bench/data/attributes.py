"""What is known of examples beside their class: a finer label, a source, a person.

An attribute is a column of texts, one per example. Columns are read when a scenario asks for one,
as most never do.
"""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from unlearn_bench.core.errors import DataError, suggestion

Values = Callable[[], Sequence[str]]
SHOWN = 10


@dataclass(frozen=True)
class Attributes:
    """The attributes of a dataset's two parts.

    Attributes:
        train: Gives the values of every training example, [N], by column.
        test: Of every test example, [M]; a column may be missing here.
        finer: The column that holds fine classes inside the dataset's own; "" for none.
        digest: Of the files that the columns come from, where the dataset's own say nothing of it.
        files: Gives the name of the file that every training example comes from, below the
            dataset's folder, "" where there is none; None where no example has one.
    """

    train: Mapping[str, Values] = field(default_factory=dict)
    test: Mapping[str, Values] = field(default_factory=dict)
    finer: str = ""
    digest: bytes = b""
    files: Values | None = None

    def sealed(self) -> "Attributes":
        """Return the same without the test part's."""
        return replace(self, test={})

    def subclass(self, name: str) -> tuple[Tensor, Tensor]:
        """Say which examples are of a fine class.

        Returns:
            bool [N] over the training part and bool [M] over the test part.

        Raises:
            DataError: If there are no fine classes, or none of that name.
        """
        if not self.finer:
            raise DataError(
                f"subclass:{name}: the dataset has no fine classes; take cifar20 or digits-parity, "
                "name the column of parquet:PATH by --group-column, or lay an image folder out as "
                "train/CLASS/SUBCLASS"
            )
        return self._matching(self.finer, name, "subclass")

    def group(self, column: str, value: str) -> tuple[Tensor, Tensor]:
        """Say which examples have a value in a column, as :meth:`subclass` does.

        Raises:
            DataError: If there is no such column, or no training example has the value.
        """
        if column not in self.train:
            there = f"it has: {', '.join(self.train)}" if self.train else "it has none"
            raise DataError(
                f"group:{column}={value}: the dataset has no column {column!r}"
                f"{suggestion(column, self.train)} ({there}); groups come from parquet:PATH, "
                "from groups.csv in imagefolder:PATH, or from a plug-in's Data(groups=...)"
            )
        return self._matching(column, value, f"{column} =")

    def codes(self, column: str) -> Tensor:
        """Return a number for every training example's value in a column, int64 [N]."""
        values = self.train[column]()
        numbers = {value: number for number, value in enumerate(sorted(set(values)))}
        return torch.tensor([numbers[value] for value in values])

    def _matching(self, column: str, value: str, what: str) -> tuple[Tensor, Tensor]:
        known = self.train[column]()
        train = _equal(known, value)
        if not train.any():
            names = list(dict.fromkeys(sorted(known)))
            more = ", ..." if len(names) > SHOWN else ""
            raise DataError(
                f"no training example of {what} {value!r}{suggestion(value, names)} "
                f"(there are: {', '.join(names[:SHOWN])}{more})"
            )
        tested = self.test[column]() if column in self.test else []
        return train, _equal(tested, value)


NO_ATTRIBUTES = Attributes()


def _equal(values: Sequence[str], wanted: str) -> Tensor:
    """Compare texts, letters with marks as one character or as two alike."""
    form = unicodedata.normalize("NFC", wanted)
    return torch.tensor(
        [unicodedata.normalize("NFC", value) == form for value in values], dtype=torch.bool
    )
