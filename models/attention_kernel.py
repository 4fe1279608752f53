"""Causal attention within windows that lie one after another, without filling: a Triton kernel.

A window has at most some dozens of events, so one program holds all of it for one head; the general
kernels for long sequences (flash attention) work in blocks of 128 and are wasted on it. Imported
where there is a GPU only.
"""

from __future__ import annotations

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

LONGEST = 128  # events of a window that a program can hold
_WARPS = 4


def attend(qkv: Tensor, begins: Tensor, lines: int, heads: int, longest: int) -> Tensor:
    """(tokens, heads * width). What stands outside all windows is left as it was found: anything.

    `qkv` (tokens, 3 * heads * width), a power of two from 16 on wide; `begins` (lines + 1,) int32:
    the first token of each window; `longest` at most LONGEST.
    """
    width = qkv.shape[1] // (3 * heads)
    found = qkv.new_empty(qkv.shape[0], heads * width)
    block = max(16, triton.next_power_of_2(longest))
    _attend[(lines, heads)](qkv, found, begins, heads, width**-0.5, width, block, num_warps=_WARPS)
    return found


@triton.jit  # type: ignore[untyped-decorator]
def _attend(qkv, found, begins, heads, scale, WIDTH: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    line, head = tl.program_id(0), tl.program_id(1)
    begin = tl.load(begins + line)
    length = tl.load(begins + line + 1) - begin
    if length > 0:
        # most windows are far shorter than the longest
        if length <= BLOCK // 4 and BLOCK >= 64:
            _window(qkv, found, begin, length, head, heads, scale, WIDTH, BLOCK // 4)
        elif length <= BLOCK // 2 and BLOCK >= 32:
            _window(qkv, found, begin, length, head, heads, scale, WIDTH, BLOCK // 2)
        else:
            _window(qkv, found, begin, length, head, heads, scale, WIDTH, BLOCK)


@triton.jit  # type: ignore[untyped-decorator]
def _window(  # type: ignore[no-untyped-def]
    qkv, found, begin, length, head, heads, scale, WIDTH: tl.constexpr, BLOCK: tl.constexpr
):
    row, column = tl.arange(0, BLOCK), tl.arange(0, WIDTH)
    inside = (row < length)[:, None]
    token = (begin + row).to(tl.int64)[:, None]
    at = qkv + token * (3 * heads * WIDTH) + head * WIDTH + column[None, :]
    query = tl.load(at, mask=inside, other=0.0)
    key = tl.load(at + heads * WIDTH, mask=inside, other=0.0)
    value = tl.load(at + 2 * heads * WIDTH, mask=inside, other=0.0)
    alike = tl.dot(query, tl.trans(key)) * scale
    alike = tl.where(row[:, None] >= row[None, :], alike, float("-inf"))
    weight = tl.exp(alike - tl.max(alike, 1)[:, None])
    mixed = tl.dot(weight.to(value.dtype), value) / tl.sum(weight, 1)[:, None]
    to = found + token * (heads * WIDTH) + head * WIDTH + column[None, :]
    tl.store(to, mixed.to(value.dtype), mask=inside)
