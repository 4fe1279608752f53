"""All members of a bundle over the same windows: what each says, in one go.

The passes and what is described of the events are made once. Encoders read them one after the
other; trees get the facts of all windows of a batch in one table, on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray
from torch import Tensor

from models.calibration import Line
from models.features import facts
from models.inference import Reading, Seen, logits_of, read_pass, seen_passes
from models.members import Members
from models.network import Network
from models.schema import Schema
from models.second_look import SecondLook, earlier, scaled
from models.trees import Table
from stream_app.core.score import Floats
from stream_app.core.window import Ints, Windows


class Opinions(Struct, frozen=True):
    """One row a window."""

    raw: NDArray[np.float32]  # (windows, members) under the event's own task, each on its own scale
    surprise: Floats  # (windows,) nats, by the leading encoder
    log_likelihood: Floats  # (windows,) of all its events, likewise; NaN unless asked for


def hear(
    members: Members,
    names: Sequence[str],
    windows: Windows,
    tasks: Ints,
    device: torch.device,
    budget: int = 0,
    likelihood: bool = False,
    threads: int = 1,
) -> Opinions:
    """Ask `names`, in their order, about every window under its task.

    The caller has seen to it that the windows are sound. `budget` and `likelihood` as
    for `inference.run`; `threads` are those of the trees.
    """
    trees = {name: members.trees[name] for name in names if name in members.trees}
    looks = {name: some for name, some in trees.items() if isinstance(some, SecondLook)}
    encoders = {name: members.encoders[name] for name in names if name in members.encoders}
    shared = all(e.config.attention == "causal" for e in (members.lead, *encoders.values()))
    task_of = torch.from_numpy(np.asarray(tasks, np.int64)).to(device)
    said = _Said(len(windows))
    with torch.inference_mode():
        for one, seen in seen_passes(members.schema, windows, device, budget, shared):
            lead = read_pass(members.lead, seen, bool(looks), likelihood)
            said.add("surprise", lead.nats)
            if lead.log_likelihood is not None:
                said.add("log-likelihood", lead.log_likelihood)
            task = task_of[torch.from_numpy(one.windows).to(device), None]
            for name, network in encoders.items():
                logits = lead.logits if network is members.lead else logits_of(network, seen)
                said.add(name, logits.gather(1, task)[:, 0])
            if trees:
                said.add("facts", _facts(members.schema, seen))
            for name, look in looks.items():
                said.add(f"before, {name}", _before(members.lead, look.lines, seen, lead))
            said.order.append(one.windows)
        surprise, total = said.told("surprise"), said.told("log-likelihood")
        raw = np.empty((len(windows), len(names)), np.float32)
        for at, name in enumerate(names):
            if name in encoders:
                raw[:, at] = said.told(name)
                continue
            known, some = said.told("facts"), trees[name]
            if isinstance(some, SecondLook):
                known, some = np.hstack([known, said.told(f"before, {name}")]), some.trees
            raw[:, at] = some.raw(known, threads)
    return Opinions(raw, surprise, total)


def known_facts(schema: Schema, windows: Windows, device: torch.device) -> Table:
    """(windows, facts) of each window's own event, as `Trees` see them."""
    said = _Said(len(windows))
    with torch.inference_mode():
        for one, seen in seen_passes(schema, windows, device, 0, shared=True):
            said.add("facts", _facts(schema, seen))
            said.order.append(one.windows)
        return said.told("facts")


def known_before(
    lead: Network, lines: tuple[Line, ...], windows: Windows, device: torch.device
) -> Table:
    """(windows, EARLIER): what `lead`, a causal encoder, said of the events before each window's
    own; with the facts it is what a `SecondLook` sees.
    """
    said = _Said(len(windows))
    with torch.inference_mode():
        for one, seen in seen_passes(lead.schema, windows, device, 0, shared=True):
            reading = read_pass(lead, seen, whole=True)
            said.add("before", _before(lead, lines, seen, reading))
            said.order.append(one.windows)
        return said.told("before")


class _Said:
    """What was said pass by pass, on the device; one wait for it, after all passes."""

    def __init__(self, count: int) -> None:
        self.order: list[Ints] = []  # which windows each pass was about
        self._count = count
        self._parts: dict[str, list[Tensor]] = {}

    def add(self, key: str, part: Tensor) -> None:
        self._parts.setdefault(key, []).append(part)

    def told(self, key: str) -> NDArray[np.float32]:
        """(windows, ...) in their order; NaN if there is nothing of this key."""
        if key not in self._parts:
            return np.full(self._count, np.nan, np.float32)
        parts = torch.cat(self._parts[key]).float().cpu().numpy()
        found = np.empty_like(parts)
        found[np.concatenate(self.order)] = parts
        return found


def _facts(schema: Schema, seen: Seen) -> Tensor:
    return facts(schema, seen.window, seen.described, seen.line, seen.place)


def _before(lead: Network, lines: tuple[Line, ...], seen: Seen, reading: Reading) -> Tensor:
    assert reading.whole is not None  # asked for by the callers
    own_task = lead.task_of_type[seen.window.type]
    return earlier(scaled(reading.whole, own_task, lines))[seen.line, seen.place]
