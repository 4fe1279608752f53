"""What is sent: people as they are, now; some records broken, some twice."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from models.schema import load
from stream_app.core.decode import decode
from stream_app.core.errors import Misconfigured
from stream_app.core.layout import Format
from stream_app.core.record import StoredRecord
from stream_app.demo.faults import BROKEN, REPEATED, with_faults
from stream_app.demo.shop import BEFORE, EVENT, Due, FiledShop, SimulatedShop

NOW_MS = 1_800_000_000_000


def time_of(due: Due) -> int:
    return int(msgspec.json.decode(due.value)["event_time"])


def test_the_simulated_shop_has_a_past_and_goes_on_now() -> None:
    shop = SimulatedShop(seed=1, rate=100)
    shop.prepare()
    history = list(shop.history(NOW_MS))
    later_ms = NOW_MS + 5_000
    events = list(itertools.islice(shop.open(later_ms), 500))
    assert {due.kind for due in history} == {BEFORE}
    assert {due.kind for due in events} == {EVENT}
    assert all(NOW_MS - 60_000 <= time_of(due) < NOW_MS for due in history)
    assert all(time_of(due) == pytest.approx(later_ms + 1000 * due.at_s, abs=1) for due in events)
    assert all(a.at_s <= b.at_s for a, b in itertools.pairwise(history + events))
    assert 2 < events[-1].at_s < 10


def test_a_faulty_feed_breaks_and_repeats_some_records_and_loses_none() -> None:
    feed = [
        Due(
            n / 100,
            b"u",
            msgspec.json.encode(
                {"event_id": str(n), "user_id": "u", "type": "click", "event_time": NOW_MS}
            ),
        )
        for n in range(20_000)
    ]
    sent = list(with_faults(iter(feed), seed=1))
    kinds = Counter(due.kind for due in sent)
    assert [due for due in sent if due.kind == EVENT] == feed
    assert 20 <= kinds[BROKEN] <= 80
    assert 20 <= kinds[REPEATED] <= 80
    assert {due.value for due in sent if due.kind == REPEATED} <= {due.value for due in feed}
    broken = [
        StoredRecord(
            topic="t", partition=0, offset=n, timestamp=NOW_MS, key=due.key, value=due.value
        )
        for n, due in enumerate(d for d in sent if d.kind == BROKEN)
    ]
    found = decode(broken, load("shop").tasks)
    assert not found.events
    reasons = {rejected.reason for rejected in found.rejected}
    assert reasons == {"not-json", "not-utf8", "invalid", "future", "key-mismatch"}


def test_a_file_goes_in_the_order_of_its_times(tmp_path: Path) -> None:
    file = tmp_path / "events.csv"
    file.write_text("1,10,7,pv,1511658000\n2,11,7,buy,1511544070\n2,11,7,dance,1511544071\n")
    shop = FiledShop(file, Format.TAOBAO, rate=10)
    shop.prepare()
    sent = list(shop.open(NOW_MS))
    assert [(due.key, due.at_s) for due in sent] == [(b"2", 0.0), (b"1", 0.1)]
    assert shop.skipped == 1


def test_a_file_without_events_is_told(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("\n")
    with pytest.raises(Misconfigured, match="no events"):
        FiledShop(file, None, rate=10).prepare()
    with pytest.raises(Misconfigured, match="no file"):
        FiledShop(tmp_path / "none.jsonl", None, rate=10)
