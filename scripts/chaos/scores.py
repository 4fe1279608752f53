"""Scores, decisions and alerts of a run against those that the free scorer gives offline.

Only where Redis lost nothing and no scorer failed: else they may rightly differ.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import groupby

from scripts.benchmarks.scorers import free_encoder, free_scorer
from stream_app.core.audit import Report
from stream_app.core.audit_scores import Offline, compare
from stream_app.core.expected import Fate, Rules, expected
from stream_app.core.record import Record, Source
from stream_app.edges.auditing import Gathered
from stream_app.edges.memory import MemoryAlertLog, MemoryOutbox, MemoryWindows
from stream_app.offline import OfflineScorer
from stream_app.pipeline import Pipeline, Policies
from stream_app.settings import Settings


def compare_scores(found: Gathered, rules: Rules, report: Report) -> int:
    """Add what differs to `report`; how many events were compared."""
    judged = {
        one.event_id
        for one in expected(found.inputs, rules)
        if one.fate == Fate.ACCEPTED and one.event_id
    }
    lines = asyncio.run(_offline(found.inputs, rules))
    return compare(report, found.outputs, rules.tasks, lines, judged)


def memory_pipeline(rules: Rules) -> tuple[Pipeline, MemoryOutbox]:
    """The workers' pipeline over edges in memory, and what it publishes."""
    encoder, outbox = free_encoder(), MemoryOutbox()
    limits = Policies(rules.windows, Settings().alerts.policy())
    windows, alerts = MemoryWindows(encoder.row, limits.window), MemoryAlertLog(limits.alerts)
    scorer = free_scorer(encoder)
    return Pipeline(encoder, windows, scorer, alerts, outbox, limits, rules.most_bytes), outbox


async def _offline(inputs: Sequence[Record], rules: Rules) -> list[Offline]:
    """Each partition in its order: a user's records are all in one."""
    scorer = OfflineScorer(memory_pipeline(rules)[0], rules.tasks.names)
    ordered = sorted(inputs, key=lambda record: (record.partition, record.offset))
    return [
        Offline(one.event_id, one.score, one.anomalous, one.alert)
        for place, own in groupby(ordered, lambda record: Source(record.topic, record.partition))
        async for group in scorer.judge(place, list(own))
        for one in group
    ]
