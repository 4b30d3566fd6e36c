"""Which logit gradients to square: the only place where the kinds of Fisher differ.

For logits z = f(x) with p = softmax(z), d log p(c|x) / d theta = J^T (e_c - p), J = dz / d theta.
Every kind is a mean over examples of a sum of squares (J^T v)^2 over a few vectors v [C]:

* empirical: one vector, v = e_y - p;
* monte_carlo: k vectors, v = (e_c - p) / sqrt(k) with c drawn from p;
* true: sum_c p_c (e_c - p)(e_c - p)^T = diag(p) - p p^T =: H has rank C - 1, so the C - 1
  columns of its Cholesky factor serve as well as the C vectors sqrt(p_c) (e_c - p).

One vector for each example of a batch makes a "column" [N, C], and one backward pass.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import one_hot

KINDS = ("true", "empirical", "monte_carlo", "batch")


def label_column(logits: Tensor, labels: Tensor) -> Tensor:
    """Gradient of log p(label|x) by the logits: e_label - softmax(logits), [N, C].

    Args:
        logits: Model outputs, [N, C].
        labels: Class indices, [N].
    """
    # float32 before the difference: in a half, 1 - p of a confident model has no digits left.
    p = logits.softmax(1, dtype=torch.promote_types(logits.dtype, torch.float32))
    return (one_hot(labels, logits.shape[1]) - p).to(logits.dtype)


def draw_labels(logits: Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """Draw ``samples`` labels per example from softmax(logits), [N, samples].

    Drawn on the CPU, so that a seed means the same labels on every device.
    """
    p = logits.detach().double().cpu().softmax(1)
    drawn = torch.multinomial(p, samples, replacement=True, generator=generator)
    return drawn.to(logits.device)


def cholesky_columns(logits: Tensor) -> Iterator[Tensor]:
    """Columns v_1 .. v_{C-1} [N, C] with sum_j v_j v_j^T = diag(p) - p p^T for each example.

    The factor is known in closed form. With classes sorted by descending p and tails
    t_j = sum_{k > j} p_k,

        v_j[j] = sqrt(p_j t_j / t_{j-1}),    v_j[k] = -p_k sqrt(p_j / (t_j t_{j-1}))  for k > j,

    and zero for k < j (t_0 = 1). A column of exact zero tail is zero.

    Args:
        logits: Model outputs, [N, C].

    Source: Tanabe and Sagae 1992, "An exact Cholesky decomposition [...] of the multinomial
    distribution", J. R. Stat. Soc. B 54(1).
    """
    # float64: a confident model leaves tails far below float32's spacing at 1.
    p, order = logits.detach().double().softmax(1).sort(1, descending=True)
    # Summed from the small end, since 1 - cumsum would lose every digit of a small tail.
    tails = p.flip(1).cumsum(1).flip(1)
    for j in range(logits.shape[1] - 1):
        before, after, mass = tails[:, j], tails[:, j + 1], p[:, j]
        column = torch.zeros_like(p)
        column[:, j] = (mass * after / before).sqrt()
        scale = (mass / before).sqrt() / after.sqrt()
        column[:, j + 1 :] = -p[:, j + 1 :] * scale[:, None]
        column[after == 0] = 0
        yield torch.zeros_like(p).scatter_(1, order, column).to(logits.dtype)


class Columns:
    """The columns of one batch, for all of its examples at once or for some of them."""

    def __init__(self, kind: str, labels: Tensor, samples: int, generator: torch.Generator) -> None:
        """Keep what the columns depend on besides the logits.

        Args:
            kind: ``"true"``, ``"empirical"`` or ``"monte_carlo"``.
            labels: Of the batch's examples, [N].
            samples: Labels to draw per example for ``"monte_carlo"``.
            generator: What they are drawn with.
        """
        self.kind, self.labels, self.samples, self.generator = kind, labels, samples, generator
        self.examples = len(labels)
        self._drawn: Tensor | None = None

    def passes(self, classes: int) -> int:
        """How many columns there are, which is how many backward passes a batch takes."""
        return {"true": classes - 1, "monte_carlo": self.samples}.get(self.kind, 1)

    def of(self, logits: Tensor, start: int, stop: int) -> Iterator[Tensor]:
        """Yield the columns of examples start to stop, padded with zeros to the logits' shape.

        Labels are drawn on the first call, which must be for the whole batch.

        Args:
            logits: Detached, [n, C] with n >= stop - start; further rows are padding.
            start: First example.
            stop: One past the last example.
        """
        real = logits[: stop - start]
        if self.kind == "empirical":
            columns = iter([label_column(real, self.labels[start:stop])])
        elif self.kind == "monte_carlo":
            if self._drawn is None:
                self._drawn = draw_labels(real, self.samples, self.generator)
            scale = self.samples**-0.5
            drawn = self._drawn[start:stop].unbind(1)
            columns = (label_column(real, labels) * scale for labels in drawn)
        else:
            columns = cholesky_columns(real)
        padding = logits.new_zeros(len(logits) - len(real), logits.shape[1])
        for column in columns:
            yield torch.cat([column, padding])
