"""A rig for each test, on the run's shared servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.rig import Rig
from tests.servers import Kafka, RedisServer


@pytest.fixture
def rig(kafka: Kafka, redis_server: RedisServer, tmp_path: Path) -> Rig:
    """Topics not created yet: tests choose their configuration."""
    return Rig(kafka, redis_server, tmp_path)
