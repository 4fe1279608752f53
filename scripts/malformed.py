"""Malformed records among valid ones, through a real worker: each buried for its reason.

    .venv/bin/python -m scripts.malformed --records 100000

Every malformed record has a kind, and every kind its reason; between two of them stands a valid
record. Afterwards the dead letters are compared with what was sent, one by one, and the audit looks
at all the rest. Ends with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from scripts.benchmarks.events import BEGIN_MS
from scripts.chaos import FreeWorker, judged
from stream_app.core.outcome import Output
from tests.end_to_end.rig import Rig, Sent, headers_of
from tests.servers import KafkaBroker, RedisServer

USERS: Final = 997
LONG: Final = 5000
Make = Callable[[dict[str, Any], random.Random], bytes | None]


class Kind(NamedTuple):
    make: Make  # from a valid event's fields
    reason: str
    key: bytes | None = None  # instead of the user's


def _with(**changes: Any) -> Make:
    return lambda event, _: json.dumps(event | changes).encode()


def _without(name: str) -> Make:
    return lambda event, _: json.dumps({k: v for k, v in event.items() if k != name}).encode()


def _text(change: Callable[[bytes], bytes]) -> Make:
    return lambda event, _: change(json.dumps(event).encode())


def _noise(_: dict[str, Any], draw: random.Random) -> bytes:
    return b"\xff" + draw.randbytes(draw.randint(1, 200))


KINDS: Final[dict[str, Kind]] = {
    "no value": Kind(lambda *_: None, "empty"),
    "an empty value": Kind(lambda *_: b"", "empty"),
    "noise": Kind(_noise, "not-utf8"),
    "compressed": Kind(_text(lambda b: gzip.compress(b, mtime=0)), "not-utf8"),
    "deflated": Kind(_text(zlib.compress), "not-utf8"),
    "Latin-1": Kind(_text(lambda b: b.replace(b"i1", "é".encode("latin-1"))), "not-utf8"),
    "UTF-16": Kind(_text(lambda b: b.decode().encode("utf-16")), "not-utf8"),
    "a lone continuation byte": Kind(_text(lambda b: b[:-1] + b', "x": "\x80"}'), "not-utf8"),
    "words": Kind(lambda *_: b"hello", "not-json"),
    "one brace": Kind(lambda *_: b"{", "not-json"),
    "white space": Kind(lambda *_: b"  \n\t", "not-json"),
    "cut off": Kind(_text(lambda b: b[: len(b) // 2]), "not-json"),
    "two values": Kind(_text(lambda b: b + b), "not-json"),
    "a comma too many": Kind(_text(lambda b: b[:-1] + b",}"), "not-json"),
    "single quotes": Kind(_text(lambda b: b.replace(b'"', b"'")), "not-json"),
    "not a number": Kind(_text(lambda b: b[:-1] + b', "price": NaN}'), "not-json"),
    "a comment": Kind(_text(lambda b: b"// event\n" + b), "not-json"),
    "a byte order mark": Kind(_text(lambda b: b"\xef\xbb\xbf" + b), "not-json"),
    "CSV": Kind(lambda e, _: ",".join(map(str, e.values())).encode(), "not-json"),
    "XML": Kind(lambda *_: b"<event/>", "not-json"),
    "a list": Kind(_text(lambda b: b"[" + b + b"]"), "invalid"),
    "null": Kind(lambda *_: b"null", "invalid"),
    "a number": Kind(lambda *_: b"42", "invalid"),
    "a string": Kind(_text(lambda b: json.dumps(b.decode()).encode()), "invalid"),
    "an empty object": Kind(lambda *_: b"{}", "invalid"),
    "no user": Kind(_without("user_id"), "invalid"),
    "no type": Kind(_without("type"), "invalid"),
    "no time": Kind(_without("event_time"), "invalid"),
    "an empty user": Kind(_with(user_id=""), "invalid"),
    "a user that is a number": Kind(_with(user_id=7), "invalid"),
    "a user too long": Kind(_with(user_id="u" * LONG), "invalid"),
    "an unknown type": Kind(_with(type="teleport"), "invalid"),
    "an empty id": Kind(_with(event_id=""), "invalid"),
    "an id too long": Kind(_with(event_id="e" * LONG), "invalid"),
    "time as truth": Kind(_with(event_time=True), "invalid"),
    "time as words": Kind(_with(event_time="yesterday"), "invalid"),
    "time without a zone": Kind(_with(event_time="2026-01-01T00:00:00"), "invalid"),
    "time before 1970": Kind(_with(event_time=-1), "invalid"),
    "time beyond all years": Kind(_with(event_time=1 << 62), "invalid"),
    "far ahead": Kind(_with(event_time=BEGIN_MS + 10**10), "future"),
    "a price below 0": Kind(_with(price=-0.01), "invalid"),
    "a price of words": Kind(_with(price="free"), "invalid"),
    "no quantity": Kind(_with(quantity=0), "invalid"),
    "a position below 0": Kind(_with(position=-1), "invalid"),
    "an item in an object": Kind(_with(item_id={"id": 1}), "invalid"),
    "a query too long": Kind(_with(query="q" * LONG), "invalid"),
    "attributes as a list": Kind(_with(attributes=[1]), "invalid"),
    "attributes within attributes": Kind(_with(attributes={"a": {"b": 1}}), "invalid"),
    "nested too deeply": Kind(_text(lambda b: b[:-1] + b', "x": ' + b"[" * 100_000), "too-deep"),
    "another user's key": Kind(_text(bytes), "key-mismatch", b"somebody else"),
    "a key that is no text": Kind(_text(bytes), "key-mismatch", b"\xff\xfe"),
    "an envelope around nothing": Kind(
        lambda *_: b'{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": {}}',
        "invalid",
    ),
}
RARE: Final = {"nested too deeply": 0.01}  # 100 KB each


def feed(seed: int, malformed: int) -> Iterator[tuple[Sent, str | None]]:
    """A valid record, then a malformed one with its kind, and so on; a valid one ends it."""
    draw = random.Random(seed)
    names = list(KINDS)
    weights = [RARE.get(name, 1.0) for name in names]
    for at in range(malformed + 1):
        at_ms = BEGIN_MS + at * 10
        user = f"u{at % USERS}"
        event = {"event_id": f"v{at}", "user_id": user, "type": "click", "event_time": at_ms}
        event |= {"item_id": "i1"}
        yield Sent(user.encode(), json.dumps(event).encode(), at_ms), None
        if at == malformed:
            return
        name = names[at] if at < len(names) else draw.choices(names, weights)[0]
        kind = KINDS[name]
        bad = {**event, "event_id": f"m{at}"}
        value, key = kind.make(bad, draw), kind.key or user.encode()
        yield Sent(key, value, at_ms, None, [("kind", name.encode())]), name


def run(rig: Rig, seed: int, malformed: int) -> tuple[Counter[str], list[str]]:
    """Dead letters by reason, and what differs, in words."""
    rig.create_topics()
    sent = list(feed(seed, malformed))
    worker = FreeWorker(rig)
    try:
        count = rig.produce(record for record, _ in sent)
        rig.await_committed(count, 900)
        worker.await_ready()
        code, _ = worker.stop()
    finally:
        worker.close()
    trouble = [] if code == 0 else [f"the worker ended with {code}"]
    reasons: Counter[str] = Counter()
    buried: Counter[tuple[str, bytes | None, bytes | None]] = Counter()
    for letter in rig.read(Output.DEAD_LETTERS):
        told = headers_of(letter)
        reasons[told["reason"]] += 1
        buried[told.get("kind", ""), letter.key, letter.value] += 1
        if told["reason"] != KINDS[told["kind"]].reason:
            trouble.append(f"{told['kind']}: {told['reason']} ({told['detail']})")
    wanted = Counter((name, r.key, r.value) for r, name in sent if name is not None)
    trouble += [f"not buried as sent: {one[0]}" for one in (wanted - buried)]
    trouble += [f"buried, but not sent: {one[0]}" for one in (buried - wanted)]
    passed = Counter(r.value for k in (Output.CLEANED, Output.QUARANTINED) for r in rig.read(k))
    if passed != Counter(record.value for record, name in sent if name is None):
        trouble.append("the valid records did not all pass, once each")
    report = judged(rig, exactly_once=True, forgotten=False)
    trouble += [f"{d.kind} {d.place}: {d.detail}" for d in report.differences]
    return reasons, trouble


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=100_000, help="malformed ones")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisServer(Path(folder, "redis")) as store,
        KafkaBroker(Path(folder, "kafka")) as broker,
    ):
        reasons, trouble = run(Rig(broker, store, Path(folder)), given.seed, given.records)
    print(f"{given.records:,} malformed records of {len(KINDS)} kinds, as many valid ones")
    print(", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common()))
    print("\n".join(trouble[:50]) or "each buried for its reason; every valid record passed")
    sys.exit(1 if trouble else 0)


if __name__ == "__main__":
    main()
