"""The workers of one run, on the servers of its scene."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from scripts.chaos.site import Site
from scripts.chaos_worker import MOOD
from tests.end_to_end.rig import Rig, Worker

SESSION_S: Final = 4.0
SETTINGS: Final = {
    "kafka__session_timeout_s": SESSION_S,
    "kafka__heartbeat_s": 1,
    "flow__group_records": 256,
}


class FreeWorker(Worker):
    """A worker whose scorer costs nothing."""

    program = ("scripts.chaos_worker",)


class Lapse(Struct, frozen=True):
    """Redis lost what it knew: offsets of the input, by partition."""

    first: Mapping[int, int]  # committed before it began
    last: Mapping[int, int]  # there when it was over


class Stage:
    """Starts workers, and starts others where some ended, as a supervisor would see to it."""

    def __init__(
        self, rig: Rig, site: Site, delivery: str, worker: type[Worker] = FreeWorker
    ) -> None:
        self.rig, self.site, self._worker = rig, site, worker
        self.mood = rig.folder / "mood"
        self.lapses: list[Lapse] = []
        self.workers: list[Worker] = []
        self.ended: list[Worker] = []
        self.complaints: list[int] = []  # exit codes of workers that did not end well when told to
        self._settings: dict[str, object] = {
            **SETTINGS,
            "kafka__delivery": delivery,
            **site.settings,
        }
        rig.variables |= site.environment
        if site.shaky:
            rig.variables[MOOD] = str(self.mood)
        self._made = 0

    def start(self) -> Worker:
        self._made += 1
        worker = self._worker(self.rig, f"w{self._made}", **self._settings)
        self.workers.append(worker)
        return worker

    def replace_dead(self) -> int:
        """How many had ended by themselves."""
        dead = [worker for worker in self.workers if worker.process.poll() is not None]
        for worker in dead:
            self.leave(worker)
            self.start()
        return len(dead)

    def leave(self, worker: Worker) -> None:
        """One worker less; it is killed if it still runs."""
        self.workers.remove(worker)
        worker.close()
        self.ended.append(worker)

    def stop(self, workers: Sequence[Worker], patience_s: float = 60.0) -> None:
        """In order; raises TimeoutExpired."""
        running = [worker for worker in workers if worker.process.poll() is None]
        for worker in running:
            worker.process.send_signal(signal.SIGTERM)
        for worker in running:
            code = worker.process.wait(patience_s)
            if code not in (0, -signal.SIGTERM):  # this, if it had only just begun
                self.complaints.append(code)

    def close(self) -> None:
        """End every worker, and what is left of faults that last."""
        for worker in [*self.workers]:
            worker.process.send_signal(signal.SIGCONT)
            self.leave(worker)
        if self.site.clock:
            self.site.clock.write_text("+0\n")

    def said(self) -> str:
        """The end of what the workers said."""
        logs: list[Path] = [worker.log for worker in [*self.workers, *self.ended]]
        return "\n--\n".join(log.read_text(errors="replace")[-1500:] for log in logs[:4])
