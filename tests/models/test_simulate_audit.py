"""No single raw field of a single event tells hard attacks from honest events."""

from __future__ import annotations

import numpy as np
import pytest

from models.simulate.audit import area_under_curve, audit, leaks
from models.simulate.shop import SimulationConfig, simulate
from models.simulate.splice import splice
from models.simulate.style import STYLES
from models.simulate.world import Label, Simulated


@pytest.mark.parametrize("name", sorted(STYLES))
def test_no_field_of_a_simulated_shop_leaks(name: str) -> None:
    config = SimulationConfig(
        seed=11, events=50_000, attack_share=0.12, difficulties=("hard",), style=STYLES[name]
    )
    found = audit(simulate(config))
    assert len(found) > 15
    assert not leaks(found)


def test_no_field_of_a_spliced_file_leaks() -> None:
    config = SimulationConfig(seed=12, events=20_000, attack_share=0, style=STYLES["rees46"])
    events = [s.event for s in simulate(config)]
    spliced, labels = splice(events, 3, 0.12, difficulties=("hard",))
    pairs = zip(spliced, labels, strict=True)
    found = audit(Simulated(event, label) for event, label in pairs)
    # The file numbers its events without a gap, so new ids lie past the last.
    assert not {k: v for k, v in leaks(found).items() if not k.startswith("event_id")}


def test_a_field_that_gives_attacks_away_is_found() -> None:
    simulated = [
        Simulated(
            {"user_id": str(n), "event_time": n * 1000, "price": 1.0 + (n % 2) * 9},
            Label(event_id=str(n), label=n % 2, difficulty="hard" if n % 2 else None),
        )
        for n in range(1_000)
    ]
    assert leaks(audit(simulated)) == {"price": 1.0}


def test_the_area_counts_ties_half() -> None:
    positive = np.array([True, True, False, False])
    assert area_under_curve(positive, np.array([1.0, 2.0, 1.0, 0.0])) == 0.875
