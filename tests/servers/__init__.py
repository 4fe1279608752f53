"""A real Apache Kafka and a real Redis on loopback, for tests and benchmarks.

    with RedisServer(folder) as redis, KafkaBroker(folder) as kafka:
        kafka.create_topics(["shop.events"], partitions=4)
        kafka.kill()     # like a power cut of the process: nothing is flushed, nobody is told
        kafka.restart()  # the same address, the same log directories

Each server has its own folder, and ports below the range of outgoing connections: a client that
tries a dead server again and again must not end up connected to itself. Servers are ended by their
process id, also when the process that started them dies: a shell beside each waits for that.
Knows nothing of pytest.
"""

from __future__ import annotations

from tests.servers.kafka import Kafka, KafkaBroker, kafka_jars, missing_for_kafka
from tests.servers.process import ROOT, Server, ServerFailed
from tests.servers.redis import RedisServer, TlsRedisServer, missing_for_redis_tls, redis_binary

__all__ = [
    "ROOT",
    "Kafka",
    "KafkaBroker",
    "RedisServer",
    "Server",
    "ServerFailed",
    "TlsRedisServer",
    "kafka_jars",
    "missing_for_kafka",
    "missing_for_redis_tls",
    "redis_binary",
]
