"""What a Fisher computation returns: one tensor per parameter, and how each was obtained."""

from collections import Counter
from collections.abc import Iterator, Mapping

from torch import Tensor


class FisherDiagonal(Mapping[str, Tensor]):
    """Diagonal of a Fisher information matrix, by parameter name.

    Behaves as a read-only dictionary: ``diagonal["fc.weight"]`` has the shape of that
    parameter and holds non-negative numbers in units of nats per squared parameter unit.

    Attributes:
        routes: Parameter name to the rule that computed it, such as ``"linear"`` or
            ``"fallback: used twice"``. Has exactly the keys of the mapping.
        examples: How many examples the mean was taken over.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], routes: Mapping[str, str], examples: int
    ) -> None:
        self._tensors = dict(tensors)
        self.routes = dict(routes)
        self.examples = examples

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        routes = ", ".join(f"{route}: {n}" for route, n in Counter(self.routes.values()).items())
        return f"FisherDiagonal({len(self)} parameters, {self.examples} examples; {routes})"
