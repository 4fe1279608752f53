"""Event files and labels -> windows, exactly those that the stream would score.

Lines are decoded, encoded and slid in the order of the file by the stream's own functions. What the
stream would put aside (malformed, late, duplicate) is put aside here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import xxhash
from msgspec import Struct, field
from numpy.typing import NDArray

from models.counters.counting import Counting
from models.encoding import SchemaEncoder
from models.lines import numbered
from models.lines import read as lines_of
from models.schema import Schema
from stream_app.core.context import SiteBook
from stream_app.core.decode import decode
from stream_app.core.errors import Misconfigured
from stream_app.core.event import MAX_TIME_MS
from stream_app.core.logbook import LogBook
from stream_app.core.record import StoredRecord
from stream_app.core.window import (
    OFFSET_BITS,
    Ints,
    Rows,
    WindowPolicy,
    Windows,
    as_of,
    seq_of,
    source_tag,
)

_TOPIC: Final = "file"
_BATCH: Final = 4096
_OFFSET: Final = np.uint64((1 << OFFSET_BITS) - 1)


class Label(Struct, frozen=True):
    """What is known of an event; lines of a labels file."""

    event_id: str
    label: int  # 1: an anomaly
    family: str | None = field(default=None, name="attack")
    difficulty: str | None = None
    campaign: str | None = None  # its users stay together
    place: str | None = None  # new: accounts of its own; real: inside honest users' histories
    look_alike: str | None = None  # normal, but resembles an attack


class Dataset(Struct, frozen=True, weakref=True):
    """Accepted events in order of arrival: `windows` has the window of each."""

    windows: Windows  # over all rows of the files
    row: Ints  # (events,) an event's own row
    user: Ints  # (events,) a number for each user
    users: Sequence[str]
    task: Ints  # (events,)
    event_ids: Sequence[str]
    labels: Sequence[Label | None]
    anomalous: NDArray[np.bool_]
    put_aside: int
    file: Ints  # (events,) which of the files, from 0: history and what is to be judged

    def __len__(self) -> int:
        return len(self.row)

    def of(self, attribute: str) -> list[str]:
        """family, difficulty, ... of each event; "" where there is none."""
        return [(label and getattr(label, attribute)) or "" for label in self.labels]


def read(
    data: Sequence[Path], labels: Sequence[Path], schema: Schema, policy: WindowPolicy
) -> Dataset:
    """Of files of JSON lines or Parquet.

    Raises Misconfigured if a file cannot be read, or nothing in it is an event.
    """
    found = gather([lines_of([path]) for path in data], read_labels(labels), schema, policy)
    if not len(found):
        raise Misconfigured(f"there is no event in {', '.join(map(str, data)) or 'no file'}")
    return found


def gather(
    files: Sequence[Iterable[bytes]],
    known: Mapping[str, Label],
    schema: Schema,
    policy: WindowPolicy,
) -> Dataset:
    """Of files' lines, and what is known of their events by id. There may be no event at all."""
    encoder, tasks = SchemaEncoder(schema), schema.tasks
    book, tag = LogBook(encoder.row, policy), source_tag(_TOPIC)
    site, counting = SiteBook(schema.context), Counting(schema)
    rows: list[Rows] = [np.zeros(0, encoder.row)]
    index: list[NDArray[np.int32]] = [np.zeros((0, policy.size), np.int32)]
    length: list[Ints] = [np.zeros(0, np.int64)]
    user_ids: list[str] = []
    event_ids: list[str] = []
    task: list[int] = []
    own_row: list[Ints] = [np.zeros(0, np.int64)]
    file: list[Ints] = [np.zeros(0, np.int64)]
    seen = lines_read = 0
    for number, batch in _batches(files):
        records = [
            StoredRecord(
                topic=_TOPIC,
                partition=0,
                offset=lines_read + at,
                timestamp=MAX_TIME_MS,  # a file has no record times: no event counts as ahead
                key=None,
                value=line,
            )
            for at, line in enumerate(batch)
        ]
        lines_read += len(batch)
        events = decode(records, tasks).events
        encoded = encoder.encode(events)
        encoded["seq"] = [seq_of(tag, seen + at + 1) for at in range(len(events))]
        names = [e.user_id.encode() for e in events]
        site.fill(0, names, encoded)
        counting.fill(names, encoded)
        logs = book.slide(names, encoded, ())
        accepted, windows = as_of(logs, policy)
        whole = ((logs.rows["seq"] & _OFFSET).astype(np.int64) - 1)[windows.index]
        rows.append(encoded)
        index.append(whole.astype(np.int32))
        length.append(windows.length)
        own_row.append(seen + accepted)
        file.append(np.full(len(accepted), number))
        for at in accepted.tolist():
            event = events[at]
            user_ids.append(event.user_id)
            event_ids.append(event.event_id or "")
            task.append(tasks.of_type[event.type])
        seen += len(events)
    users, user = np.unique(np.array(user_ids, str), return_inverse=True)
    found = [known.get(event_id) for event_id in event_ids]
    return Dataset(
        Windows(np.concatenate(rows), np.concatenate(index), np.concatenate(length)),
        np.concatenate(own_row),
        user,
        users.tolist(),
        np.array(task, np.int64),
        event_ids,
        found,
        np.array([label is not None and label.label == 1 for label in found], bool),
        lines_read - len(event_ids),
        np.concatenate(file),
    )


def concat(datasets: Sequence[Dataset]) -> Dataset:
    """One after another. Users of different ones are different, even if they are called the same;
    `file` counts on as well.
    """
    if len(datasets) == 1:
        return datasets[0]

    def joined(parts: list[NDArray[Any]], sizes: list[int]) -> NDArray[Any]:
        base = np.cumsum([0, *sizes[:-1]]).astype(parts[0].dtype)
        return np.concatenate([part + at for part, at in zip(parts, base, strict=True)])

    rows = [len(d.windows.rows) for d in datasets]
    return Dataset(
        Windows(
            np.concatenate([d.windows.rows for d in datasets]),
            joined([d.windows.index for d in datasets], rows),
            np.concatenate([d.windows.length for d in datasets]),
        ),
        joined([d.row for d in datasets], rows),
        joined([d.user for d in datasets], [len(d.users) for d in datasets]),
        [user for d in datasets for user in d.users],
        np.concatenate([d.task for d in datasets]),
        [event_id for d in datasets for event_id in d.event_ids],
        [label for d in datasets for label in d.labels],
        np.concatenate([d.anomalous for d in datasets]),
        sum(d.put_aside for d in datasets),
        joined([d.file for d in datasets], [int(d.file.max(initial=-1)) + 1 for d in datasets]),
    )


def split(dataset: Dataset, shares: Sequence[float], seed: int) -> list[Ints]:
    """Events by part. A user is in one part, and so is a campaign with all users it touched."""
    parent = np.arange(len(dataset.users))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = int(parent[at])
        return at

    first_of: dict[str, int] = {}
    for user, campaign in zip(dataset.user.tolist(), dataset.of("campaign"), strict=True):
        if campaign:
            parent[root(user)] = root(first_of.setdefault(campaign, user))
    drawn = [lot(dataset.users[root(at)], seed) for at in range(len(dataset.users))]
    bounds = np.cumsum(shares) / sum(shares)
    part = np.searchsorted(bounds[:-1], np.array(drawn), side="right")[dataset.user]
    return [np.flatnonzero(part == at) for at in range(len(shares))]


def lot(user: str, seed: int) -> float:
    """A user's place in [0, 1): the same everywhere and always."""
    return xxhash.xxh3_64_intdigest(f"{seed}:{user}".encode()) / 2**64


def read_labels(paths: Sequence[Path]) -> dict[str, Label]:
    """By event id; the last one counts. Raises Misconfigured."""
    return {label.event_id: label for label in _labels(paths)}


def _labels(paths: Sequence[Path]) -> Iterator[Label]:
    decoder = msgspec.json.Decoder(Label)
    for path in paths:
        for number, line in numbered(path):
            try:
                yield decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise Misconfigured(f"line {number} of {path} is no label: {error}") from error


def _batches(files: Sequence[Iterable[bytes]]) -> Iterator[tuple[int, list[bytes]]]:
    """Lines of one file at a time, and which it is."""
    for number, lines in enumerate(files):
        held = iter(lines)
        while batch := list(islice(held, _BATCH)):
            yield number, batch
