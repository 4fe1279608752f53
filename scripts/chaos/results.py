"""What is kept of a run, and the table of many."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct, field

from stream_app.core.audit import Difference

ONE_NODE: Final = "one-node"
HEADS: Final = {
    "kill": "kill -9",
    "terminate": "SIGTERM",
    "zombie": "zombies",
    "storm": "storms",
    "broker-kill": "broker kills",
    "redis-restart": "Redis restarts",
}


class Result(Struct, kw_only=True):
    """A run, as a line of the file."""

    seed: int
    delivery: str
    scene: str = ONE_NODE
    records: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    doubled: int = 0  # differences that are one output too many
    repeats: int = 0  # outputs there again, as at-least-once allows
    forgotten: int = 0  # decided otherwise, as Redis had lost what came before
    poison: int = 0  # dead letters of the scorer, which the rules over the input do not know
    compared: int = 0  # events whose score, decision and alert are as offline, or told in `other`
    resent: int = 0  # input records that the load's own producer sent twice
    other: Counter[str] = field(default_factory=Counter)
    differences: list[Difference] = field(default_factory=list)
    took_s: float = 0.0
    failed: str = ""  # the run did not come to its end

    @property
    def ok(self) -> bool:
        return not (self.lost or self.doubled or self.other or self.failed)


def read(path: Path) -> list[Result]:
    """The results in a file of runs; what older ones do not have is as by default."""
    decoder = msgspec.json.Decoder(Result, dec_hook=lambda kind, value: kind(value))
    return [decoder.decode(line) for line in path.read_bytes().splitlines()]


def table(results: list[Result]) -> str:
    """The sums by scene and delivery, as Markdown: a table for each scene."""
    scenes = dict.fromkeys(result.scene for result in results)
    return "\n\n".join(
        _of_scene(scene, [r for r in results if r.scene == scene]) for scene in scenes
    )


def _of_scene(scene: str, results: list[Result]) -> str:
    met = sum((result.faults for result in results), Counter[str]())
    faults = [name for name in dict.fromkeys([*HEADS, *sorted(met)]) if met[name]]
    heads = [
        scene,
        "runs",
        "records",
        *(HEADS.get(name, name.replace("-", " ")) for name in faults),
    ]
    heads += ["lost", "doubled", "repeats", "forgotten"]
    heads += ["poison", "compared", "other", "unfinished"]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for delivery in sorted({r.delivery for r in results}):
        own = [r for r in results if r.delivery == delivery]
        own_met = sum((r.faults for r in own), Counter[str]())
        cells = [len(own), sum(r.records for r in own if not r.failed)]  # judged ones
        cells += [own_met[name] for name in faults]
        cells += [sum(r.lost for r in own), sum(r.doubled for r in own)]
        cells += [sum(r.repeats for r in own), sum(r.forgotten for r in own)]
        cells += [sum(r.poison for r in own), sum(r.compared for r in own)]
        cells += [sum(r.other.total() for r in own)]
        cells += [sum(bool(r.failed) for r in own)]
        lines.append(f"| {delivery} | " + " | ".join(f"{cell:,}" for cell in cells) + " |")
    return "\n".join(lines)
