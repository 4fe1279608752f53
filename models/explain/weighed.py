"""The field x event table of all members that make a score: what each input adds to their mean.

    encoders   as `attribution` has it
    trees      what their log-odds lose if a cell of the newest event is made usual; they see no
               other event, and what they lose cell by cell does not add up

A second look also hears an encoder of the earlier events; what that adds is in no cell.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.bundle import Bundle
from models.committee import known_before, known_facts
from models.explain.attribution import Attributed, Method, attribute
from models.explain.words import Array
from models.fusion import weigh
from models.network import Network
from models.second_look import EARLIER, SecondLook
from models.trees import Table, Trees
from stream_app.core.window import Ints, Windows

_SEEN_BEFORE, _NEW = 2, 1  # relations of a category


class Weighed(Struct, frozen=True, kw_only=True):
    """One window. `by_input` in log-odds, laid out as the leading encoder's inputs."""

    weights: Mapping[str, float]  # of each member in the mean
    by_input: Array  # (events, inputs)
    before: float | None  # what second looks add for what they heard; None: there is none
    rise: float | None  # the table's sum as it must be; None: it was not asked, or there are trees
    off: float | None


def weighed(
    bundle: Bundle, windows: Windows, task: Ints, method: Method, lead: Attributed
) -> Weighed:
    """Of one window. `lead`: what the leading encoder adds, by the same method."""
    names, trees = bundle.chosen, bundle.members.trees
    weights = weigh(names, list(trees))
    table = np.zeros(lead.by_input[0].shape)
    rise = off = 0.0
    before = None
    for name, weight in zip(names, weights.tolist(), strict=True):
        scale = weight * bundle.fusion.scales[name][int(task[0])].slope
        if name in trees:
            lost, heard = _without(bundle, trees[name], windows)
            table[-1] += scale * lost
            before = before if heard is None else (before or 0.0) + scale * heard
            continue
        network, found = bundle.members.encoders[name], lead
        if network is not bundle.network:
            (found,) = attribute(network, windows, task, bundle.device, method)
        own = found.by_input[0].float().cpu().numpy()
        table += scale * _laid_out(own, network, bundle.network)
        rise, off = rise + scale * float(found.rise[0]), off + abs(scale) * float(found.off[0])
    told = method == "path" and not any(name in trees for name in names)
    return Weighed(
        weights=dict(zip(names, weights.tolist(), strict=True)),
        by_input=table,
        before=before,
        rise=rise if told else None,
        off=off if told else None,
    )


def _laid_out(by_input: Array, network: Network, lead: Network) -> Array:
    """Encoders may have other codes of the same numbers: all of a number stands at one place."""
    if network is lead:
        return by_input
    raw, count = network.raw_width, len(network.numbers)
    codes = by_input[:, raw:-count].reshape(len(by_input), count, network.bins)
    found = np.zeros((len(by_input), lead.raw_width + lead.code_width))
    found[:, :raw], found[:, -count:] = by_input[:, :raw], by_input[:, -count:] + codes.sum(2)
    return found


def _without(
    bundle: Bundle, member: Trees | SecondLook, windows: Windows
) -> tuple[NDArray[np.float64], float | None]:
    """(inputs,) of the newest event: what the trees' log-odds lose without each cell, at its first
    number; and what they lose if they hear nothing.
    """
    network = bundle.network
    facts = known_facts(bundle.schema, windows, bundle.device)
    trees = member.trees if isinstance(member, SecondLook) else member
    deaf: list[Table] = []
    if isinstance(member, SecondLook):
        source = bundle.members.encoders[member.source]
        said = known_before(source, member.lines, windows, bundle.device)
        deaf = [np.hstack([facts, np.full((1, len(EARLIER)), np.nan, np.float32)])]
        facts = np.hstack([facts, said])
    cells, of_fact, usual = _usual(network)
    altered = np.repeat(facts, len(cells), 0)
    for at, cell in enumerate(cells):
        altered[at, np.flatnonzero(of_fact == cell)] = usual[of_fact == cell]
    scores = trees.raw(np.concatenate([facts, altered, *deaf])).astype(np.float64)
    lost = np.zeros(network.raw_width + network.code_width)
    count = len(network.numbers)
    for at, cell in enumerate(cells):
        fact = int(np.flatnonzero(of_fact == cell)[0])
        place = len(lost) - count + fact if fact < count else 0  # 0: of the type
        lost[place] = scores[0] - scores[1 + at]
    return lost, float(scores[0] - scores[-1]) if deaf else None


def _usual(network: Network) -> tuple[list[str], NDArray[np.str_], NDArray[np.float32]]:
    """Cells, the cell of each fact, and the middle of what is usual of each fact."""
    statistics, categories = network.statistics, network.schema.of_kind("category")
    middle = [(low + high) / 2 for low, high in statistics.expected]
    names = [number.name for number in network.numbers]
    seen = [middle[names.index(f"{f.name} seen")] for f in categories]
    of_fact = [number.cell for number in network.numbers] + ["type"]
    of_fact += [f.title for f in categories]
    usual = [*middle, int(np.argmax(statistics.type_shares)) + 1]
    usual += [_SEEN_BEFORE if often >= 1 else _NEW for often in seen]
    return list(dict.fromkeys(of_fact)), np.array(of_fact), np.array(usual, np.float32)
