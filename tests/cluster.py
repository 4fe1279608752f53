"""Three real Kafka brokers on loopback, each with a copy of everything."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self

from stream_app.edges.embedded import LOOPBACK
from tests.servers import Kafka, KafkaBroker, ServerFailed

NODES: Final = 3
IN_SYNC: Final = 2  # copies that a write needs


class KafkaCluster(Kafka):
    """Brokers that are controllers too; topics have three copies, and a write needs two."""

    replication = NODES

    def __init__(self, folder: Path, *, heap_mb: int = 320) -> None:
        self.brokers = [
            KafkaBroker(folder / f"node-{number}", heap_mb=heap_mb)
            for number in range(1, NODES + 1)
        ]
        first, copies, least = self.brokers[0], str(NODES), str(IN_SYNC)
        voters = ",".join(
            f"{number}@{LOOPBACK}:{broker.controller_port}"
            for number, broker in enumerate(self.brokers, 1)
        )
        for number, broker in enumerate(self.brokers, 1):
            broker.cluster_id = first.cluster_id
            broker.settings |= {
                "node.id": str(number),
                "controller.quorum.voters": voters,
                "min.insync.replicas": least,
                "offsets.topic.replication.factor": copies,
                "transaction.state.log.replication.factor": copies,
                "transaction.state.log.min.isr": least,
                "replica.lag.time.max.ms": "5000",
                # Else a broker that is asked to stop waits long for others that are being killed.
                "controlled.shutdown.max.retries": "2",
            }
        super().__init__(",".join(broker.address for broker in self.brokers))

    def start(self) -> None:
        """All at once: none answers before two of them agree. Raises ServerFailed."""
        with ThreadPoolExecutor(NODES) as pool:
            list(pool.map(KafkaBroker.start, self.brokers))

    def stop(self) -> None:
        with ThreadPoolExecutor(NODES) as pool:
            list(pool.map(KafkaBroker.kill, self.brokers))

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def leaders(self, topic: str) -> list[KafkaBroker]:
        """The leader of each partition that has one."""
        partitions = self.admin().list_topics(topic, timeout=20).topics[topic].partitions
        return [self.brokers[p.leader - 1] for p in partitions.values() if p.leader > 0]

    def await_in_sync(self, topics: Iterable[str], patience_s: float = 60.0) -> None:
        """Until every copy of these topics is up to date. Raises ServerFailed."""
        deadline, names = time.monotonic() + patience_s, set(topics)
        while True:
            known = self.admin().list_topics(timeout=20).topics
            behind = [
                name
                for name in names
                for p in known[name].partitions.values()
                if len(p.isrs) < NODES or p.leader < 0
            ]
            if not behind:
                return
            if time.monotonic() > deadline:
                raise ServerFailed(f"copies are behind after {patience_s:g} s: {behind}")
            time.sleep(0.2)
