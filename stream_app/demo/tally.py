"""Adding up: every record's outcome, what was found of the attacks, how fast an alert came.

Counts come from the topics. Two threads write here, a third reads: one lock. Times are monotonic
seconds since the screen opened.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Sequence
from typing import Final

from msgspec import Struct, field

from models.simulate.world import Label
from stream_app.core.messages import AlertData, CampaignData
from stream_app.core.outcome import Output
from stream_app.demo.shop import BEFORE, EVENT

NEWEST: Final = 40


class Account(Struct, frozen=True):
    """Where the input went. It adds up, or records are lost or doubled."""

    input: int
    cleaned: int
    quarantined: int
    dead_letters: int
    duplicates: int

    @property
    def ended(self) -> int:
        return self.cleaned + self.quarantined + self.dead_letters + self.duplicates

    @property
    def adds_up(self) -> bool:
        return self.input == self.ended


class Found(Struct):
    """Of one kind of behaviour: how many events were decided, and how many as anomalous."""

    events: int = 0
    anomalous: int = 0

    def add(self, anomalous: bool) -> None:
        self.events += 1
        self.anomalous += anomalous

    @property
    def share(self) -> float:
        return self.anomalous / self.events if self.events else 0.0


class Campaign(Struct):
    """One attack, by the simulator's truth."""

    family: str
    difficulty: str
    last_s: float = 0.0  # when its newest event was sent
    sent: int = 0
    users: set[bytes] = field(default_factory=set)
    found: int = 0


class SeenAlert(Struct, frozen=True):
    """An alert, when it was seen, and what the simulator says it was."""

    data: AlertData
    at_s: float
    truth: Label | None


class Truth(Struct):
    """Decisions against the simulator's truth."""

    families: dict[str, Found] = field(default_factory=dict)
    look_alikes: Found = field(default_factory=Found)
    honest: Found = field(default_factory=Found)

    def add(self, label: Label, anomalous: bool) -> None:
        if label.attack is not None:
            self.families.setdefault(label.attack, Found()).add(anomalous)
        elif label.look_alike is not None:
            self.look_alikes.add(anomalous)
        else:
            self.honest.add(anomalous)

    @property
    def attacks(self) -> Found:
        every = self.families.values()
        return Found(sum(f.events for f in every), sum(f.anomalous for f in every))

    @property
    def precision(self) -> float | None:
        """Of the events called anomalous, the share that was part of an attack."""
        right = self.attacks.anomalous
        called = right + self.look_alikes.anomalous + self.honest.anomalous
        return right / called if called else None

    @property
    def recall(self) -> float | None:
        """Of the events that were part of an attack, the share called anomalous."""
        return self.attacks.share if self.attacks.events else None


class Tally:
    """What was sent, and what came of it."""

    def __init__(self, *, tracked: bool) -> None:
        """`tracked`: the feed has a truth for each event, and ids of its own."""
        self._tracked = tracked
        self.lock = threading.RLock()
        self.sent: Counter[str] = Counter()  # by kind: event, broken, repeated
        self.outputs: Counter[Output] = Counter()
        self.dead: Counter[str] = Counter()  # by reason
        self.truth = Truth()
        self.campaigns: dict[str, Campaign] = {}
        self.newest: deque[SeenAlert] = deque(maxlen=NEWEST)
        self.gangs: dict[str, CampaignData] = {}  # campaigns as the worker tells them, by id
        self.latencies_s: list[float] = []  # of alerts, in the order seen
        self.first_alert_s: float | None = None
        self.duplicates = 0  # by the worker's word: no topic has them
        self.twice = 0  # outcomes of events that had one already
        self._awaited: dict[str, tuple[Label, bool]] = {}  # event id: no outcome yet; if it counts
        self._special: dict[str, Label] = {}  # attacks and look-alikes, for their alerts

    # -- told by the feed -----------------------------------------------------------------------

    def send(self, kind: str, at_s: float, key: bytes | None, label: Label | None) -> None:
        """`at_s` is now; `label` is given for events whose truth is known."""
        with self.lock:
            self.sent[kind] += 1
            if not self._tracked or label is None or kind not in (EVENT, BEFORE):
                return
            self._awaited[label.event_id] = (label, kind == EVENT)
            if label.attack is None and label.look_alike is None:
                return
            self._special[label.event_id] = label
            if label.attack is not None and label.campaign is not None:
                campaign = self.campaigns.setdefault(
                    label.campaign, Campaign(label.attack, label.difficulty or "")
                )
                campaign.last_s = at_s
                campaign.sent += 1
                campaign.users.add(key or b"")

    # -- told by the watch ----------------------------------------------------------------------

    def decide(self, output: Output, event_id: str | None) -> None:
        """A record came out as cleaned or quarantined."""
        anomalous = output is Output.QUARANTINED
        with self.lock:
            self.outputs[output] += 1
            settled = self._settle(event_id)
            if settled is None:
                return
            label, counts = settled
            if counts:
                self.truth.add(label, anomalous)
            if anomalous and label.campaign in self.campaigns:
                self.campaigns[label.campaign].found += 1

    def bury(self, reason: str, event_id: str | None) -> None:
        """A record came out as a dead letter."""
        with self.lock:
            self.outputs[Output.DEAD_LETTERS] += 1
            self.dead[reason] += 1
            if event_id in self._awaited:  # a broken record is none of those
                self._settle(event_id)

    def alert(self, data: AlertData | None, at_s: float, latency_s: float | None) -> None:
        """`latency_s`: from send to seen, unless it was sent in a burst."""
        with self.lock:
            self.outputs[Output.ALERTS] += 1
            if self.first_alert_s is None:
                self.first_alert_s = at_s
            if latency_s is not None:
                self.latencies_s.append(latency_s)
            if data is not None:
                truth = self._special.get(data.event_id)
                self.newest.appendleft(SeenAlert(data, at_s, truth))

    def gather(self, data: CampaignData) -> None:
        """News of a campaign."""
        with self.lock:
            was = self.gangs.pop(data.campaign_id, None)
            newer = was is None or was.events <= data.events
            self.gangs[data.campaign_id] = data if newer or was is None else was

    def truth_of(self, data: CampaignData) -> Label | None:
        """What the simulator says of most of its users' first events; None: nothing special."""
        with self.lock:
            labels = [self._special.get(member.first_event_id) for member in data.members]
        names = [label and (label.campaign or label.look_alike) for label in labels]
        most = max(names, key=names.count)
        return labels[names.index(most)] if 2 * names.count(most) > len(names) else None

    # -- asked by the rest ----------------------------------------------------------------------

    @property
    def total_sent(self) -> int:
        return self.sent.total()

    @property
    def scored(self) -> int:
        return self.outputs[Output.CLEANED] + self.outputs[Output.QUARANTINED]

    @property
    def awaited(self) -> int:
        """Events without an outcome, as far as their ids are known."""
        return len(self._awaited)

    @property
    def open_records(self) -> int:
        """Records without an outcome, as far as is known."""
        return self.total_sent - self.account(0).ended

    def account(self, input_records: int) -> Account:
        with self.lock:
            return Account(
                input_records,
                self.outputs[Output.CLEANED],
                self.outputs[Output.QUARANTINED],
                self.outputs[Output.DEAD_LETTERS],
                self.duplicates,
            )

    def under_way(self, now_s: float, quiet_s: float = 10.0) -> list[Campaign]:
        """Attacks that sent something lately, the latest begun first."""
        with self.lock:
            running = [c for c in self.campaigns.values() if now_s - c.last_s < quiet_s]
        return running[::-1]

    def _settle(self, event_id: str | None) -> tuple[Label, bool] | None:
        """The event has its outcome; its truth, and whether that counts."""
        if not self._tracked or event_id is None:
            return None
        settled = self._awaited.pop(event_id, None)
        if settled is None:
            self.twice += 1
        return settled


def quantile(values: Sequence[float], share: float) -> float | None:
    """The value that `share` of the values do not exceed."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
