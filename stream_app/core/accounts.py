"""Since when a user is known: the first event of theirs that came, by epochs of 30 days.

A table is of one partition and one epoch of event time, and has every user who was active in it,
with when they were first seen. A user who stays away for a whole epoch is new again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from stream_app.core.crowd import BUCKET_MS

EPOCH: Final = 30 * 24 * 3600 * 1000 // BUCKET_MS  # buckets

Table = tuple[int, int]  # partition, epoch
Known = tuple[int, int]  # user's number, bucket in which they were first seen


def tables(partition: int, buckets: Sequence[int]) -> list[Table]:
    """Those that events of these buckets need."""
    epochs = {bucket // EPOCH for bucket in buckets}
    return [(partition, epoch) for epoch in sorted(epochs | {epoch - 1 for epoch in epochs})]


class Accounts:
    """Tables in memory: all there are, or a cache of them. Pure; no clock."""

    def __init__(self) -> None:
        self._tables: defaultdict[Table, dict[int, int]] = defaultdict(dict)

    def learn(self, table: Table, known: Sequence[Known]) -> None:
        """What somebody else wrote down, the oldest first."""
        own = self._tables[table]
        for user, first in known:
            own.setdefault(user, first)

    def forget(self, table: Table) -> None:
        """Somebody else wrote to it, or what we wrote down may be lost: it is learnt again."""
        self._tables.pop(table, None)

    def first_seen(
        self, partition: int, users: Sequence[int], buckets: Sequence[int]
    ) -> tuple[list[int], dict[Table, list[Known]]]:
        """The bucket in which each event's user was first seen, and what is to be written down."""
        found: list[int] = []
        fresh: defaultdict[Table, list[Known]] = defaultdict(list)
        epoch, now, past = -1, self._tables[0, -1], self._tables[0, -1]
        for user, bucket in zip(users, buckets, strict=True):
            if bucket // EPOCH != epoch:
                epoch = bucket // EPOCH
                now, past = self._tables[partition, epoch], self._tables[partition, epoch - 1]
            first = now.get(user)
            if first is None:
                first = now[user] = past.get(user, bucket)
                fresh[partition, epoch].append((user, first))
            found.append(first)
        return found, dict(fresh)
