"""One run: workers, a load, faults, and when all is over the verdict."""

from __future__ import annotations

import random
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct, structs
from xxhash import xxh3_64_intdigest

from scripts.benchmarks.scorers import free_encoder
from scripts.chaos import straightforward
from scripts.chaos.load import Feed
from scripts.chaos.memory import unexplained
from scripts.chaos.results import Result
from scripts.chaos.scenes import FAULTS, SCENES, Scene
from scripts.chaos.scores import compare_scores
from scripts.chaos.site import Site
from scripts.chaos.stage import Stage
from scripts.chaos_worker import CULPRITS, NAN, RAISES
from stream_app.core.audit import ORIGIN, Difference, Report, Terms, audit
from stream_app.core.expected import POISON, Fate, Rules, expected
from stream_app.core.outcome import Output
from stream_app.core.window import WindowPolicy
from stream_app.edges.auditing import Gathered, gather
from stream_app.edges.replaying import Range
from tests.end_to_end.rig import Rig

SETTLED_S: Final = 180.0
MOST_BYTES: Final = 1 << 20
RARELY: Final = 0.2
RULES: Final = Rules(
    tasks=free_encoder().schema.tasks, windows=WindowPolicy(), most_bytes=MOST_BYTES
)


class Pace(Struct, frozen=True, kw_only=True):
    """How dense the faults are."""

    kills: float | None = None  # weight of a worker's kill -9 among the faults; None: the scene's
    pause_s: float = 3.0  # at most, between two faults
    a_second: int | None = None  # records; None: the scene's


USUAL: Final = Pace()


def run(
    scene: str,
    site: Site,
    seed: int,
    delivery: str,
    records: int,
    faults: int | Sequence[str],
    pace: Pace = USUAL,
) -> Result:
    """One run to its end, and what the audit says. `faults`: so many, or these."""
    draw = random.Random(seed)
    began, result = time.monotonic(), Result(seed=seed, delivery=delivery, scene=scene)
    weights = _weights(SCENES[scene], pace, draw.random() < RARELY)
    if not site.small_disks:
        weights.pop("redis-disk-full", None)
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(site.kafka, site.store, Path(folder))
        rig.create_topics()
        if delivery == straightforward.NAME:
            stage = Stage(rig, site, "at-least-once", straightforward.worker_of(rig))
        else:
            stage = Stage(rig, site, delivery)
        load = SCENES[scene].load
        if pace.a_second is not None:
            load = structs.replace(load, a_second=pace.a_second)
        feed = Feed(rig, seed, records, load)
        try:
            for _ in range(draw.choice([2, 3])):
                stage.start()
            feed.start()
            _await_progress(rig)
            for name in _plan(faults, weights, draw):
                FAULTS[name](stage, draw)
                result.faults[name] += 1
                time.sleep(draw.uniform(0.3, pace.pause_s))
                result.faults["ended by itself"] += stage.replace_dead()
            result.records = feed.finish(SETTLED_S)
            if delivery == straightforward.NAME:
                straightforward.await_end(rig, result.records)
                straightforward.judge(gathered(rig), result)
            else:
                _settle(stage, result)
                _judge(stage, result)
        except Exception:
            result.failed = traceback.format_exc(limit=4) + "\n--\n" + stage.said()
        finally:
            stage.close()
    result.took_s = round(time.monotonic() - began, 1)
    return result


def _plan(
    faults: int | Sequence[str], weights: Mapping[str, float], draw: random.Random
) -> Iterator[str]:
    """Drawn one by one: faults draw from the same source."""
    if not isinstance(faults, int):
        yield from faults
        return
    for _ in range(faults):
        yield draw.choices(list(weights), list(weights.values()))[0]


def _weights(scene: Scene, pace: Pace, rarely: bool) -> dict[str, float]:
    own: dict[str, float] = {**scene.weights}
    if pace.kills is not None:
        own["kill"] = pace.kills
    return own | (dict(scene.rare) if rarely else {})


def _await_progress(rig: Rig) -> None:
    """Until the first records are through: what breaks before that breaks nothing."""
    until = time.monotonic() + SETTLED_S
    while rig.committed() == 0:
        if time.monotonic() > until:
            raise TimeoutError("no worker got to work")
        time.sleep(0.2)


def _settle(stage: Stage, result: Result) -> None:
    """Until all is committed; then every worker ends in order."""
    until = time.monotonic() + SETTLED_S
    while (done := stage.rig.committed()) < result.records:
        if time.monotonic() > until:
            raise TimeoutError(f"only {done} of {result.records} committed")
        result.faults["ended by itself"] += stage.replace_dead()
        time.sleep(0.5)
    stage.stop(stage.workers)


def gathered(rig: Rig) -> Gathered:
    """All that is in a rig's topics."""
    return gather(
        {"bootstrap.servers": rig.kafka.address},
        rig.name,
        Range(topic=rig.input),
        {output: rig.topic(output) for output in Output},
    )


def judged(rig: Rig, *, exactly_once: bool, forgotten: bool) -> Report:
    """What the audit says of a rig's topics, once all is committed."""
    found = gathered(rig)
    terms = Terms(exactly_once=exactly_once, forgotten=forgotten)
    return audit(found.inputs, found.outputs, RULES, terms)


def _judge(stage: Stage, result: Result) -> None:
    found, exactly_once = gathered(stage.rig), result.delivery == "exactly-once"
    terms = Terms(exactly_once=exactly_once, forgotten=bool(stage.lapses))
    report = audit(found.inputs, found.outputs, RULES, terms)
    if report.records < result.records:
        raise AssertionError(f"{result.records} sent, {report.records} in the topic")
    if stage.lapses and exactly_once:
        for one in unexplained(found.inputs, found.outputs, RULES, stage.lapses):
            report.differ(one.kind, one.place, one.detail)
    for one in _poison(found, bool(stage.site.shaky), bool(stage.lapses)):
        report.differ(one.kind, one.place, one.detail)
    if not stage.lapses and not stage.site.shaky:
        result.compared = compare_scores(found, RULES, report)
    for code in stage.complaints:
        report.differ("bad end", "", f"a worker that was told to stop ended with {code}")
    kinds = report.kinds
    # A broker that was killed forgets producers: ours may have sent some again, as others would.
    result.resent, result.records = report.records - result.records, report.records
    result.lost, result.doubled = kinds.pop("lost", 0), kinds.pop("doubled", 0)
    result.repeats, result.forgotten = report.repeats.total(), report.forgotten
    result.outcomes, result.other = report.outcomes, kinds
    result.poison = len(_buried(found))
    result.differences = report.differences[:20]


def _buried(found: Gathered) -> set[tuple[int, int]]:
    """Places of the records that the scorer failed on."""
    letters = (dict(letter.headers) for letter in found.outputs[Output.DEAD_LETTERS])
    return {
        (int(told[f"{ORIGIN}partition"]), int(told[f"{ORIGIN}offset"]))
        for told in letters
        if told["reason"].decode() == POISON
    }


def _poison(found: Gathered, shaky: bool, forgotten: bool) -> list[Difference]:
    """Poison are the events that the scorer always fails on, and no others."""
    buried, told = _buried(found), Counter[str]()
    for one in expected(found.inputs, RULES):
        culprit = shaky and xxh3_64_intdigest(one.event_id.encode()) % CULPRITS in (RAISES, NAN)
        place = (one.record.partition, one.record.offset)
        if place in buried and not (culprit and one.user_id):
            told[f"{place[0]}@{place[1]} is no poison, but buried as such"] += 1
        if place not in buried and culprit and one.fate == Fate.ACCEPTED and not forgotten:
            told[f"{place[0]}@{place[1]} is poison, but not buried"] += 1
    return [Difference("poison", detail.split()[0], detail) for detail in told]
