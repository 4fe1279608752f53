"""The worker: `shopsentry worker` as a process of its own, and what it says of itself."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from stream_app.core.errors import ShopsentryError
from stream_app.core.outcome import DUPLICATES
from stream_app.demo.background import Background
from stream_app.edges.embedded import LOOPBACK, Child, free_port
from stream_app.edges.web import Health

COMMAND: Final = (sys.executable, "-m", "stream_app", "worker")
LOOK_S: Final = 0.4
ANSWER_S: Final = 2.0


class WorkerDied(ShopsentryError):
    """The worker ended although nobody told it to."""


class Report(msgspec.Struct, frozen=True):
    """What the worker says of itself."""

    health: Health
    scored: int = 0
    alerts: int = 0
    duplicates: int = 0


class Worker(Background):
    """Starts the process; then looks at its /health and /metrics, again and again."""

    name = "worker's reports"

    def __init__(self, environment: Mapping[str, str], command: Sequence[str] = COMMAND) -> None:
        """`environment`: its settings; it sees none of ours."""
        super().__init__()
        port = free_port()
        web = {"SHOPSENTRY_WEB__HOST": LOOPBACK, "SHOPSENTRY_WEB__PORT": str(port)}
        rest = {k: v for k, v in os.environ.items() if not k.upper().startswith("SHOPSENTRY_")}
        self._url = f"http://{LOOPBACK}:{port}"
        self.process = Child("worker", command, {**rest, **environment, **web}, stop_s=20)
        self.report: Report | None = None

    def check(self) -> None:
        """Raises WorkerDied."""
        super().check()
        code = self.process.exit_code
        if code is not None:
            how = f"with exit code {code}" if code >= 0 else f"by signal {-code}"
            said = self.process.last_lines() or "(nothing)"
            raise WorkerDied(f"the worker ended {how}. Its last words:\n{said}")

    def look(self) -> Report | None:
        """A fresh report; None if the worker does not answer."""
        health = self._get("/health")
        metrics = self._get("/metrics")
        if health is None or metrics is None:
            return None
        self.report = _read(health, metrics)
        return self.report

    def run(self) -> None:
        while not self.stopping.wait(LOOK_S):
            self.look()

    def end(self) -> int:
        """SIGTERM, and its exit code once it has finished what it had begun."""
        self.stop()
        return self.process.stop()

    def _get(self, path: str) -> bytes | None:
        try:
            with urllib.request.urlopen(self._url + path, timeout=ANSWER_S) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:  # not healthy, but it says why
            with error:
                return bytes(error.read())
        except OSError:
            return None


def _read(health: bytes, metrics: bytes) -> Report | None:
    samples = {
        (sample.name, sample.labels.get("outcome")): int(sample.value)
        for family in text_string_to_metric_families(metrics.decode())
        for sample in family.samples
        if sample.name in ("shopsentry_records_total", "shopsentry_scored_total")
        or sample.name == "shopsentry_alerts_total"
    }
    try:
        told = msgspec.json.decode(health, type=Health)
    except msgspec.MsgspecError:
        return None
    return Report(
        told,
        samples.get(("shopsentry_scored_total", None), 0),
        samples.get(("shopsentry_alerts_total", None), 0),
        samples.get(("shopsentry_records_total", DUPLICATES), 0),
    )
