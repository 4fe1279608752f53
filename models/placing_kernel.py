"""What a recorded pass reads, put in its place by one Triton kernel.

As PyTorch's operations these are eight launches a pass; a micro-batch waits longer for the host to
make them than for the device. Imported where there is a GPU only.
"""

from __future__ import annotations

from typing import Final

import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

_BLOCK: Final = 64  # reads of a program
# Any number: a kernel for each sort of them would be compiled in the middle of the work.
_ANY: Final = ("low", "begin", "count", "first", "asked", "token", "size", "all_lines")
_ANYWHERE: Final = ("rows", "index", "which", "length_of", "read_at")


def place(
    rows: Tensor,
    index: Tensor,
    low: int,
    plan: tuple[Tensor, Tensor, Tensor],
    lines: slice,
    windows: slice,
    token: int,
    into: tuple[Tensor, Tensor, Tensor],
) -> None:
    """A pass over `lines` and the `windows` that are read off them.

    `rows` (rows, words) int64, the first of them number `low`; `index` (windows, size) int32, the
    numbers of a window's rows, right-aligned; `plan` int64: (lines,) which window each is, (lines,)
    its length, (windows,) tokens of those that are read; `token`: the first of this pass. Filled
    are `into`: (lines, longest, words), left-aligned, (lines,) lengths, 0 from the last one on, and
    (reads,), all int64.
    """
    words, lengths, read = into
    _, longest, width = words.shape
    asked = windows.stop - windows.start
    grid = len(lengths) + triton.cdiv(asked, _BLOCK)
    _place[(grid,)](
        rows, index, low, *plan, words, lengths, read, lines.start, lines.stop - lines.start,
        windows.start, asked, token, index.shape[1], len(lengths), longest,
        triton.next_power_of_2(longest), width, _BLOCK,
    )  # fmt: skip


@triton.jit(do_not_specialize=_ANY, do_not_specialize_on_alignment=_ANYWHERE)  # type: ignore[untyped-decorator]
def _place(  # type: ignore[no-untyped-def]
    rows, index, low, which, length_of, read_at, words, lengths, read, begin, count, first, asked,
    token, size, all_lines, LONGEST: tl.constexpr, PLACES: tl.constexpr, WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    line = tl.program_id(0)
    if line < count:
        place = tl.arange(0, PLACES)
        inside = place < LONGEST
        length = tl.load(length_of + begin + line)
        tl.store(lengths + line, length)
        held = index + tl.load(which + begin + line) * size
        row = tl.load(held + tl.minimum(place + size - length, size - 1), mask=inside, other=0)
        row = (row - low).to(tl.int64) * WIDTH
        to = words + (line.to(tl.int64) * LONGEST + place) * WIDTH
        for word in tl.static_range(WIDTH):
            tl.store(to + word, tl.load(rows + row + word, mask=inside, other=0), mask=inside)
    elif line < all_lines:
        tl.store(lengths + line, 0)
    else:
        at = (line - all_lines) * BLOCK + tl.arange(0, BLOCK)
        there = at < asked
        tl.store(read + at, tl.load(read_at + first + at, mask=there, other=0) - token, mask=there)
