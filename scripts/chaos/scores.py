"""Scores, decisions and alerts of a run against those that the free scorer gives offline.

Only where Redis lost nothing and no scorer failed: else they may rightly differ.
"""

from __future__ import annotations

import asyncio

from scripts.benchmarks.scorers import free_encoder, free_scorer
from stream_app.core.audit import Report
from stream_app.core.audit_scores import compare
from stream_app.core.expected import Fate, Rules, expected
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
    scorer = OfflineScorer(memory_pipeline(rules)[0], rules.tasks.names)
    lines = asyncio.run(scorer.judge_all(found.inputs))
    return compare(report, found.outputs, rules.tasks, lines, judged)


def memory_pipeline(rules: Rules) -> tuple[Pipeline, MemoryOutbox]:
    """The workers' pipeline over edges in memory, and what it publishes."""
    encoder, outbox = free_encoder(), MemoryOutbox()
    limits = Policies(rules.windows, Settings().alerts.policy())
    windows, alerts = MemoryWindows(encoder.row, limits.window), MemoryAlertLog(limits.alerts)
    scorer = free_scorer(encoder)
    return Pipeline(encoder, windows, scorer, alerts, outbox, limits, rules.most_bytes), outbox
