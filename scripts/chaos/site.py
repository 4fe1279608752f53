"""The servers of a scene, and the ways between them and the workers."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import redis
from msgspec import Struct, field

from stream_app.edges.embedded import LOOPBACK
from tests.cluster import KafkaCluster
from tests.proxy import Proxy
from tests.servers import Kafka, KafkaBroker, RedisServer

DURABLE: Final = {"appendonly": "yes", "appendfsync": "always"}
DISK_MB: Final = 512
HOUR_S: Final = 3600


class Site(Struct, kw_only=True):
    """What a run may break. Left whole by every run, for the next one."""

    kafka: Kafka
    store: RedisServer
    replica: RedisServer | None = None
    kafka_way: Proxy | None = None  # by which the workers come to Kafka
    redis_way: Proxy | None = None
    small_disks: bool = False  # whether both stores have a small disk each, in their folder
    clock: Path | None = None  # tells the workers and Redis how far their clocks are off
    shaky: bool = False  # whether the workers' scorer fails
    settings: dict[str, object] = field(default_factory=dict)  # of the workers
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def brokers(self) -> list[KafkaBroker]:
        if isinstance(self.kafka, KafkaCluster):
            return self.kafka.brokers
        return [self.kafka] if isinstance(self.kafka, KafkaBroker) else []


@contextmanager
def one_node(folder: Path) -> Iterator[Site]:
    """One broker, and a Redis that writes every change to disk before it answers."""
    with RedisServer(folder / "redis", DURABLE) as store, KafkaBroker(folder / "kafka") as broker:
        yield Site(kafka=broker, store=store)


@contextmanager
def shaky_scorers(folder: Path) -> Iterator[Site]:
    """Like `one_node`, and workers whose scorers fail on some events, and at times on all."""
    with one_node(folder) as site:
        site.shaky = True
        yield site


@contextmanager
def two_stores(folder: Path) -> Iterator[Site]:
    """A Redis with a replica; workers reach whichever is in charge at one address."""
    with ExitStack() as stack, KafkaBroker(folder / "kafka") as broker:
        site = Site(kafka=broker, store=RedisServer(folder))
        _add_stores(site, folder, stack)
        yield site


@contextmanager
def by_proxies(folder: Path) -> Iterator[Site]:
    """All that workers send and hear goes through proxies, ours does not."""
    with ExitStack() as stack, RedisServer(folder / "redis", DURABLE) as store:
        site = Site(kafka=Kafka(""), store=store)
        _add_broker(site, folder, stack)
        site.redis_way = stack.enter_context(Proxy(_place(store)))
        site.settings |= _redis_by(site.redis_way)
        yield site


@contextmanager
def all_at_once(folder: Path) -> Iterator[Site]:
    """Proxies, a Redis with a replica, and scorers that fail: whatever one machine can have."""
    with ExitStack() as stack:
        site = Site(kafka=Kafka(""), store=RedisServer(folder), shaky=True)
        _add_stores(site, folder, stack)
        _add_broker(site, folder, stack)
        yield site


def _add_stores(site: Site, folder: Path, stack: ExitStack) -> None:
    site.small_disks = all(_disk(stack, folder / name) for name in ("redis", "replica"))
    # With `everysec` a full disk makes Redis refuse writes; with `always` it would end.
    durable = {**DURABLE, "appendfsync": "everysec"}
    site.store = stack.enter_context(RedisServer(folder / "redis", durable))
    site.replica = stack.enter_context(RedisServer(folder / "replica", durable))
    follow(site.replica, site.store)
    site.redis_way = stack.enter_context(Proxy(_place(site.store)))
    site.settings |= _redis_by(site.redis_way)


def _add_broker(site: Site, folder: Path, stack: ExitStack) -> None:
    """A broker with a second port behind a proxy, which tells workers the proxy's address."""
    broker, way = KafkaBroker(folder / "kafka"), Proxy((LOOPBACK, 0))
    way.target = (LOOPBACK, broker.listen_also(way.address))
    site.kafka = stack.enter_context(broker)
    site.kafka_way = stack.enter_context(way)
    site.settings |= {"kafka__bootstrap": way.address}


def _redis_by(way: Proxy) -> dict[str, object]:
    return {"redis__url": f"redis://{way.address}/0", "redis__timeout_s": 2}


@contextmanager
def by_other_clocks(folder: Path) -> Iterator[Site]:
    """Workers and Redis read a wall clock that can be set; Kafka's goes right."""
    library = fake_time()
    if library is None:
        raise FileNotFoundError("no libfaketime: apt-get install libfaketime")
    clock = folder / "clock"
    clock.write_text("+0\n")
    faked = {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # as when somebody sets a real one
    }
    store = RedisServer(folder / "redis", DURABLE)
    store.environment = faked
    with store, KafkaBroker(folder / "kafka") as broker:
        yield Site(kafka=broker, store=store, clock=clock, environment=faked)


@contextmanager
def three_nodes(folder: Path) -> Iterator[Site]:
    """Three brokers with three copies of everything, of which a write needs two."""
    with RedisServer(folder / "redis", DURABLE) as store, KafkaCluster(folder / "kafka") as kafka:
        yield Site(kafka=kafka, store=store)


def follow(replica: RedisServer, leader: RedisServer) -> None:
    """Make one the copy of the other; returns once it is up to date. Raises TimeoutError."""
    with redis.Redis.from_url(replica.url) as client:
        client.replicaof(LOOPBACK, leader.port)
        deadline = time.monotonic() + 60
        while client.info("replication").get("master_link_status") != "up":
            if time.monotonic() > deadline:
                raise TimeoutError("the replica does not get its copy")
            time.sleep(0.05)


def fake_time() -> str | None:
    """The library that lets a process read another time, if there is one."""
    places = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    return next(map(str, places), None) or ctypes.util.find_library("faketimeMT")


def _place(server: RedisServer) -> tuple[str, int]:
    return LOOPBACK, server.port


def _disk(stack: ExitStack, folder: Path) -> bool:
    """A small disk of its own in `folder`; False where we may not mount one."""
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    made = [mount, "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    if subprocess.run(made, capture_output=True, check=False).returncode != 0:
        return False
    stack.callback(subprocess.run, ["umount", "-l", str(folder)], check=True)
    return True
