"""Quix Streams as its documentation has it: a message at a time, windows in its own state.

RocksDB beside the worker and a changelog topic, not Redis: nobody else sees the windows, and
another worker has them once it has read the changelog. It begins with none.
"""

from __future__ import annotations

from typing import Any

from quixstreams import Application, State, message_context  # type: ignore[import-not-found]
from quixstreams.models import Serializer  # type: ignore[import-not-found]

from scripts.peers.job import ROW, SIZE, SLACK, Headers, Job, Message, Told, add, given

KEPT = (SIZE + SLACK) * ROW.size  # bytes
OUTPUTS = ("cleaned", "quarantined", "alerts", "dead-letters")


class Value(Serializer):  # type: ignore[misc]
    def __call__(self, value: Message, ctx: object) -> bytes | None:
        return value.value


def main() -> None:
    told = given()
    app = Application(
        broker_address=told.kafka,
        consumer_group=told.group,
        auto_offset_reset="earliest",
        state_dir=told.state,
        broker_availability_timeout=0,
        loglevel="WARNING",
    )
    topics = {
        name: app.topic(name, key_serializer="bytes", value_serializer=Value())
        for name in (told.prefix + output for output in OUTPUTS)
    }
    events = app.topic(told.topic, key_deserializer="bytes", value_deserializer="bytes")
    job = Job(None, told.prefix)

    def judge(value: bytes, key: bytes, at: int, headers: Any, state: State) -> list[Message]:
        found = job.read(key, value, message_context().offset)
        if not isinstance(found, Told):
            return [found]
        log = bytearray(state.get_bytes("log", b""))
        window = add(log, found.row)
        state.set_bytes("log", bytes(log[-KEPT:]))
        return job.answer([found], [window])

    def headers_of(message: Message, key: bytes, at: int, headers: Any) -> Headers:
        return message.headers

    def topic_of(message: Message, key: bytes, at: int, headers: Any) -> object:
        return topics[message.topic]

    sdf = app.dataframe(events).apply(judge, stateful=True, metadata=True, expand=True)
    sdf.set_headers(headers_of).to_topic(topic_of)
    app.run()


if __name__ == "__main__":
    main()
