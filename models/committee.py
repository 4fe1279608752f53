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
from models.inference import Seen, logits_of, read_pass, seen_passes
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
    looks = members.looks(names)
    heard = {look.source for look in looks.values()}
    lead_name = next(iter(members.encoders))
    encoders = {k: v for k, v in members.encoders.items() if k in {lead_name, *names, *heard}}
    shared = all(encoder.config.attention == "causal" for encoder in encoders.values())
    task_of = torch.from_numpy(np.asarray(tasks, np.int64)).to(device)
    said = _Said(len(windows))
    with torch.inference_mode():
        for one, seen in seen_passes(members.schema, windows, device, budget, shared):
            said.order.append(one.windows)
            task = task_of[torch.from_numpy(one.windows).to(device), None]
            at = seen.line, seen.place
            lead = read_pass(members.lead, seen, lead_name in heard, likelihood)
            said.add("surprise", lead.nats)
            if lead.log_likelihood is not None:
                said.add("log-likelihood", lead.log_likelihood)
            for name, network in encoders.items():
                if name == lead_name:
                    logits, whole = lead.logits, lead.whole
                else:
                    logits = logits_of(network, seen, name in heard)
                    whole = logits if name in heard else None
                    logits = logits if whole is None else logits[at]
                said.add(name, logits.gather(1, task)[:, 0])
                for key, look in looks.items():
                    if look.source == name and whole is not None:
                        said.add(f"before, {key}", _before(network, look.lines, seen, whole))
            if trees:
                said.add("facts", facts(members.schema, seen.window, seen.described, *at))
        surprise, total = said.told("surprise"), said.told("log-likelihood")
        raw = np.empty((len(windows), len(names)), np.float32)
        for column, name in enumerate(names):
            if name not in trees:
                raw[:, column] = said.told(name)
                continue
            known, some = said.told("facts"), trees[name]
            if isinstance(some, SecondLook):
                known, some = np.hstack([known, said.told(f"before, {name}")]), some.trees
            raw[:, column] = some.raw(known, threads)
    return Opinions(raw, surprise, total)


def known_facts(schema: Schema, windows: Windows, device: torch.device) -> Table:
    """(windows, facts) of each window's own event, as `Trees` see them."""
    said = _Said(len(windows))
    with torch.inference_mode():
        for one, seen in seen_passes(schema, windows, device, 0, shared=True):
            said.add("facts", facts(schema, seen.window, seen.described, seen.line, seen.place))
            said.order.append(one.windows)
        return said.told("facts")


def known_before(
    source: Network, lines: tuple[Line, ...], windows: Windows, device: torch.device
) -> Table:
    """(windows, EARLIER): what `source`, a causal encoder, said of the events before each window's
    own; with the facts it is what a `SecondLook` sees.
    """
    said = _Said(len(windows))
    with torch.inference_mode():
        for one, seen in seen_passes(source.schema, windows, device, 0, shared=True):
            said.add("before", _before(source, lines, seen, logits_of(source, seen, whole=True)))
            said.order.append(one.windows)
        return said.told("before")


def _before(source: Network, lines: tuple[Line, ...], seen: Seen, whole: Tensor) -> Tensor:
    own_task = source.task_of_type[seen.window.type]
    return earlier(scaled(whole, own_task, lines))[seen.line, seen.place]


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
