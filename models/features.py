"""Rows of a window -> numbers of each event as of itself: half of the network's first layer.

Training, offline scoring and the stream all derive them here, so they cannot disagree. Each number
of an event uses the events before it in the window and itself, never a later one; windows are
left-aligned, and what stands right of a window's end is filling that nothing reads.

The time of day and week is left out on purpose: campaigns are few, and a network learns when they
were.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.schema import COUNTED, MISSING_ORDINAL, Schema
from stream_app.core.context import SECONDS_CODE, SHARE_CODE, What
from stream_app.core.window import Rows

SPANS: Final = ((10, "10 s"), (60, "1 min"), (600, "10 min"), (3600, "1 h"))
_ALIKE: Final = 0.05  # gaps whose logarithms differ by less are the same gap
_RECENT: Final = 8  # events of the short memory
RELATIONS: Final = 4  # a category is missing, new, seen before, or that of the event before
_STEPS: Final[dict[What, float]] = {"since": SECONDS_CODE, "users": 1.0, "share": SHARE_CODE}
_SIGNED: Final = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_FACT_STEPS: Final = 512.0  # facts between 0 and 1: coarse enough to be the same on every device

Form = Literal["duration", "count", "share", "amount", "ratio", "ordinal", "counter"]


class Number(NamedTuple):  # no Struct: torch.compile traces where it is made
    """One number that every event has, or lacks."""

    name: str
    cell: str  # what a person would call it; several numbers may tell of one thing
    form: Form  # how to read its value aloud
    own: bool = False  # of the event alone (or its gap): not a count over the window


class Columns(NamedTuple):
    """Rows as tensors: of shape (rows,) when made, (windows, events) when gathered."""

    at_ms: Tensor  # int64
    type: Tensor  # int64, the type's number
    hashes: Tensor  # (..., categories) int32, 0 = missing
    values: Tensor  # (..., amounts, ordinals, context and counters) float32, NaN = missing
    company: Tensor  # (..., company) int32, 0 = missing: users seen at one of the categories

    def gather(self, index: Tensor) -> Columns:
        return Columns(*(column[index] for column in self))

    def to(self, device: torch.device) -> Columns:
        return Columns(*(column.to(device, non_blocking=True) for column in self))


def columns(schema: Schema, rows: Rows) -> Columns:
    """Each row once, whatever windows it stands in."""
    return unpacked(schema, words(rows))


def words(rows: Rows) -> Tensor:
    """(rows, words) int64: the bytes of each row, as they are."""
    held = np.ascontiguousarray(rows).view(np.int64).reshape(len(rows), -1)
    return torch.from_numpy(held if held.flags.writeable else held.copy())


def unpacked(schema: Schema, rows: Tensor) -> Columns:
    """Of `words` (..., words), on whatever device they are."""
    places: Mapping[str, Any] = schema.row.fields or {}
    told = {asked.field: asked.what for asked in schema.context.asked}

    def bits(name: str) -> Tensor:
        """As a number with a sign, or a real one."""
        form, byte = places[name][:2]
        kind = torch.float16 if form.kind == "f" else _SIGNED[form.itemsize]
        if byte % form.itemsize == 0:
            return rows.view(kind)[..., byte // form.itemsize]
        one = rows.view(torch.uint8)[..., byte : byte + form.itemsize]
        return one.contiguous().view(kind)[..., 0]

    def whole(name: str) -> Tensor:
        found = bits(name).int()
        size = places[name][0].itemsize
        return found & ((1 << size * 8) - 1) if size < 4 else found

    def value(name: str) -> Tensor:
        if places[name][0].kind == "f":
            return bits(name).float()
        found = whole(name)
        step = _STEPS[told[name]] if name in told else 1.0
        return (found.float() / step).masked_fill(found == MISSING_ORDINAL, math.nan)

    def beside(parts: list[Tensor], kind: torch.dtype) -> Tensor:
        none = rows.new_empty((*rows.shape[:-1], 0), dtype=kind)
        return torch.stack(parts, -1) if parts else none

    values = [f.name for f in (*schema.of_kind("amount", "ordinal"), *schema.of_kind("context"))]
    values += [f"{COUNTED}{at}" for at in range(len(schema.counter_names))]
    return Columns(
        bits("at_ms").clone(),
        whole("type").long(),
        beside([whole(f.name) for f in schema.of_kind("category")], torch.int32),
        beside([value(name) for name in values], torch.float32),
        beside([whole(f.name) for f in schema.of_kind("company")], torch.int32),
    )


def numbers(schema: Schema) -> tuple[Number, ...]:
    """What `describe` computes, in its order."""
    found = _of_the_user(schema)
    forms: dict[What, Form] = {"since": "duration", "users": "count", "share": "share"}
    told = {asked.field: asked.what for asked in schema.context.asked}
    for f in schema.of_kind("context"):
        found.append(Number(f.name, f.title, forms[told[f.name]], own=True))
    found += [Number(f"counter: {name}", name, "counter") for name in schema.counter_names]
    for thing, _ in _companies(schema):
        cell = f"users of this {thing} who were at others of this window"
        found.append(Number(f"{thing} company", cell, "count"))
        found.append(Number(f"{thing} company most", cell, "count"))
    return tuple(found)


def _of_the_user(schema: Schema) -> list[Number]:
    """Those that come first: of the window alone, not of what the site saw."""
    found = [
        Number("gap", "time since the previous event", "duration", own=True),
        Number("gap before", "time between the two events before", "duration"),
        Number("gap change", "rhythm of the gaps", "ratio"),
        Number("gap spread", "rhythm of the gaps", "ratio"),
        Number("recent gap spread", "rhythm of the last gaps", "ratio"),
        Number("equal gaps", "equal gaps", "count"),
        Number("window age", "time since the window began", "duration"),
        Number("events before", "events in the window", "count"),
    ]
    found += [Number(f"events in {text}", f"events in {text}", "count") for _, text in SPANS]
    for at, f in enumerate(schema.of_kind("category")):
        found.append(Number(f"{f.name} seen", f.title, "count"))
        found.append(Number(f"{f.name} age", f"time since the same {f.title}", "duration"))
        found.append(Number(f"{f.name} variety", f"different values of {f.title}", "share"))
        if at == 0:
            found.append(
                Number(f"{f.name} pairs", f"repeated steps from {f.title} to next", "count")
            )
    found += [Number(f"share of {name}", f"share of {name}", "share") for name in schema.type_names]
    for f in schema.of_kind("amount", "ordinal"):
        form: Form = "amount" if f.kind == "amount" else "ordinal"
        found.append(Number(f.name, f.title, form, own=True))
        if f.kind == "amount":
            found.append(Number(f"{f.name} relative", f"{f.title} against the window's", "ratio"))
            if f.by is not None:
                by = f"{f.title} against its {f.by}'s"
                found.append(Number(f"{f.name} by {f.by}", by, "ratio"))
    return found


@torch.no_grad()
def describe(schema: Schema, window: Columns) -> Tensor:
    """(windows, events, numbers) float32, NaN where there is none."""
    count, length = window.type.shape
    device = window.type.device
    place = torch.arange(length, device=device)
    before = place[:, None] > place[None, :]
    rel_ms = window.at_ms - window.at_ms[:, :1]
    nan = torch.full((count, 1), math.nan, device=device)

    gap = torch.cat([nan, torch.log1p(rel_ms.diff(dim=1).clamp(min=0) / 1000)], 1)
    gap_before = torch.cat([nan, gap[:, :-1]], 1)
    alike = ((gap[:, :, None] - gap[:, None, :]).abs() < _ALIKE) & before
    found = [gap, gap_before, (gap - gap_before).abs(), *_spreads(gap, place), _count(alike)]
    found += [_log_s(rel_ms), place.expand(count, length)]
    for span_s, _ in SPANS:
        found.append(place - _earlier(rel_ms, rel_ms - span_s * 1000))

    same_by: dict[str, Tensor] = {}
    for at, f in enumerate(schema.of_kind("category")):
        hashed = window.hashes[:, :, at]
        present = hashed != 0
        same = (hashed[:, :, None] == hashed[:, None, :]) & before & present[:, :, None]
        same_by[f.name] = same
        seen = _count(same)
        last = (same * (place + 1)).amax(2)  # 1-based; 0 if never
        age = _log_s(rel_ms - rel_ms.gather(1, (last - 1).clamp(min=0)))
        known = present.cumsum(1)
        found.append(seen.where(present, nan))
        found.append(age.where(last > 0, nan))
        found.append((present & (seen == 0)).cumsum(1) / known.where(known > 0, nan))
        if at == 0:
            steps = torch.zeros(count, length, device=device)
            steps[:, 1:] = _count(same[:, 1:, 1:] & same[:, :-1, :-1])
            found.append(steps)
    for number in range(1, len(schema.types) + 1):
        found.append((window.type == number).cumsum(1) / (place + 1))
    for at, f in enumerate(schema.of_kind("amount", "ordinal")):
        value = window.values[:, :, at]
        found.append(value)
        if f.kind == "amount":
            found.append(value - _mean_of(before.expand(count, -1, -1), value))
            if f.by is not None:
                found.append(value - _mean_of(same_by[f.by], value))
    found += window.values[:, :, len(schema.of_kind("amount", "ordinal")) :].unbind(2)
    for thing, columns_of in _companies(schema):
        at = [f.name for f in schema.of_kind("category")].index(thing)
        found += _company(window.company[:, :, columns_of], window.hashes[:, :, at], same_by[thing])
    return torch.stack([x.float() for x in found], 2)


def _companies(schema: Schema) -> list[tuple[str, list[int]]]:
    """Categories whose rows name users, and which columns of `Columns.company` these are."""
    # From the sources, not from `schema.context`: torch.compile traces this, and before PyTorch
    # 2.15 it cannot make a Struct.
    of_thing: dict[str, list[int]] = {}
    for at, f in enumerate(schema.of_kind("company")):
        of_thing.setdefault(f.source.split(".")[1], []).append(at)
    return list(of_thing.items())


def _company(users: Tensor, hashed: Tensor, same: Tensor) -> list[Tensor]:
    """How many of the users seen at this thing were seen at earlier, other things of the window,
    and at how many of them the one who was at most.

    `users` (windows, events, users), `same` (windows, events, other events): earlier, that thing.
    """
    length = hashed.shape[1]
    place = torch.arange(length, device=hashed.device)
    first = (hashed != 0) & ~same.any(2)  # each thing of a window once, as it was then
    other = (
        (hashed[:, :, None] != hashed[:, None, :]) & first[:, None, :] & (hashed != 0)[..., None]
    )
    other &= place[:, None] > place[None, :]
    met = []
    for one in users.unbind(2):
        found = torch.zeros_like(other)
        for another in users.unbind(2):
            found |= one[:, :, None] == another[:, None, :]
        met.append(_count(found & other & (one != 0)[:, :, None]))
    counts = torch.stack(met, 2)
    return [_count(counts > 0), counts.amax(2)]


def relations(schema: Schema, hashes: Tensor, before: Tensor, described: Tensor) -> Tensor:
    """(..., categories) int64 below RELATIONS. `before`: the hashes of the event before, 0 if none.

    All three arguments are (..., their own last dimension), of the same events.
    """
    names = [n.name for n in _of_the_user(schema)]
    seen_at = [names.index(f"{f.name} seen") for f in schema.of_kind("category")]
    seen = described[..., seen_at] > 0
    relation = 1 + seen.long() + (hashes == before).long()
    return relation.where(hashes != 0, 0)


def fact_names(schema: Schema) -> tuple[str, ...]:
    """What `facts` has of an event, in its order."""
    related = (f"{f.name} relation" for f in schema.of_kind("category"))
    return (*(n.name for n in numbers(schema)), "type", *related)


def facts(
    schema: Schema, window: Columns, described: Tensor, line: Tensor, place: Tensor
) -> Tensor:
    """(read, facts) float32 of the events at (line, place): what boosted trees know of them.

    Trees jump where a network bends: rounded, so that another order of a sum changes nothing.
    """
    own, previous = described[line, place], (place - 1).clamp(min=0)
    before = window.hashes[line, previous] * (place > 0)[:, None]
    related = relations(schema, window.hashes[line, place], before, own)
    rounded = (own * _FACT_STEPS).round() / _FACT_STEPS
    return torch.cat([rounded, window.type[line, place][:, None], related], 1).float()


def _earlier(rel_ms: Tensor, limit: Tensor) -> Tensor:
    """How many of a window's events are before each limit."""
    if rel_ms.is_cuda:  # compiled, all comparisons are less than a search
        return (rel_ms[:, None, :] < limit[:, :, None]).sum(2)
    return torch.searchsorted(rel_ms, limit)


def _spreads(gap: Tensor, place: Tensor) -> list[Tensor]:
    """Standard deviation of the log gaps so far, and of the last few."""
    gaps = gap.nan_to_num(0).double()
    sums = torch.stack([gaps, gaps * gaps]).cumsum(2)
    found = []
    for memory in (len(place), _RECENT):
        earlier = torch.nn.functional.pad(sums, (memory, 0))[:, :, : len(place)]
        n = place.clamp(max=memory)
        mean, square = (sums - earlier) / n.clamp(min=1)
        spread = (square - mean * mean).clamp(min=0).sqrt().float()
        found.append(spread.where(n >= 2, math.nan))
    return found


def _mean_of(which: Tensor, value: Tensor) -> Tensor:
    """Mean of the values over `which` (windows, events, other events); NaN if of none."""
    present = ~value.isnan()
    pair = torch.stack([value.nan_to_num(0, 0, 0), present.float()], 2)
    total, count = torch.matmul(which.float(), pair).unbind(2)
    return total / count.where(count > 0, math.nan)


def _count(which: Tensor) -> Tensor:
    return which.sum(2, dtype=torch.float32)


def _log_s(duration_ms: Tensor) -> Tensor:
    return torch.log1p(duration_ms.clamp(min=0) / 1000)
