"""Stage 6b: campaigns in Redis, by one script call for the anomalous events of a group, and one
more where there is something to tell.

    key    <prefix>:{campaigns}:<kind>:<name>   the log of an item, query or device: a list of rows
    key    <prefix>:{campaigns}:open            campaigns that may be closed, by their last event
    key    <prefix>:{campaigns}:told            what was told of them last
    key    <prefix>:{campaigns}:closed          those that were closed lately, and by which event

A campaign's events come from all partitions, so the logs are not kept by partition: workers share
them, on one shard, as anomalous events are few. What an event tells follows from the log up to it
(`core.campaign`); the script (campaigns.lua) only appends what is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from stream_app.core.campaign import (
    CampaignPolicy,
    News,
    Row,
    Sighting,
    Thing,
    told_of,
)
from stream_app.core.coordination import Member
from stream_app.edges.redis_client import Client, Script

GRACE_S: Final = 3600
HEAD: Final = 36  # bytes of a row before what is kept of the event

_encode = msgspec.msgpack.Encoder().encode
_member = msgspec.msgpack.Decoder(Member).decode
_news = msgspec.msgpack.Decoder(News).decode


class RedisCampaigns:
    """A `CampaignStore`."""

    def __init__(
        self, client: Client, prefix: str, policy: CampaignPolicy, *, executor: Executor
    ) -> None:
        self._policy = policy
        self._head = f"{prefix}:{{campaigns}}:"
        self._own = [self._head.encode() + name for name in (b"open", b"told", b"closed")]
        self._ttl_s = -(-policy.span_ms // 1000) + GRACE_S
        settings = (policy.quiet_ms, policy.span_ms, policy.kept, policy.closings)
        self._settings = (*settings, self._ttl_s)
        self._join: Script[list[Any]] = Script(client, executor, "campaigns.lua")
        self._tell: Script[None] = Script(client, executor, "campaigns_told.lua")

    async def follow(self, sightings: Sequence[Sighting]) -> list[list[News]]:
        """See `ports.CampaignStore`. Raises StoreUnavailable, Misconfigured."""
        if not sightings:
            return []
        numbers: dict[Thing, int] = {}
        args: list[bytes | int] = [*self._settings]
        for s in sightings:
            own = [numbers.setdefault(thing, len(numbers) + 1) for thing in s.things]
            args += [_id(s.id), s.at_ms, ",".join(map(str, own)).encode(), _encode(s.member)]
        logs, places, closed = await self._join([*self._own, *map(self._key, numbers)], args)
        rows = [[_row(packed) for packed in log] for log in logs]
        found: list[list[News]] = []
        told: list[bytes | int] = []
        for sighting, own_places, over in zip(sightings, places, closed, strict=True):
            of = [rows[numbers[thing] - 1] for thing in sighting.things]
            at_places = list(zip(of, own_places, strict=True)) if own_places else []
            news = told_of(sighting, at_places, self._policy)
            for one in news:
                log, place = at_places[sighting.things.index(one.thing)]
                run = log[place].run
                told += [self._key(one.thing) + _id(run), one.events, one.last_ms, _encode(one)]
            found.append([*map(_closed, over), *news])
        if told:
            await self._tell(self._own[:2], [self._ttl_s, *told])
        return found

    def _key(self, thing: Thing) -> bytes:
        return f"{self._head}{thing.kind}:{thing.name}".encode()


def _id(number: int) -> bytes:
    return number.to_bytes(8, "little")


def _number(packed: bytes) -> int:
    return int.from_bytes(packed, "little")


def _row(packed: bytes) -> Row:
    return Row(
        _number(packed[:8]),
        _number(packed[8:16]),
        _number(packed[16:20]),
        _number(packed[20:28]),
        _number(packed[28:36]),
        _member(packed[HEAD:]),
    )


def _closed(packed: bytes) -> News:
    """Last ms (8), events (4), what was told."""
    news = _news(packed[12:])
    return replace(news, last_ms=max(news.last_ms, _number(packed[:8])), closed=True)
