"""Attacks spliced into real events leave these as they are."""

from __future__ import annotations

import numpy as np
import pytest

from models.simulate.campaign import campaign
from models.simulate.raid import Raid
from models.simulate.recorded import Recorded
from models.simulate.shop import SimulationConfig, simulate
from models.simulate.splice import behead, splice
from models.simulate.style import STYLES
from stream_app.core.errors import Misconfigured

Raw = dict[str, object]


@pytest.fixture(scope="module")
def events() -> list[Raw]:
    """What stands for a real file here."""
    style = STYLES["taobao"]
    config = SimulationConfig(seed=1, events=8_000, attack_share=0, look_alike_share=0, style=style)
    return [s.event for s in simulate(config)]


def test_real_events_keep_their_content_and_order(events: list[Raw]) -> None:
    spliced, labels = splice(events, 1)
    ids = {e["event_id"] for e in events}
    assert [e for e in spliced if e["event_id"] in ids] == events
    assert [e["event_id"] for e in spliced] == [label.event_id for label in labels]
    assert len({label.event_id for label in labels}) == len(labels)


def test_shares_are_near_those_asked_for(events: list[Raw]) -> None:
    _, labels = splice(events, 2, 0.08, look_alike_rate=0.04)
    assert sum(label.label for label in labels) == pytest.approx(0.08 * len(events), rel=0.15)
    look_alikes = sum(label.look_alike is not None for label in labels)
    assert look_alikes == pytest.approx(0.04 * len(events), rel=0.5)


def test_the_same_seed_splices_the_same(events: list[Raw]) -> None:
    assert splice(events, 4) == splice(events, 4)
    assert splice(events, 4) != splice(events, 5)


def test_varied_campaigns_keep_to_the_rules_of_others(events: list[Raw]) -> None:
    spliced, labels = splice(events, 4, 0.1, varied=True)
    assert (spliced, labels) == splice(events, 4, 0.1, varied=True)
    assert spliced != splice(events, 4, 0.1)[0]
    ids = {e["event_id"] for e in events}
    assert [e for e in spliced if e["event_id"] in ids] == events
    assert {frozenset(e) for e in spliced} == {frozenset(e) for e in events}


def test_a_varied_campaign_hides_by_no_difficulty(events: list[Raw]) -> None:
    def hidden(*, varied: bool) -> list[float]:
        world = Recorded(events, np.random.default_rng(0), 0)
        return [Raid(world, "easy", "new", 0.0, varied=varied).hidden for _ in range(50)]

    assert max(hidden(varied=False)) <= 0.1
    assert max(hidden(varied=True)) > 0.4


def test_some_varied_campaigns_do_what_another_family_does_as_well(events: list[Raw]) -> None:
    def kinds(*mixed: str) -> list[set[str]]:
        world = Recorded(events, np.random.default_rng(1), 0)
        drawn = [
            campaign(world, "scraping", "easy", "new", start_ms=0.0, varied=True, mixed_with=mixed)
            for _ in range(20)
        ]
        return [{s.type for script in scripts for _, s in script.acts} for scripts in drawn]

    alone = sum("cart" in found for found in kinds())
    assert sum("cart" in found for found in kinds("cart_hoarding")) > alone


def test_only_what_is_asked_for_is_spliced(events: list[Raw]) -> None:
    _, labels = splice(events, 3, 0.05, ("scraping",), ("easy",), look_alike_rate=0)
    found = {(x.attack, x.difficulty) for x in labels if x.label}
    assert found == {("scraping", "easy")}
    assert not any(x.look_alike for x in labels)


def test_a_spliced_event_has_the_fields_and_the_time_base_of_the_file(events: list[Raw]) -> None:
    spliced, _ = splice(events, 6, 0.1)
    assert {frozenset(e) for e in spliced} == {frozenset(e) for e in events}
    assert {e["type"] for e in spliced} <= {e["type"] for e in events}
    assert all(isinstance(e["event_time"], int) and e["event_time"] % 1000 == 0 for e in spliced)


def test_sessions_and_missing_ids_are_filled_in_the_manner_of_the_file() -> None:
    config = SimulationConfig(seed=2, events=3_000, attack_share=0, style=STYLES["rees46"])
    events = [{k: v for k, v in s.event.items() if k != "event_id"} for s in simulate(config)]
    spliced, labels = splice(events, 1)
    assert [e["event_id"] for e in spliced] == [label.event_id for label in labels]
    assert all("session_id" in e for e in spliced)


def test_beheaded_users_turn_up_later_and_nothing_else_changes(events: list[Raw]) -> None:
    kept = behead(events, 0.5, np.random.default_rng(1))
    assert 0.5 * len(events) < len(kept) < len(events)
    whole = [e for e in events if e in kept[:50]]
    assert whole == kept[:50]


def test_a_file_without_items_is_refused() -> None:
    with pytest.raises(Misconfigured, match="item_id"):
        splice([{"user_id": "a", "type": "browse", "event_time": 1_000}], 1)
