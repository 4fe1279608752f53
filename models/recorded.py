"""Passes of a `FlatBert` recorded as CUDA graphs, one a bucket: no launches to wait for, and
nothing is compiled after the start.

A batch goes to the device once, in pinned memory: raw rows, and which of them each window has. What
windows share is found there, and the host only cuts passes. Memory is bounded by the largest
bucket: all graphs share theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import Tensor

from models.features import words
from models.flat import LONGEST, Bucket, FlatBert
from models.inference import Raw
from models.packing import Lines, lines_of
from stream_app.core.window import Ints, Windows

LARGEST: Final = 65_536  # tokens of a pass
_SMALLEST: Final = 512
_STEPS: Final = 4  # buckets from a size to twice that
_FEW: Final = 2048  # windows that the host compares sooner than the device


class Cut(NamedTuple):
    """A pass: parts of `Lines`."""

    bucket: Bucket
    lines: slice
    windows: slice
    first: int  # its first token among those of all lines


class _Recorded(Struct, frozen=True):
    """A graph, and what it reads and writes: tensors that must live as long as it does."""

    graph: torch.cuda.CUDAGraph
    words: Tensor
    lengths: Tensor
    token: Tensor
    read: Tensor
    found: Tensor  # (reads, tasks + 1), or one more with the likelihood


def buckets(largest: int = LARGEST) -> list[Bucket]:
    """Ascending."""
    found, size = [], _SMALLEST
    while size < largest:
        found += [Bucket(size + step * size // _STEPS) for step in range(_STEPS)]
        size *= 2
    return [*(bucket for bucket in found if bucket.tokens < largest), Bucket(largest)]


def cut(order: Lines, tokens: Ints, sizes: list[Bucket]) -> Iterator[Cut]:
    """Passes as large as the largest bucket allows. `tokens` (lines,): where a line's end."""
    begin = first = token = 0
    most = sizes[-1]
    while begin < len(tokens):
        end = min(
            int(np.searchsorted(tokens, token + most.tokens, side="right")),
            int(np.searchsorted(order.ends, first + most.reads, side="right")),
            begin + most.lines,
        )
        last, next_token = int(order.ends[end - 1]), int(tokens[end - 1])
        asked = next_token - token, end - begin, last - first
        bucket = next(size for size in sizes if size.holds(*asked))
        yield Cut(bucket, slice(begin, end), slice(first, last), token)
        begin, first, token = end, last, next_token


class _Ready(NamedTuple):
    """A batch on the device, its passes cut."""

    order: Lines
    cuts: list[Cut]
    rows: Tensor  # (rows, words)
    rows_of: Tensor  # (windows, size) into the rows, right-aligned
    lines: Tensor  # (lines,) as in `order`
    lengths: Tensor  # (lines,)
    read: Tensor  # (windows,) in the order of `order.windows`: their own events' tokens


class RecordedReader:
    """Records all buckets when it is made, which takes some seconds. `likelihood`: tells that of a
    window, too.
    """

    def __init__(
        self,
        flat: FlatBert,
        device: torch.device,
        largest: int = LARGEST,
        likelihood: bool = False,
    ) -> None:
        self._flat, self._device, self._likelihood = flat, device, likelihood
        self._tasks = len(flat.network.heads)
        self._told = self._tasks + 1 + likelihood  # numbers of a window
        self._sizes = buckets(largest)
        self._place = torch.arange(LONGEST, device=device)
        self._ahead = _stream(device)  # the next batch comes while one is computed
        pool = torch.cuda.graph_pool_handle()
        with torch.inference_mode():
            self._recorded = {size: self._record(size, pool) for size in reversed(self._sizes)}

    @torch.inference_mode()
    def run(self, windows: Windows) -> Raw:
        """As `inference.run`."""
        found = np.empty((len(windows), self._told), np.float32)
        begun: tuple[int, Lines, Tensor, torch.cuda.Event] | None = None
        most = self._sizes[-1].reads
        for at in range(0, len(windows), most):
            some = slice(at, at + most)
            ready = self._sent(Windows(windows.rows, windows.index[some], windows.length[some]))
            next_ = (at, ready.order, *self._started(ready))
            if begun is not None:
                _collect(found, *begun)
            begun = next_
        if begun is not None:
            _collect(found, *begun)
        tasks = self._tasks
        unknown = np.full(len(windows), np.nan, np.float32)
        return Raw(
            found[:, :tasks], found[:, tasks], found[:, tasks + 1] if self._likelihood else unknown
        )

    def _sent(self, windows: Windows) -> _Ready:
        with torch.cuda.stream(self._ahead):
            rows, index = self._copied_together(windows)
            looked_at = index if len(windows) > _FEW else None
            order = lines_of(windows, shared=True, index=looked_at)
            length = windows.length[order.lines]
            tokens = np.cumsum(length)
            begins = np.repeat(tokens - length, np.diff(order.ends, prepend=0))
            read = begins + windows.length[order.windows] - 1
            plan = self._copied(torch.from_numpy(np.concatenate([order.lines, length, read])))
            count = len(length)
            parts = plan[:count], plan[count : 2 * count], plan[2 * count :]
        cuts = list(cut(order, tokens, self._sizes))
        return _Ready(order, cuts, rows, index, *parts)

    def _started(self, ready: _Ready) -> tuple[Tensor, torch.cuda.Event]:
        """(windows, numbers) in the order of the lines, on the host once the event has come."""
        here = torch.cuda.current_stream(self._device)
        here.wait_stream(self._ahead)
        for tensor in ready[2:]:
            tensor.record_stream(here)
        size = ready.rows_of.shape[1]
        missing = (size - ready.lengths)[:, None]
        said = torch.empty(len(ready.read), self._told, device=self._device)
        for one in ready.cuts:
            recorded, count = self._recorded[one.bucket], one.lines.stop - one.lines.start
            held = ready.rows_of[ready.lines[one.lines]]
            left = (self._place + missing[one.lines]).clamp(max=size - 1)
            into = recorded.words[:count].flatten(0, 1)
            torch.index_select(ready.rows, 0, held.gather(1, left).flatten(), out=into)
            recorded.lengths[:count].copy_(ready.lengths[one.lines])
            recorded.lengths[count:].zero_()
            asked = one.windows.stop - one.windows.start
            torch.sub(ready.read[one.windows], one.first, out=recorded.read[:asked])
            recorded.graph.replay()
            said[one.windows].copy_(recorded.found[:asked])
        host = torch.empty(said.shape, pin_memory=True)
        host.copy_(said, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(here)
        return host, done

    def _copied_together(self, windows: Windows) -> tuple[Tensor, Tensor]:
        """(rows, words), the rows that are used, and (windows, size) int32 into them: one copy."""
        first, last = max(0, int(windows.index.min())), int(windows.index.max())
        used = words(windows.rows[first : last + 1]).numpy()
        cells = windows.index.size
        held = torch.empty(used.size + (cells + 1) // 2, dtype=torch.int64, pin_memory=True)
        room = held.numpy()
        room[: used.size] = used.ravel()
        np.subtract(
            windows.index.ravel(), first, out=room[used.size :].view(np.int32)[:cells],
            casting="unsafe",
        )  # fmt: skip
        there = held.to(self._device, non_blocking=True)
        index = there[used.size :].view(torch.int32)[:cells]
        return there[: used.size].view(used.shape), index.view(windows.index.shape)

    def _copied(self, held: Tensor) -> Tensor:
        return held.pin_memory().to(self._device, non_blocking=True)

    def _record(self, size: Bucket, pool: Any) -> _Recorded:
        device = self._device
        held = torch.zeros(size.lines, LONGEST, self._flat.words, dtype=torch.int64, device=device)
        lengths = torch.zeros(size.lines, dtype=torch.int64, device=device)
        lengths[0] = 1
        token = torch.arange(size.tokens, device=device)
        read = torch.zeros(size.reads, dtype=torch.int64, device=device)
        aside = _stream(device)
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            self._flat.read(held, lengths, token, read, self._likelihood)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            found = self._flat.read(held, lengths, token, read, self._likelihood)
        return _Recorded(graph, held, lengths, token, read, found)


def _collect(
    found: NDArray[np.float32], at: int, order: Lines, said: Tensor, done: torch.cuda.Event
) -> None:
    done.synchronize()
    found[at + order.windows] = said.numpy()


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
