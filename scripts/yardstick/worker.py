"""What a good colleague would write first: the same design, an event at a time.

A stock Faust agent, json, Redis commands one after another, one window at a time through the model,
one message sent. Kept to be measured against, generous where one could argue: events are checked
less, sends are not awaited to their confirmation, rows are stored as small as ours, windows are not
padded, an anomaly gets an alert without a cool-down and reasons, and nobody looks for duplicates.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faust
import numpy as np
import redis.asyncio

from models.encoding import SchemaEncoder
from scripts.benchmarks.scorers import free, model
from scripts.yardstick.windows import SIZE, slide
from stream_app.core.event import Event
from stream_app.core.score import Floats
from stream_app.core.window import Ints, Rows, Windows

THRESHOLD = 0.5
Score = Callable[[Windows, Ints], Floats]


def one_window(rows: Rows) -> Windows:
    """A user's rows as a batch of one; the model is asked about the newest."""
    index = np.maximum(np.arange(len(rows) - SIZE, len(rows)), 0)[None, :]
    return Windows(rows, index, np.array([min(len(rows), SIZE)]))


def make_app(
    bootstrap: str,
    redis_url: str,
    topic: str,
    prefix: str,
    group: str,
    encoder: SchemaEncoder,
    score: Score,
    version: str,
    session_s: float,
) -> faust.App:
    app = faust.App(
        group,
        broker=f"kafka://{bootstrap}",
        datadir=tempfile.mkdtemp(prefix="yardstick-"),
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=session_s,
        broker_heartbeat_interval=min(3.0, session_s / 3),
    )
    events = app.topic(topic, value_serializer="raw")
    outputs = {
        name: app.topic(prefix + name, value_serializer="raw")
        for name in ("cleaned", "quarantined", "alerts", "dead-letters")
    }
    client = redis.asyncio.Redis.from_url(redis_url)
    tasks = encoder.schema.tasks

    @app.agent(events)  # type: ignore[untyped-decorator]
    async def watch(stream: Any) -> None:
        async for record in stream.events():
            try:
                told = json.loads(record.value)
                event = Event(
                    user_id=told["user_id"],
                    type=told["type"],
                    at_ms=told["event_time"],
                    event_id=told["event_id"],
                    item_id=told.get("item_id"),
                    category_id=told.get("category_id"),
                    query=told.get("query"),
                    price=told.get("price"),
                    position=told.get("position"),
                    quantity=told.get("quantity"),
                )
                task = tasks.of_type[event.type]
            except (ValueError, KeyError) as error:
                reason = [("reason", repr(error).encode())]
                await outputs["dead-letters"].send(
                    key=record.key, value=record.value, headers=reason
                )
                continue
            window = await slide(client, event.user_id, encoder.encode([event]))
            found = float(score(one_window(window), np.array([task]))[0])
            headers = [
                ("score", f"{found:.3f}".encode()),
                ("task", tasks.names[task].encode()),
                ("model", version.encode()),
            ]
            anomalous = found >= THRESHOLD
            output = outputs["quarantined" if anomalous else "cleaned"]
            await output.send(key=record.key, value=record.value, headers=headers)
            if anomalous:
                alert = {"id": event.event_id, "user": event.user_id, "score": found}
                await outputs["alerts"].send(key=record.key, value=json.dumps(alert).encode())

    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("--kafka", "--redis", "--topic", "--prefix", "--group", "--scorer", "--bundle"):
        parser.add_argument(name, required=True)
    parser.add_argument("--session", type=float, default=60.0, help="s; Faust's own default")
    given = parser.parse_args()
    encoder, score, version = free() if given.scorer == "free" else model(Path(given.bundle))
    app = make_app(
        given.kafka,
        given.redis,
        given.topic,
        given.prefix,
        given.group,
        encoder,
        score,
        version,
        given.session,
    )
    sys.argv = ["yardstick", "worker", "--loglevel", "warn"]
    app.main()


if __name__ == "__main__":
    main()
