"""Kinds of records that are no events, and the reason for which each must be buried."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from scripts.benchmarks.events import BEGIN_MS

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
