"""A simulated shop: the same for the same seed, in order, valid, with all labels."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from pathlib import Path

import msgspec
import pytest

from models.simulate.attacks import FAMILIES
from models.simulate.look_alikes import LOOK_ALIKES
from models.simulate.shop import SimulationConfig, live, simulate, write
from models.simulate.style import STYLES
from models.simulate.world import DIFFICULTIES, Label, Simulated
from stream_app.core.decode import decode
from stream_app.core.errors import Misconfigured
from stream_app.core.event import Tasks
from stream_app.core.record import StoredRecord

START_MS = 1_800_000_000_000
TASKS = Tasks(
    ("browse", "click", "purchase"),
    {"browse": 0, "search": 0, "cart": 0, "favourite": 0, "click": 1, "purchase": 2},
)


def at_ms(simulated: Simulated) -> int:
    at = simulated.event["event_time"]
    assert isinstance(at, int)
    return at


@pytest.fixture(scope="module")
def week() -> list[Simulated]:
    return list(simulate(SimulationConfig(seed=7, events=60_000, attack_share=0.05)))


def test_the_same_seed_gives_the_same_events_and_another_seed_others() -> None:
    first, again, other = (
        list(simulate(SimulationConfig(seed=seed, events=3_000, late_share=0.02)))
        for seed in (1, 1, 2)
    )
    assert first == again
    assert [s.event for s in first] != [s.event for s in other]


def test_events_come_in_event_time_order(week: list[Simulated]) -> None:
    assert all(at_ms(a) <= at_ms(b) for a, b in itertools.pairwise(week))


def test_late_events_are_few_and_less_than_ten_minutes_late() -> None:
    config = SimulationConfig(seed=3, events=20_000, span_ms=24 * 3_600_000, late_share=0.05)
    newest, delays = 0, []
    for simulated in simulate(config):
        newest = max(newest, at_ms(simulated))
        delays.append(newest - at_ms(simulated))
    assert 0.005 < sum(d > 0 for d in delays) / len(delays) <= 0.06
    assert max(delays) < 600_000


def test_shares_are_near_those_asked_for(week: list[Simulated]) -> None:
    attacks = sum(s.label.label for s in week) / len(week)
    look_alikes = sum(s.label.look_alike is not None for s in week) / len(week)
    assert attacks == pytest.approx(0.05, rel=0.25)
    assert look_alikes == pytest.approx(0.03, rel=0.35)


def test_the_feed_takes_about_the_span_asked_for(week: list[Simulated]) -> None:
    assert at_ms(week[-1]) - at_ms(week[0]) == pytest.approx(SimulationConfig().span_ms, rel=0.15)


def test_every_family_difficulty_and_look_alike_occurs(week: list[Simulated]) -> None:
    assert {s.label.attack for s in week} == {None, *FAMILIES}
    assert {s.label.difficulty for s in week} == {None, *DIFFICULTIES}
    assert {s.label.look_alike for s in week} == {None, *LOOK_ALIKES}


def test_labels_are_complete(week: list[Simulated]) -> None:
    ids = set()
    for event, label in ((s.event, s.label) for s in week):
        ids.add(label.event_id)
        assert event["event_id"] == label.event_id
        truths = (label.attack, label.difficulty, label.campaign, label.place)
        assert all(t is not None for t in truths) if label.label else not any(truths)
        assert not (label.label and label.look_alike)
    assert len(ids) == len(week)


def test_accounts_made_for_an_attack_belong_to_one_campaign(week: list[Simulated]) -> None:
    campaigns: dict[object, set[str | None]] = defaultdict(set)
    for s in week:
        campaigns[s.event["user_id"]].add(s.label.campaign)
    made = {s.event["user_id"] for s in week if s.label.place == "new"}
    assert made
    assert all(len(campaigns[user]) == 1 for user in made)


def test_a_campaign_is_one_family_and_difficulty(week: list[Simulated]) -> None:
    kinds: dict[str | None, set[object]] = defaultdict(set)
    for s in week:
        kinds[s.label.campaign].add((s.label.attack, s.label.difficulty, s.label.place))
    assert all(len(found) == 1 for found in kinds.values())


def test_takeovers_happen_to_accounts_with_an_honest_history(week: list[Simulated]) -> None:
    honest: Counter[object] = Counter()
    before: dict[object, int] = {}
    for s in week:
        if s.label.attack == "account_takeover":
            before.setdefault(s.event["user_id"], honest[s.event["user_id"]])
        elif not s.label.label:
            honest[s.event["user_id"]] += 1
    assert sum(n > 0 for n in before.values()) > 0.8 * len(before)


@pytest.mark.parametrize("name", sorted(STYLES))
def test_every_event_is_valid_and_has_only_what_the_shop_logs(name: str) -> None:
    style = STYLES[name]
    config = SimulationConfig(seed=5, events=4_000, attack_share=0.1, style=style)
    records = [
        StoredRecord(
            topic="shop.events",
            partition=0,
            offset=offset,
            timestamp=at_ms(s),
            key=str(s.event["user_id"]).encode(),
            value=msgspec.json.encode(s.event),
        )
        for offset, s in enumerate(simulate(config))
    ]
    decoded = decode(records, TASKS)
    assert not decoded.rejected
    assert len(decoded.events) == config.events
    types = {e.type for e in decoded.events}
    assert ("search" in types, "cart" in types) == (style.searches, style.carts)
    assert any(e.price is not None for e in decoded.events) == style.prices
    assert any(e.query is not None for e in decoded.events) == (style.queries and style.clicks)
    assert all(e.at_ms % style.granularity_ms == 0 for e in decoded.events)


def test_files_hold_the_same_event_on_the_same_line(tmp_path: Path) -> None:
    write(SimulationConfig(seed=2, events=500), tmp_path / "events", tmp_path / "labels")
    events = [msgspec.json.decode(x) for x in (tmp_path / "events").read_bytes().splitlines()]
    labels = [
        msgspec.json.decode(x, type=Label) for x in (tmp_path / "labels").read_bytes().splitlines()
    ]
    assert len(events) == 500
    assert [e["event_id"] for e in events] == [x.event_id for x in labels]


def test_a_live_feed_runs_at_its_rate_with_attacks_from_the_first_seconds() -> None:
    feed = live(4, 200.0, START_MS)
    minute = list(itertools.takewhile(lambda s: at_ms(s) < START_MS + 60_000, feed))
    assert len(minute) == pytest.approx(60 * 200, rel=0.25)
    assert 0.02 < sum(s.label.label for s in minute) / len(minute) < 0.08
    early = Counter(s.label.difficulty for s in minute if at_ms(s) < START_MS + 10_000)
    assert early["easy"] + early["medium"] >= 20
    assert early["easy"]
    assert early["medium"]
    assert len({s.event["user_id"] for s in minute}) > 2_000


def test_people_keep_a_human_pace_in_a_live_feed() -> None:
    last: dict[object, int] = {}
    gaps_s = []
    for s in itertools.islice(live(4, 200.0, START_MS), 40_000):
        if s.label.label or s.label.look_alike:
            continue
        user = s.event["user_id"]
        if user in last:
            gaps_s.append((at_ms(s) - last[user]) / 1000)
        last[user] = at_ms(s)
    gaps_s.sort()
    assert 5 < gaps_s[len(gaps_s) // 2] < 30


def test_an_unknown_family_is_refused_with_those_there_are() -> None:
    with pytest.raises(Misconfigured, match=r"no family 'phishing'; there are click_fraud, .*"):
        next(simulate(SimulationConfig(families=("phishing",))))
