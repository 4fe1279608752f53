"""What may happen: each fault breaks something, and leaves the servers whole again.

A worker that ends by itself meanwhile is replaced afterwards (`Stage.replace_dead`).
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import redis

from scripts.chaos.site import HOUR_S, follow
from scripts.chaos.stage import SESSION_S, Lapse, Stage
from tests.cluster import KafkaCluster
from tests.proxy import Proxy
from tests.servers import KafkaBroker, RedisServer

Fault = Callable[[Stage, random.Random], None]
FULL_FREE_KB: Final = 100  # left in a Redis that is about to be full


# -- workers


def kill(stage: Stage, draw: random.Random) -> None:
    worker = draw.choice(stage.workers)
    worker.process.kill()
    worker.process.wait(30)
    stage.leave(worker)
    stage.start()


def terminate(stage: Stage, draw: random.Random) -> None:
    worker = draw.choice(stage.workers)
    stage.start()
    stage.stop([worker])
    stage.leave(worker)


def zombie(stage: Stage, draw: random.Random) -> None:
    """Asleep for longer than the session, while another takes over; then it wakes up."""
    worker = draw.choice(stage.workers)
    worker.process.send_signal(signal.SIGSTOP)
    time.sleep(SESSION_S + draw.uniform(1.0, 3.0))
    worker.process.send_signal(signal.SIGCONT)


def storm(stage: Stage, draw: random.Random) -> None:
    """Workers come and go: a rebalance each time."""
    joined = [stage.start() for _ in range(2)]
    time.sleep(draw.uniform(2.0, 5.0))
    stage.stop(joined)
    for worker in joined:
        stage.leave(worker)


# -- one broker, or three


def broker_kill(stage: Stage, draw: random.Random) -> None:
    _kill_broker(draw.choice(stage.site.brokers), draw)


def leader_kill(stage: Stage, draw: random.Random) -> None:
    """A broker that leads partitions of the input dies: others lead them."""
    cluster = _cluster(stage)
    _kill_broker(draw.choice(cluster.leaders(stage.rig.input)), draw)
    cluster.await_in_sync([stage.rig.input])


def replica_kill(stage: Stage, draw: random.Random) -> None:
    """A broker dies that leads least of the input, and stays away for a while."""
    cluster = _cluster(stage)
    leaders = cluster.leaders(stage.rig.input)
    broker = min(cluster.brokers, key=leaders.count)
    broker.kill()
    time.sleep(draw.uniform(3.0, 8.0))
    broker.start()
    cluster.await_in_sync([stage.rig.input])


def leader_move(stage: Stage, draw: random.Random) -> None:
    """A leader stops in order: it hands its partitions over, the groups it looks after too."""
    cluster = _cluster(stage)
    broker = draw.choice(cluster.leaders(stage.rig.input))
    broker.stop()
    broker.start()
    cluster.await_in_sync([stage.rig.input])


def _kill_broker(broker: KafkaBroker, draw: random.Random) -> None:
    broker.kill()
    time.sleep(draw.uniform(0.0, 1.0))
    broker.start()


def _cluster(stage: Stage) -> KafkaCluster:
    assert isinstance(stage.site.kafka, KafkaCluster)
    return stage.site.kafka


# -- Redis


def redis_restart(stage: Stage, draw: random.Random) -> None:
    """With its data."""
    stage.site.store.kill()
    time.sleep(draw.uniform(0.0, 1.0))
    stage.site.store.start()


def redis_lost(stage: Stage, draw: random.Random) -> None:
    """Killed, and back without its data."""
    store = stage.site.store
    with _lapse(stage):
        store.kill()
        shutil.rmtree(store.folder / "appendonlydir", ignore_errors=True)  # Redis 7
        (store.folder / "appendonly.aof").unlink(missing_ok=True)
        store.start()
    _follow_again(stage)


def redis_flush(stage: Stage, draw: random.Random) -> None:
    with _lapse(stage), _client(stage.site.store) as client:
        client.flushall()


def script_flush(stage: Stage, draw: random.Random) -> None:
    with _client(stage.site.store) as client:
        client.script_flush()


def redis_cut(stage: Stage, draw: random.Random) -> None:
    """Every connection of every worker breaks."""
    with _client(stage.site.store) as client:
        client.client_kill_filter(_type="normal", skipme=True)


def redis_full(stage: Stage, draw: random.Random) -> None:
    """`maxmemory` is reached under load, and lifted after a while."""
    with _client(stage.site.store) as client:
        client.config_set("maxmemory-policy", "noeviction")
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory", used + FULL_FREE_KB * 1024)
        time.sleep(draw.uniform(2.0, 5.0))
        client.config_set("maxmemory", 0)


def redis_disk_full(stage: Stage, draw: random.Random) -> None:
    """No room for Redis to note its changes: it refuses writes, or ends."""
    assert stage.site.small_disks, "it would fill a disk that is not ours"
    store = stage.site.store
    filling = store.folder / "filling"
    with suppress(OSError), filling.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 20))
    time.sleep(draw.uniform(3.0, 6.0))
    filling.unlink()
    if store.pid is None:
        store.start()
        _follow_again(stage)


def redis_failover(stage: Stage, draw: random.Random) -> None:
    """The Redis in charge dies, and its replica takes over; what it had not copied is lost."""
    site = stage.site
    old, new = site.store, site.replica
    assert new is not None
    assert site.redis_way is not None
    with _lapse(stage):
        old.kill()
        site.redis_way.target = ("127.0.0.1", new.port)
        site.redis_way.cut()
        time.sleep(draw.uniform(0.0, 2.0))  # workers meet a replica that takes no writes
        with _client(new) as client:
            client.replicaof("NO", "ONE")
    old.start()
    site.store, site.replica = new, old
    _follow_again(stage)


def _follow_again(stage: Stage) -> None:
    if stage.site.replica is not None:
        follow(stage.site.replica, stage.site.store)


@contextmanager
def _lapse(stage: Stage) -> Iterator[None]:
    first = stage.rig.commits()
    yield
    stage.lapses.append(Lapse(first, stage.rig.ends()))


def _client(store: RedisServer) -> redis.Redis:
    return redis.Redis.from_url(store.url)


# -- the ways to Kafka and Redis


def cut(stage: Stage, draw: random.Random) -> None:
    _way(stage, draw).cut()


def delayed(stage: Stage, draw: random.Random) -> None:
    """Every byte takes its time, for some seconds."""
    way = _way(stage, draw)
    way.delay_s = draw.uniform(0.05, 0.5)
    time.sleep(draw.uniform(2.0, 6.0))
    way.heal()


def silent(stage: Stage, draw: random.Random) -> None:
    """Connections stay, but nothing comes through; some outlast a session."""
    way = _way(stage, draw)
    way.silence()
    time.sleep(draw.uniform(1.0, SESSION_S + 4.0))
    way.heal()


def _way(stage: Stage, draw: random.Random) -> Proxy:
    way = draw.choice([stage.site.kafka_way, stage.site.redis_way])
    assert way is not None
    return way


# -- the scorer


def scorer(mood: str, least_s: float, most_s: float) -> Fault:
    """Every worker's scorer is in this mood for a while; see `scripts.chaos_worker`."""

    def fault(stage: Stage, draw: random.Random) -> None:
        stage.mood.write_text(mood)
        time.sleep(draw.uniform(least_s, most_s))
        stage.mood.unlink()

    return fault


# -- the clock


def clock_jump(stage: Stage, draw: random.Random) -> None:
    """The wall clock of workers and Redis jumps by an hour, and back after a while."""
    clock = stage.site.clock
    assert clock is not None
    clock.write_text(f"{draw.choice([-HOUR_S, HOUR_S]):+d}\n")
    time.sleep(draw.uniform(2.0, 6.0))
    if draw.random() < 0.7:
        clock.write_text("+0\n")
