"""How many decisions differ where partitions have no order: a replay at full speed, and a file.

    .venv/bin/python -m scripts.measure_order    # trains a small model first; --model FOLDER

A simulated shop, its users on 4 partitions, half of them on the first one, all in the topic before
two workers begin; a model that reads what the site saw. `shopsentry score` has seen the events in
their order, the workers by partition.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import msgspec

from models.simulate.shop import SimulationConfig, simulate, write
from models.training import Options, Sources, train
from stream_app.core.outcome import Output
from stream_app.settings import Settings
from stream_app.wiring import offline_scorer
from tests.end_to_end.rig import Rig, Sent, headers_of, workers
from tests.servers import KafkaBroker, RedisServer

EVENTS = 20_000
HOURS = 12
PARTITIONS = 4


class Offline(NamedTuple):
    score: float
    anomalous: bool


def partition_of(user: str) -> int:
    """Half of the users on the first one."""
    number = crc32(user.encode())
    return 0 if number % 2 else number // 2 % PARTITIONS


def trained(folder: Path, schema: str) -> Path:
    """A small model of that schema, of other shops than the one that is replayed."""
    data, labels = [], []
    for seed in (701, 702):
        data.append(folder / f"{seed}.jsonl")
        labels.append(folder / f"{seed}.labels.jsonl")
        write(SimulationConfig(seed=seed, events=12_000, attack_share=0.06), data[-1], labels[-1])
    options = Options(
        epochs=2, pretrain_epochs=1, device="cpu", schema=schema, members=("bert",), seed=1
    )
    sources = Sources(data=data, labels=labels, simulate=0)
    return train(sources, folder / schema, options).folder


def offline(bundle: Path, lines: Sequence[bytes]) -> dict[str, Offline]:
    chosen = {"device": "cpu", "threads": 1, "bundle": bundle}
    scorer = offline_scorer(Settings.model_validate({"scorer": chosen}))

    async def score_all() -> dict[str, Offline]:
        return {
            judged.event_id: Offline(judged.score, judged.anomalous)
            async for group in scorer.score(lines)
            for judged in group
        }

    return asyncio.run(score_all())


def stream(rig: Rig, bundle: Path, lines: Sequence[bytes], count: int) -> dict[str, Offline]:
    """What `count` workers decide of all that is in the topic already."""
    rig.create_topics()
    sent = rig.produce(
        Sent(
            event["user_id"].encode(),
            line,
            event["event_time"],
            partition_of(event["user_id"]) % rig.partitions,
        )
        for line in lines
        for event in [json.loads(line)]
    )
    with workers(rig, count, scorer__bundle=bundle):
        rig.await_committed(sent, patience_s=1200)
    return {
        json.loads(read.value or b"")["event_id"]: Offline(
            float(headers_of(read)["shopsentry-score"]), output is Output.QUARANTINED
        )
        for output in (Output.CLEANED, Output.QUARANTINED)
        for read in rig.read(output)
    }


def compared(name: str, found: dict[str, Offline], expected: dict[str, Offline]) -> str:
    assert found.keys() == expected.keys()
    pairs = [(found[key], expected[key]) for key in found]
    decided = sum(one.anomalous != other.anomalous for one, other in pairs)
    scores = sum(abs(one.score - other.score) > 1e-3 for one, other in pairs)
    anomalous = sum(other.anomalous for _, other in pairs)
    return (
        f"| {name} | {len(pairs):,} | {anomalous:,} | {decided:,} ({decided / len(pairs):.3%}) | "
        f"{scores / len(pairs):.2%} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Decisions that differ without order.")
    parser.add_argument("--model", type=Path, help="a bundle that reads what the site saw")
    parser.add_argument("--events", type=int, default=EVENTS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = given.model or trained(folder, "shop-context")
        config = SimulationConfig(
            seed=71, events=given.events, span_ms=HOURS * 3_600_000, attack_share=0.06
        )
        lines = [msgspec.json.encode(simulated.event) for simulated in simulate(config)]
        expected = offline(bundle, lines)
        print("| replay | events | anomalous | decisions that differ | scores by more than 0.001 |")
        print("| --- | --- | --- | --- | --- |", flush=True)
        with KafkaBroker(folder / "kafka") as kafka, RedisServer(folder / "redis") as redis:
            for count, partitions in ((1, 1), (1, PARTITIONS), (2, PARTITIONS)):
                rig = Rig(kafka, redis, folder)
                rig.partitions = partitions
                found = stream(rig, bundle, lines, count)
                told = f"{count} worker{'s' * (count > 1)}, {partitions} partition"
                print(compared(f"{told}{'s' * (partitions > 1)}", found, expected), flush=True)


if __name__ == "__main__":
    main()
