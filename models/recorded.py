"""Passes of a `FlatBert` recorded as CUDA graphs, one a bucket: no launches to wait for, and
nothing is compiled after the start.

A batch goes to the device once, in pinned memory: raw rows, and which of them each window has. What
windows share is found there, and the host only cuts passes. Memory is bounded by the largest
bucket: all graphs share theirs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
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
_FINE: Final = 16_384  # tokens up to which there are twice as many: somebody waits for such passes
_FEW: Final = 2048  # windows that the host compares sooner than the device
_AHEAD: Final = 2  # batches that are prepared at once


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
        steps = _STEPS * 2 if size < _FINE else _STEPS
        found += [Bucket(size + step * size // steps) for step in range(steps)]
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
    low: int  # the number of the first of the rows
    rows: Tensor  # (rows, words)
    rows_of: Tensor  # (windows, size) numbers of rows, right-aligned
    lines: Tensor  # (lines,) as in `order`
    lengths: Tensor  # (lines,)
    read: Tensor  # (windows,) in the order of `order.windows`: their own events' tokens


class Reading(Struct, frozen=True):
    """What the device computes of some windows."""

    order: Lines
    likelihood: bool  # told
    said: Tensor  # (windows, numbers) in the order of the lines, on the host once `done` has come
    done: torch.cuda.Event

    def over(self) -> bool:
        try:
            return bool(self.done.query())  # type: ignore[no-untyped-call]
        except RuntimeError:  # `collect` raises it where it is looked for
            return True

    def collect(self) -> Raw:
        """Waits for it."""
        return _raw(self.numbers(), self.likelihood)

    def numbers(self) -> NDArray[np.float32]:
        """(windows, numbers), waited for."""
        self.done.synchronize()
        found = np.empty(self.said.shape, np.float32)
        found[self.order.windows] = self.said.numpy()
        return found


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
        self._told = len(flat.network.heads) + 1 + likelihood  # numbers of a window
        self._sizes = buckets(largest)
        self._ahead = _stream(device)  # the next batch comes while one is computed
        pool = torch.cuda.graph_pool_handle()
        with torch.inference_mode():
            self._recorded = {size: self._record(size, pool) for size in reversed(self._sizes)}

    @property
    def most(self) -> int:
        """Windows that can be begun at once."""
        return self._sizes[-1].reads

    def run(self, windows: Windows) -> Raw:
        """As `inference.run`."""
        parts = [slice(at, at + self.most) for at in range(0, len(windows), self.most)]
        batches = [Windows(windows.rows, windows.index[p], windows.length[p]) for p in parts]
        if len(batches) == 1:
            return self.begin(batches[0]).collect()
        found = [np.empty((0, self._told), np.float32)]
        begun: deque[Reading] = deque()
        for ready in self._sent_ahead(batches):
            begun.append(self._started(ready))
            if len(begun) > 1:
                found.append(begun.popleft().numbers())
        found += [reading.numbers() for reading in begun]
        return _raw(np.concatenate(found), self._likelihood)

    def _sent_ahead(self, batches: Sequence[Windows]) -> Iterator[_Ready]:
        """Of large batches the host takes longer than the device of a small encoder: so two are
        prepared at once, while a third one is computed.
        """
        with ThreadPoolExecutor(_AHEAD) as hosts:
            sent = deque(hosts.submit(self._sent, batch) for batch in batches[:_AHEAD])
            left = iter(batches[_AHEAD:])
            while sent:
                ready = sent.popleft().result()
                sent.extend(hosts.submit(self._sent, batch) for batch in islice(left, 1))
                yield ready

    def begin(self, windows: Windows) -> Reading:
        """From one to `most` windows; what was begun before is computed first."""
        return self._started(self._sent(windows))

    @torch.inference_mode()
    def _sent(self, windows: Windows) -> _Ready:
        first, last = max(0, int(windows.index.min())), int(windows.index.max())
        rows = words(windows.rows[first : last + 1]).numpy()
        index = windows.index.astype(np.int32, copy=False)
        if len(windows) <= _FEW:
            order = lines_of(windows, shared=True)
            tokens, plan = _plan(windows, order)
            there = self._copied(rows, index, *plan)
        else:
            with torch.cuda.stream(self._ahead):
                there = self._copied(rows, index)
                order = lines_of(windows, shared=True, index=there[1])
                tokens, plan = _plan(windows, order)
                there += self._copied(*plan)
            here = torch.cuda.current_stream(self._device)
            here.wait_stream(self._ahead)
            for tensor in there:
                tensor.record_stream(here)
        return _Ready(order, list(cut(order, tokens, self._sizes)), first, *there)

    @torch.inference_mode()
    def _started(self, ready: _Ready) -> Reading:
        from models.placing_kernel import place

        host = torch.empty(len(ready.read), self._told, pin_memory=True)
        plan = ready.lines, ready.lengths, ready.read
        for one in ready.cuts:
            to = self._recorded[one.bucket]
            which, into = (one.lines, one.windows, one.first), (to.words, to.lengths, to.read)
            place(ready.rows, ready.rows_of, ready.low, plan, *which, into)
            to.graph.replay()
            asked = one.windows.stop - one.windows.start
            host[one.windows].copy_(to.found[:asked], non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(self._device))
        return Reading(ready.order, self._likelihood, host, done)

    def _copied(self, *parts: NDArray[Any]) -> list[Tensor]:
        """Of int32 or int64, on the device, by one copy."""
        sizes = [-(-part.nbytes // 8) for part in parts]
        held = torch.empty(sum(sizes), dtype=torch.int64, pin_memory=True)
        for part, room in zip(parts, torch.split(held, sizes), strict=True):
            room.numpy().view(part.dtype)[: part.size] = part.ravel()
        there = torch.split(held.to(self._device, non_blocking=True), sizes)
        return [
            own.view(torch.int32)[: part.size].view(part.shape)
            if part.itemsize == 4
            else own.view(part.shape)
            for part, own in zip(parts, there, strict=True)
        ]

    def _record(self, size: Bucket, pool: Any) -> _Recorded:
        from models.placing_kernel import place

        device = self._device
        held = torch.zeros(size.lines, LONGEST, self._flat.words, dtype=torch.int64, device=device)
        lengths = torch.zeros(size.lines, dtype=torch.int64, device=device)
        token = torch.arange(size.tokens, device=device)
        read = torch.zeros(size.reads, dtype=torch.int64, device=device)
        one, none = slice(0, 1), read.new_zeros(1)  # a line of one event
        rows_of = none.int()[:, None]
        plan = none, none + 1, none
        place(held[0, :1].clone(), rows_of, 0, plan, one, one, 0, (held, lengths, read))
        aside = _stream(device)
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            self._flat.read(held, lengths, token, read, self._likelihood)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            found = self._flat.read(held, lengths, token, read, self._likelihood)
        return _Recorded(graph, held, lengths, token, read, found)


def _plan(windows: Windows, order: Lines) -> tuple[Ints, tuple[Ints, Ints, Ints]]:
    """(lines,) the token at which each ends, and what of the plan the device needs."""
    length = windows.length[order.lines]
    tokens = np.cumsum(length)
    begins = np.repeat(tokens - length, np.diff(order.ends, prepend=0))
    return tokens, (order.lines, length, begins + windows.length[order.windows] - 1)


def _raw(found: NDArray[np.float32], likelihood: bool) -> Raw:
    if likelihood:
        return Raw(found[:, :-2], found[:, -2], found[:, -1])
    return Raw(found[:, :-1], found[:, -1], np.full(len(found), np.nan, np.float32))


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
