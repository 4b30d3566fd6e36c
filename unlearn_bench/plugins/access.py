"""What a method may read of the training data, declared at registration."""

from dataclasses import dataclass
from typing import ClassVar

SPLITS = ("forget", "retain", "validation")


@dataclass(frozen=True)
class Access:
    """The data a method declares; the harness refuses everything else.

    Combine with ``|``: ``Access.FORGET | Access.VALIDATION``.

    Attributes:
        forget: The forget set F.
        retain: The retain set R.
        validation: Held-out examples for stop rules and tuning; no metric is measured on them.
        log: The training log of the original: what each request's batches did to the weights.
        retain_fraction: Share of R that is handed out, in (0, 1], drawn once per seed.
        checkpoints: Those of an original trained in shards and slices; the method has parameters
            ``shards`` and ``slices``, and starts from its own ensemble.
        surrogate: Images of another dataset, without labels, where the user names one; the method
            has a parameter ``surrogates``, how many it is handed, and makes do without.

    With ``Access.NONE`` a method reads no data: it knows only which classes to forget, the shape of
    the images, and the original's weights.
    """

    forget: bool = False
    retain: bool = False
    validation: bool = False
    log: bool = False
    retain_fraction: float = 1.0
    checkpoints: bool = False
    surrogate: bool = False

    NONE: ClassVar["Access"]
    FORGET: ClassVar["Access"]
    RETAIN: ClassVar["Access"]
    BOTH: ClassVar["Access"]
    VALIDATION: ClassVar["Access"]
    LOG: ClassVar["Access"]
    CHECKPOINTS: ClassVar["Access"]
    SURROGATE: ClassVar["Access"]

    def __or__(self, other: "Access") -> "Access":
        """Return the union; of two retain fractions the smaller holds."""
        return Access(
            self.forget or other.forget,
            self.retain or other.retain,
            self.validation or other.validation,
            self.log or other.log,
            min(self.retain_fraction, other.retain_fraction),
            self.checkpoints or other.checkpoints,
            self.surrogate or other.surrogate,
        )

    def __str__(self) -> str:
        names = [name for name in SPLITS if getattr(self, name)]
        if self.retain and self.retain_fraction < 1:
            names[names.index("retain")] = f"{self.retain_fraction:.0%} of retain"
        names += ["training log"] if self.log else []
        names += ["checkpoints of shards"] if self.checkpoints else []
        names += ["surrogate images"] if self.surrogate else []
        return " + ".join(names) or "nothing"

    def covers(self, other: "Access") -> bool:
        """Whether a method with this access may run what declares ``other``.

        Surrogate images count for nothing here: methods make do without.
        """
        names = (*SPLITS, "log", "checkpoints")
        return all(getattr(self, name) or not getattr(other, name) for name in names)


Access.NONE = Access()
Access.FORGET = Access(forget=True)
Access.RETAIN = Access(retain=True)
Access.BOTH = Access(forget=True, retain=True)
Access.VALIDATION = Access(validation=True)
Access.LOG = Access(log=True)
Access.CHECKPOINTS = Access(checkpoints=True)
Access.SURROGATE = Access(surrogate=True)
