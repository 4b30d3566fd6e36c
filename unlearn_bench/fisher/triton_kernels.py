"""Fused GPU kernel: sums of squared per-example weight gradients, none of them written out.

For a convolution or a linear layer over P positions, one program owns a tile [Co, Ci * kh * kw]
of the result. It walks over the examples, forms the tile of each one's gradient in registers
as a product over positions, squares it and adds it up. Memory traffic is that of reading the
inputs; the gradients themselves, N times the weight, never leave the chip.

Products are float32 throughout ("ieee"), or tf32 where torch's own setting for matrix products
says so (:func:`tf32_allowed`); halves are multiplied as they are and summed in float32.
``TRITON_INTERPRET=1`` runs the kernel on the CPU, which is how the ordinary tests check it.
"""

import functools
import warnings

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

# Tile of the result and positions per product; tl.dot wants 16 at least.
TILE_OUT, TILE_IN, TILE_POSITIONS = 64, 64, 32


@triton.jit  # type: ignore[untyped-decorator]
def _fused_squares(  # type: ignore[no-untyped-def]
    g_ptr,
    a_ptr,
    out_ptr,
    examples,
    outputs,
    inputs,
    positions,
    g_n,
    g_c,
    g_p,
    a_n,
    a_c,
    a_h,
    a_w,
    height,
    width,
    out_width,
    kernel_h,
    kernel_w,
    stride_h,
    stride_w,
    pad_h,
    pad_w,
    dilation_h,
    dilation_w,
    per_program,
    precision: tl.constexpr,
    widen: tl.constexpr,
    tile_out: tl.constexpr,
    tile_in: tl.constexpr,
    tile_p: tl.constexpr,
):
    rows = tl.program_id(0) * tile_out + tl.arange(0, tile_out)
    columns = tl.program_id(1) * tile_in + tl.arange(0, tile_in)
    first = tl.program_id(2) * per_program
    # A column of the result is an input channel and a place in the kernel.
    channel = columns // (kernel_h * kernel_w)
    at_h = (columns // kernel_w) % kernel_h
    at_w = columns % kernel_w
    is_output, is_input = rows[:, None] < outputs, columns[None, :] < inputs
    total = tl.zeros((tile_out, tile_in), dtype=tl.float32)
    for i in range(first, tl.minimum(first + per_program, examples)):
        gradient = tl.zeros((tile_out, tile_in), dtype=tl.float32)
        for start in range(0, positions, tile_p):
            p = start + tl.arange(0, tile_p)
            g_at = g_ptr + i * g_n + rows[:, None] * g_c + p[None, :] * g_p
            g = tl.load(g_at, mask=is_output & (p[None, :] < positions), other=0.0)
            h = (p // out_width)[:, None] * stride_h - pad_h + at_h[None, :] * dilation_h
            w = (p % out_width)[:, None] * stride_w - pad_w + at_w[None, :] * dilation_w
            inside = (h >= 0) & (h < height) & (w >= 0) & (w < width)
            a_at = a_ptr + i * a_n + channel[None, :] * a_c + h * a_h + w * a_w
            a = tl.load(a_at, mask=inside & (p[:, None] < positions) & is_input, other=0.0)
            if widen:
                g, a = g.to(tl.float32), a.to(tl.float32)
            gradient = tl.dot(g, a, gradient, input_precision=precision)
        total += gradient * gradient
    out = out_ptr + rows[:, None] * inputs + columns[None, :]
    tl.atomic_add(out, total, mask=is_output & is_input)


def tf32_allowed() -> bool:
    """Whether torch is set to round the factors of float32 matrix products to tf32.

    By ``torch.set_float32_matmul_precision("high")``, ``torch.backends.cuda.matmul.allow_tf32``
    or ``.fp32_precision``. Only the last is asked: it follows the others, and once a user has set
    it, torch refuses to answer the older question.
    """
    return bool(torch.backends.cuda.matmul.fp32_precision == "tf32")


def fused_squares(
    total: Tensor,
    g: Tensor,
    a: Tensor,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
) -> None:
    """Add sum_i G_i^2 to ``total``, G_i the weight gradient of example i.

    Args:
        total: [Co, Ci, kh, kw], contiguous, float32.
        g: Output gradient, [N, Co, Ho, Wo] with positions evenly strided.
        a: Input image, [N, Ci, H, W], any strides.
        stride: Of the convolution, as the next two; a sequence [N, T, K] is an image [N, K, T, 1].
        padding: Zeros on either side.
        dilation: Step between kernel positions.
    """
    n, outputs, ho, wo = g.shape
    if g.stride(2) != wo * g.stride(3):
        g = g.contiguous()
    _, channels, kh, kw = total.shape
    inputs = channels * kh * kw
    tiles = triton.cdiv(outputs, TILE_OUT) * triton.cdiv(inputs, TILE_IN)
    # Examples are shared out among programs until there are a few for every multiprocessor.
    wanted = (
        4 * torch.cuda.get_device_properties(g.device).multi_processor_count if g.is_cuda else 2
    )
    splits = max(1, min(n, wanted // tiles))
    per_program = triton.cdiv(n, splits)
    grid = (
        triton.cdiv(outputs, TILE_OUT),
        triton.cdiv(inputs, TILE_IN),
        triton.cdiv(n, per_program),
    )
    tf32 = g.is_cuda and tf32_allowed()
    _fused_squares[grid](
        *(g, a, total),
        *(n, outputs, inputs, ho * wo),
        *(g.stride(0), g.stride(1), g.stride(3)),
        *a.stride(),
        *(a.shape[2], a.shape[3], wo, kh, kw),
        *stride,
        *padding,
        *dilation,
        per_program,
        precision="tf32" if tf32 else "ieee",
        # The interpreter multiplies the bit patterns of bfloat16 (triton 3.9).
        widen=g.dtype == torch.bfloat16 and not g.is_cuda,
        tile_out=TILE_OUT,
        tile_in=TILE_IN,
        tile_p=TILE_POSITIONS,
    )


@functools.cache
def usable(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the kernel compiles on ``device`` and agrees with a plain product there.

    Tried once per process, since compilers and drivers are beyond this package's tests.
    """
    generator = torch.Generator().manual_seed(0)
    g = torch.randn(3, 5, 4, 3, generator=generator).to(device, dtype)
    a = torch.randn(3, 2, 6, 5, generator=generator).to(device, dtype)
    total = torch.zeros(5, 2, 3, 3, device=device)
    try:
        fused_squares(total, g, a)
    except Exception as error:  # Whatever the compiler raises, the plain path is right.
        warnings.warn(f"Triton kernel not used on {device}: {error}", stacklevel=2)
        return False
    columns = torch.nn.functional.unfold(a.float(), 3)
    expected = (g.float().flatten(2) @ columns.transpose(1, 2)).square().sum(0).view_as(total)
    good = bool((total - expected).norm() <= 1e-2 * expected.norm())
    if not good:
        warnings.warn(f"Triton kernel not used on {device}: its check failed", stacklevel=2)
    return good
