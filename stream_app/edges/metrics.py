"""Prometheus metrics of one worker. Names with units; nothing of any user in them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from stream_app.core.errors import StoreUnavailable
from stream_app.core.outcome import COALESCED, OUTCOMES, Outcome, Output
from stream_app.core.record import Record, Source

LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600, 3600)
GROUP_RECORDS = (1, 4, 16, 64, 256, 1024, 2048, 4096)


class PrometheusMeter:
    """A `Meter` that keeps what /metrics shows and what /health needs."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.waiting_since: dict[Source, float] = {}  # monotonic s: partitions that stand still
        self.waiting_for = ""
        self.last_group_s = time.monotonic()
        self._records = Counter(
            "shopsentry_records", "input records by outcome", ["outcome"], registry=self.registry
        )
        self._dead = Counter(
            "shopsentry_dead_letters", "dead letters by reason", ["reason"], registry=self.registry
        )
        self._alerts = Counter("shopsentry_alerts", "alerts published", registry=self.registry)
        self._scored = Counter("shopsentry_scored", "windows scored", registry=self.registry)
        self._coalesced = Counter(
            "shopsentry_coalesced",
            "windows cut to share a pass, as the worker was behind",
            registry=self.registry,
        )
        self._retries = Counter(
            "shopsentry_store_retries", "steps repeated since Redis failed", registry=self.registry
        )
        self._lag = Gauge(
            "shopsentry_lag_records",
            "records behind",
            ["topic", "partition"],
            registry=self.registry,
        )
        self._group_s = Histogram(
            "shopsentry_group_seconds",
            "from a group's first step to its ack",
            buckets=LATENCY_S,
            registry=self.registry,
        )
        self._group_records = Histogram(
            "shopsentry_group_records",
            "records in a group",
            buckets=GROUP_RECORDS,
            registry=self.registry,
        )
        self._latency_s = Histogram(
            "shopsentry_latency_seconds",
            "from a group's oldest record's Kafka time to its ack",
            buckets=LATENCY_S,
            registry=self.registry,
        )
        for outcome in OUTCOMES:
            self._records.labels(outcome)

    def group(
        self, source: Source, records: Sequence[Record], outcome: Outcome, took_s: float
    ) -> None:
        for kind in OUTCOMES:
            self._records.labels(kind).inc(outcome.counts[kind])
        for reason, count in outcome.dead.items():
            self._dead.labels(reason).inc(count)
        self._alerts.inc(outcome.counts[Output.ALERTS])
        self._scored.inc(outcome.counts[Output.CLEANED] + outcome.counts[Output.QUARANTINED])
        self._coalesced.inc(outcome.counts[COALESCED])
        self._group_s.observe(took_s)
        self._group_records.observe(len(records))
        self._latency_s.observe(max(0.0, time.time() - records[0].timestamp / 1000))
        self.waiting_since.pop(source, None)
        self.last_group_s = time.monotonic()

    def waiting(self, source: Source, error: StoreUnavailable) -> None:
        self._retries.inc()
        self.waiting_since.setdefault(source, time.monotonic())
        self.waiting_for = str(error)

    def lag(self, source: Source, records: int) -> None:
        """How many records of a partition are not committed yet."""
        self._lag.labels(source.topic, source.partition).set(records)

    def forget(self, source: Source) -> None:
        """The partition is not ours any more."""
        self.waiting_since.pop(source, None)
        try:
            self._lag.remove(source.topic, str(source.partition))
        except KeyError:
            return  # its lag was never looked at

    def page(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)
