"""A state for each source, in Redis: values by key, and the offset that all of them are as of.

Keys begin with <prefix>:{<partition>}:k:<source tag><form>: and go on with

    at                        the offset after the last record, 20 digits
    answers                   a hash: end of a step -> its answer
    <kind><number, 8 bytes>   a value; gone when it was not written for TTL_S
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Final

from stream_app.core.ports import SITE, Advance, Key, Stored
from stream_app.core.record import Source
from stream_app.core.window import source_tag
from stream_app.edges.redis_client import Client, Script, replies_of, values_of

# Counters forget after 30 days of event time. Clocks may be two days ahead, and records may have
# waited in Kafka, which keeps a week of them unless told otherwise.
TTL_S: Final = 37 * 24 * 3600


class RedisState:
    """A `StateStore`."""

    def __init__(self, client: Client, prefix: str, *, executor: Executor) -> None:
        self._client = client
        self._executor = executor
        self._prefix = prefix
        self._advance: Script[int] = Script(client, executor, "state.lua")

    async def begin(self, source: Source, form: str) -> Stored:
        head = self._head(source, form)
        at, kept = _whole(head)
        # No script: a thousand answers would take it 2 ms. How far it is comes first, so if a step
        # is taken in between, the next one from here is refused.
        end, site, answers = await replies_of(
            self._client,
            self._executor,
            [(b"GET", at), (b"GET", _name(head, SITE)), (b"HVALS", kept)],
        )
        return Stored(int(end or 0), site, answers)

    async def read(self, source: Source, form: str, keys: Sequence[Key]) -> list[bytes | None]:
        head = self._head(source, form)
        return await values_of(self._client, self._executor, [_name(head, key) for key in keys])

    async def advance(self, source: Source, form: str, step: Advance) -> bool:
        head = self._head(source, form)
        offsets = [b"%020d" % at for at in (step.begin, step.end, step.committed)]
        taken = await self._advance(
            [*_whole(head), *(_name(head, key) for key in step.values)],
            (*offsets, TTL_S, step.answer, *step.values.values()),
        )
        return taken == 1

    def _head(self, source: Source, form: str) -> bytes:
        tag = source_tag(source.topic)
        return f"{self._prefix}:{{{source.partition}}}:k:{tag:04x}{form}:".encode()


def _whole(head: bytes) -> list[bytes]:
    return [head + b"at", head + b"answers"]


def _name(head: bytes, key: Key) -> bytes:
    kind, number = key
    return head + kind + number.to_bytes(8, "little")
