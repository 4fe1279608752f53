"""Real servers for the tests that ask for them, and a word at the end on what a run left out."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import hypothesis
import pytest

from tests.servers import (
    Kafka,
    KafkaBroker,
    RedisServer,
    missing_for_kafka,
    missing_for_redis_tls,
)

NEEDS = {  # fixture: marker
    "kafka": "kafka",
    "kafka_broker": "kafka",
    "redis_server": "redis",
    "tls_redis": "redis_tls",
}
SERVICES = ("kafka", "redis", "gpu", "slow")
EXTERNAL = "SHOPSENTRY_TEST_KAFKA"
deselected: Counter[str] = Counter()

# No test fails because the machine is busy.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")

if not Path("/dev/nvidiactl").exists():  # Triton asks for this once, when it is imported
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis for the whole run; a test that kills it starts its own instead."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """One Kafka for the whole run, or the one that SHOPSENTRY_TEST_KAFKA names.

    Topics and groups are shared by all tests: give them names of their own.
    """
    if address := os.environ.get(EXTERNAL):
        yield Kafka(address)
        return
    with KafkaBroker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture(scope="module")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker that the module's tests may kill; each leaves it running."""
    with KafkaBroker(tmp_path_factory.mktemp("broker")) as broker:
        yield broker


@pytest.fixture(autouse=True)
def _two_torch_threads() -> None:
    """Torch on as many threads as CI has cores; tests without torch do not pay for its import."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(2)


@pytest.hookimpl(tryfirst=True)  # before -m looks at the markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture, marker in NEEDS.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(marker)


def pytest_deselected(items: list[pytest.Item]) -> None:
    for item in items:
        deselected.update(m for m in SERVICES if item.get_closest_marker(m))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, missing in (
        ("kafka", _missing_kafka),
        ("redis_tls", missing_for_redis_tls),
        ("gpu", _missing_gpu),
    ):
        if item.get_closest_marker(marker) and (why := missing()):
            if os.environ.get(f"REQUIRE_{marker.upper()}") == "1":
                pytest.fail(f"REQUIRE_{marker.upper()}=1, but {why}", pytrace=False)
            pytest.skip(f"{marker}: {why}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = Counter(
        str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", [])
    )
    for reason, count in skipped.items():
        terminalreporter.write_line(f"left out: {count} ({reason.removeprefix('Skipped: ')})")
    for marker, count in deselected.items():
        terminalreporter.write_line(
            f"left out: {count} marked {marker} (by choice: scripts/test all)"
        )


@cache
def _missing_kafka() -> str | None:
    return None if os.environ.get(EXTERNAL) else missing_for_kafka()


@cache
def _missing_gpu() -> str | None:
    import torch  # here, so that runs without gpu tests do not load it

    return None if torch.cuda.is_available() else "no CUDA device"
