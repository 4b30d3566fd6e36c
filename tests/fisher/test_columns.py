"""The columns reproduce the covariance of the class indicator, also for confident models."""

import torch

from unlearn_bench.fisher.columns import cholesky_columns, draw_labels, label_column


def outer_sum(logits: torch.Tensor) -> torch.Tensor:
    return sum(torch.einsum("na,nb->nab", v, v) for v in cholesky_columns(logits))


def test_cholesky_columns_give_the_covariance() -> None:
    logits = torch.randn(5, 7, dtype=torch.float64)
    p = logits.softmax(1)
    expected = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    torch.testing.assert_close(outer_sum(logits), expected, rtol=1e-13, atol=1e-15)
    assert len(list(cholesky_columns(logits))) == 6


def test_cholesky_columns_keep_tiny_tails_and_drop_zero_ones() -> None:
    # Off the top class the covariance is about diag(p), however small p is.
    logits = torch.tensor([[0.0, -60.0, -70.0, -80.0], [0.0, -2000.0, -2000.0, -3000.0]]).double()
    got = outer_sum(logits)
    assert got.isfinite().all()
    p = logits.softmax(1)
    torch.testing.assert_close(got[0].diagonal()[1:], p[0, 1:], rtol=1e-12, atol=0)
    assert (got[1] == 0).all()


def test_label_column_is_the_gradient_of_the_log_probability() -> None:
    logits = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 2, 1, 2])
    logits.log_softmax(1)[torch.arange(4), labels].sum().backward()
    torch.testing.assert_close(label_column(logits.detach(), labels), logits.grad)


def test_drawn_labels_follow_the_model_and_the_seed() -> None:
    logits = torch.tensor([[0.0, 1.0, -1e9]])
    drawn = draw_labels(logits, 20_000, torch.Generator().manual_seed(0))
    share = (drawn == 1).double().mean()
    assert abs(share - logits.softmax(1)[0, 1]) < 0.02 and not (drawn == 2).any()
    again = draw_labels(logits, 20_000, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again)
