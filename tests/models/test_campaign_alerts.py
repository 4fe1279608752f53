"""Campaign alerts of an evaluation are those of the stream, and are held against the truth."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from models import bundle as bundles
from models.dataset import Dataset, read
from models.evaluate.campaign_alerts import (
    ALIKE,
    CAMPAIGN,
    NORMAL,
    Alerted,
    Shared,
    about,
    alerted,
    follow,
    summary,
)
from models.schema import Schema
from models.simulate.shop import SimulationConfig, write
from stream_app.core.campaign import CampaignPolicy
from stream_app.core.window import WindowPolicy
from stream_app.settings import Settings
from stream_app.wiring import offline_scorer

POLICY = CampaignPolicy()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Three hours under attack by gangs."""
    folder = tmp_path_factory.mktemp("gangs")
    config = SimulationConfig(
        seed=11,
        events=1500,
        span_ms=3 * 3_600_000,
        users=60,
        attack_share=0.3,
        families=("brushing", "coupon_abuse", "composite"),
    )
    events, labels = folder / "events.jsonl", folder / "labels.jsonl"
    write(config, events, labels)
    return events, labels


@pytest.fixture(scope="module")
def data(files: tuple[Path, Path], shop: Schema) -> Dataset:
    return read([files[0]], [files[1]], shop, WindowPolicy())


def test_an_evaluation_joins_what_the_stream_joins(files: tuple[Path, Path], data: Dataset) -> None:
    settings = Settings.model_validate({"scorer": {"device": "cpu", "threads": 1}})
    scorer = offline_scorer(settings)

    async def score_all() -> None:
        async for _ in scorer.score(files[0].read_bytes().splitlines()):
            pass

    asyncio.run(score_all())
    bodies = [json.loads(news)["data"] for news in scorer.campaigns]
    expected = [
        (body["events"], body["last_ms"], [m["first_event_id"] for m in body["members"]])
        for body in bodies
        if body["status"] == "open"
    ]
    bundle = bundles.load(settings.scorer.bundle, "cpu")
    scores = bundles.score(bundle, data.windows, data.task).astype(np.float64)
    which = np.flatnonzero(scores >= bundle.calibration.thresholds[0])
    told = follow(data, which, scores[which], bundle.schema, POLICY)
    found = [(n.events, n.last_ms, [m.first_event_id for m in n.members]) for _, n in told]
    assert found == expected
    assert len(found) > 10


def test_with_perfect_decisions_every_alert_is_about_a_campaign(
    data: Dataset, shop: Schema
) -> None:
    everything, sure = np.arange(len(data)), np.ones(len(data))
    found = alerted(data, everything, sure, data.anomalous, shop, POLICY)
    assert set(found.alerts) == {CAMPAIGN}
    told = follow(data, np.flatnonzero(data.anomalous), sure[data.anomalous], shop, POLICY)
    first: dict[str, int] = {}
    for (event, _), name in zip(told, about(data, [news for _, news in told]), strict=True):
        first.setdefault(name, event)
    ids = data.of("campaign")
    for name, shared in found.campaigns.items():
        own = [event for event, campaign in enumerate(ids) if campaign == name]
        assert len({int(data.user[event]) for event in own}) >= POLICY.users
        if name in first:
            assert shared.before == sum(event < first[name] for event in own) / len(own)
        else:
            assert shared.before is None
    assert any(shared.before is not None for shared in found.campaigns.values())


def test_alerts_of_honest_crowds_are_told_apart(data: Dataset, shop: Schema) -> None:
    alike = np.array([kind != "" for kind in data.of("look_alike")]) & ~data.anomalous
    sure = np.ones(len(data))
    found = alerted(data, np.arange(len(data)), sure, alike, shop, POLICY)
    assert found.alerts
    assert all(name == NORMAL or name.startswith(ALIKE) for name in found.alerts)
    assert all(shared.before is None for shared in found.campaigns.values())


def test_a_summary_is_over_all_draws() -> None:
    one = Alerted(
        {CAMPAIGN: 2, "~flash_sale": 1}, {"a": Shared("brushing", 0.2), "b": Shared("replay", None)}
    )
    other = Alerted({NORMAL: 1}, {"a": Shared("brushing", 0.4)})
    assert summary([one, other]) == {
        "alerts": 4,
        "of_campaigns": 2,
        "of_look_alikes": {"flash_sale": 1},
        "campaigns": 3,
        "found": 2,
        "median_before": pytest.approx(0.3),
        "families": {
            "brushing": {"campaigns": 2, "found": 2},
            "replay": {"campaigns": 1, "found": 0},
        },
    }
