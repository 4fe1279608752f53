"""Every kind of malformed record that `scripts.malformed` knows, a few of each."""

from __future__ import annotations

from collections import Counter

from scripts.chaos.kinds import KINDS
from scripts.malformed import feed, run
from tests.end_to_end.rig import Rig


def test_every_kind_is_buried_for_its_reason_and_its_neighbours_pass(rig: Rig) -> None:
    reasons, trouble = run(rig, seed=1, malformed=2000)
    assert not trouble, trouble[:20]
    assert reasons == Counter(KINDS[name].reason for _, name in feed(1, 2000) if name)
    assert len({name for _, name in feed(1, 2000) if name}) == len(KINDS) >= 30
