"""What an event is told of its item's visitors, said naively: from all visits there ever were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from stream_app.core.crowd import KEPT, SPAN


class Visit(NamedTuple):
    """One user at a thing in one bucket, with the marks of all they did there then."""

    bucket: int
    user: int
    marks: int


def crowd_before(visits: Sequence[Visit], bucket: int) -> list[Visit]:
    """Of every user the newest visit before `bucket`; of these the newest KEPT, ascending."""
    newest: dict[int, Visit] = {}
    for visit in visits:
        if visit.bucket >= bucket:
            continue
        old = newest.get(visit.user)
        if old is None or old.bucket < visit.bucket:
            newest[visit.user] = visit
        elif old.bucket == visit.bucket:
            newest[visit.user] = visit._replace(marks=old.marks | visit.marks)
    return sorted(newest.values())[-KEPT:]


def told(visits: Sequence[Visit], bucket: int, user: int) -> tuple[list[int], int]:
    """Ages in buckets, ascending, of the others' visits of the last SPAN, and how many they are."""
    ages = sorted(
        bucket - v.bucket
        for v in crowd_before(visits, bucket)
        if v.user != user and bucket - v.bucket <= SPAN
    )
    return ages, len(ages)
