"""Bad records on the real way: each a dead letter with its reason, its neighbours unharmed."""

from __future__ import annotations

import gzip
import json
from typing import Any

from stream_app.core.outcome import Output
from tests.end_to_end.rig import Rig, Sent, headers_of, workers

NOW = 1_767_225_600_000


def event(n: int, **changes: Any) -> bytes:
    fields = {"event_id": f"e{n}", "user_id": "u", "type": "click", "event_time": NOW + n * 10}
    return json.dumps(fields | {"item_id": "i1"} | changes).encode()


def without(n: int, name: str) -> bytes:
    fields = json.loads(event(n))
    del fields[name]
    return json.dumps(fields).encode()


# what it is: (key, value, reason; None is accepted)
BAD: dict[str, tuple[bytes | None, bytes | None, str | None]] = {
    "not UTF-8": (b"u", b'{"user_id": "\xff\xfe"}', "not-utf8"),
    "not UTF-8 in an unknown field": (b"u", event(1)[:-1] + b', "x": "\xff"}', "not-utf8"),
    "not JSON": (b"u", b"hello", "not-json"),
    "two values": (b"u", event(3) + event(3), "not-json"),
    "wrong type of a field": (b"u", event(4, item_id=7), "invalid"),
    "wrong type of time": (b"u", event(5, event_time=True), "invalid"),
    "no user": (b"u", without(6, "user_id"), "invalid"),
    "no time": (b"u", without(7, "event_time"), "invalid"),
    "far future": (b"u", event(8, event_time=NOW + 86_400_000), "future"),
    "far past": (b"u2", event(9, user_id="u2", event_time=0), None),
    "far past of a known user": (b"u", event(10, event_time=1000), "late"),
    "1 MB": (b"u", event(11, extra="x" * 1_000_000), None),
    "10 MB query": (b"u", event(12, query="x" * 10_000_000), "invalid"),
    "NaN price": (b"u", event(13, price=float("nan")), "not-json"),
    "unknown type": (b"u", event(14, type="teleport"), "invalid"),
    "key of somebody else": (b"somebody", event(15), "key-mismatch"),
    "no key": (None, event(16), None),
    "tombstone": (b"u", None, "empty"),
    "tombstone without key": (None, None, "empty"),
    "control characters": (b"u\x00\x07", event(18, user_id="u\x00\x07"), None),
    "emoji": ("🛒".encode(), event(19, user_id="🛒", event_id="e-🛒"), None),
    "nested too deeply": (b"u", event(20)[:-1] + b', "x": ' + b"[" * 100_000, "too-deep"),
    "compressed by the producer itself": (b"u", gzip.compress(event(21)), "not-utf8"),
}


def test_bad_records_are_buried_and_their_neighbours_pass(rig: Rig) -> None:
    rig.create_topics(max_message_bytes="20000000")
    records = [Sent(b"u", event(1000), NOW + 1_000_000, 0)]
    for n, (key, value, _) in enumerate(BAD.values()):
        records.append(Sent(key, value, NOW + 1_000_000, 0, [("kind", b"bad")]))
        records.append(Sent(b"u", event(1001 + n), NOW + 2_000_000, 0))
    sent = rig.produce(records)
    with workers(rig) as (worker,):
        rig.await_committed(sent)
        worker.await_ready()
        assert worker.stop()[0] == 0, worker.said()

    passed = [*rig.read(Output.CLEANED), *rig.read(Output.QUARANTINED)]
    dead = {headers_of(d)["kafka_dlt-original-offset"]: d for d in rig.read(Output.DEAD_LETTERS)}
    accepted = [value for _, value, reason in BAD.values() if reason is None]
    neighbours = [event(1000 + n) for n in range(len(BAD) + 1)]
    assert sorted(r.value or b"" for r in passed) == sorted([*accepted, *neighbours])  # type: ignore[type-var]
    assert len(dead) == len(BAD) - len(accepted)
    for n, (name, (key, value, reason)) in enumerate(BAD.items()):
        if reason is not None:
            letter = dead[str(1 + 2 * n)]
            told = headers_of(letter)
            assert (letter.key, letter.value, told["kind"]) == (key, value, "bad"), name
            assert (told["reason"], told["kafka_dlt-original-topic"]) == (reason, rig.input), name
            assert told["detail"], name


def test_every_codec_of_kafka_is_read(rig: Rig) -> None:
    rig.create_topics()
    codecs = ("none", "gzip", "snappy", "lz4", "zstd")
    for n, codec in enumerate(codecs):
        records = [Sent(b"u", event(10 * n + k), NOW + 1000, 0) for k in range(10)]
        rig.produce(records, **{"compression.type": codec})
    with workers(rig) as (worker,):
        rig.await_committed(10 * len(codecs))
        worker.await_ready()
        assert worker.stop()[0] == 0, worker.said()
    passed = [*rig.read(Output.CLEANED), *rig.read(Output.QUARANTINED)]
    assert {r.value for r in passed} == {event(n) for n in range(10 * len(codecs))}


def test_a_record_too_large_for_the_outputs_is_cut_and_stops_nobody(rig: Rig) -> None:
    rig.create_topics(max_message_bytes="1100000")  # of compressed bytes, on the way in
    large = event(1, extra="x" * 5_000_000)
    nearly = event(2, extra="x" * 1_099_000)  # our headers would push it over
    records = [Sent(b"u", value, NOW + 1000, 0) for value in (event(0), large, nearly, event(3))]
    sent = rig.produce(records, **{"compression.type": "zstd"})
    with workers(rig) as (worker,):
        rig.await_committed(sent)
        worker.await_ready()
        assert worker.stop()[0] == 0, worker.said()
    passed = [*rig.read(Output.CLEANED), *rig.read(Output.QUARANTINED)]
    assert [r.value for r in passed] == [event(0), event(3)]
    letters = rig.read(Output.DEAD_LETTERS)
    assert [headers_of(d)["reason"] for d in letters] == ["too-large", "too-large"]
    assert [headers_of(d)["kafka_dlt-original-offset"] for d in letters] == ["1", "2"]
    assert [d.value for d in letters] == [large[:1024], nearly[:1024]]


def test_an_id_used_twice_counts_once_whatever_is_in_it(rig: Rig) -> None:
    rig.create_topics()
    first, second = event(1), event(1, item_id="other", event_time=NOW + 5000)
    sent = rig.produce([Sent(b"u", first, NOW, 0), Sent(b"u", second, NOW + 10_000, 0)])
    with workers(rig) as (worker,):
        rig.await_committed(sent)
        worker.await_ready()
        counted = worker.get("/metrics")
        assert worker.stop()[0] == 0, worker.said()
    passed = [*rig.read(Output.CLEANED), *rig.read(Output.QUARANTINED)]
    assert [r.value for r in passed] == [first]
    assert 'shopsentry_records_total{outcome="duplicates"} 1.0' in counted
