"""A second simulator of shop fraud, written without sight of the first, to judge detectors by.

    .venv/bin/python -m scripts.study.independent --data taobao_split_a.csv --out DIR \
        [--draws 20] [--seed 1] [--audit]

Writes `DIR/test-N.jsonl`, the real events of days 8 and 9 with attacks and look-alikes among them,
and `DIR/test-N.labels.jsonl`, a label for each event. Levels are told in
`independent_attacks`, families in `independent_alone` and `independent_rings`, look-alikes in
`independent_honest`. --audit also prints how far one
raw field alone parts the hard attacks from everything else, as ROC-AUC: 0.5 is not at all.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from msgspec.structs import replace
from sklearn.metrics import roc_auc_score

from models.simulate.world import Label
from scripts.study.independent_attacks import campaign, schedule
from scripts.study.independent_honest import LOOK_ALIKES
from scripts.study.independent_shop import Act, Draw, Shop
from scripts.study.splits import Background, Part, Raw, background, read

ATTACKS: Final = 0.006  # of the events
LIKE: Final = 0.02
CAMPAIGN_EVENTS: Final = 50  # at most
USUAL_EVENTS: Final = 20  # of a campaign or a look-alike
FIRST_ID: Final = 90_000_000  # real events are numbered from ten million on


def test(shop: Shop, last: Sequence[Raw], number: int, seed: int) -> Part:
    """Draw `number`: all its chance comes from one generator."""
    rng = np.random.default_rng([seed, number])
    draw = Draw(shop, rng)
    total = len(last) / (1 - ATTACKS - LIKE)
    spliced: list[tuple[Act, Label]] = []
    sizes = _sizes(rng, round(total * ATTACKS))
    for n, ((name, level), size) in enumerate(
        zip(schedule(number, len(sizes)), sizes, strict=True)
    ):
        place, acts = campaign(draw, name, level, size)
        label = Label(
            event_id="",
            label=1,
            attack=name,
            difficulty=level,
            campaign=f"{number}-{n}-{name}",
            place=place,
        )
        spliced += [(act, label) for act in acts]
    sizes = _sizes(rng, round(total * LIKE))
    kinds = list(LOOK_ALIKES)
    for n, size in enumerate(sizes):
        kind = kinds[(number * len(sizes) + n) % len(kinds)]
        label = Label(event_id="", label=0, look_alike=kind)
        spliced += [(act, label) for act in LOOK_ALIKES[kind](draw, size)]
    rows = [(event, Label(event_id=str(event["event_id"]), label=0)) for event in last]
    for n, at in enumerate(rng.permutation(len(spliced))):
        act, label = spliced[int(at)]
        event_id = str(FIRST_ID + number * 100_000 + n)
        rows.append((_event(act, event_id, draw), replace(label, event_id=event_id)))
    rows.sort(key=lambda row: _time(row[0]))
    return Part([event for event, _ in rows], [label for _, label in rows])


def audit(parts: Sequence[Part], real: Background) -> dict[str, float]:
    """ROC-AUC of single raw fields: hard attacks against everything else."""
    items = Counter(event["item_id"] for event in real.history)
    categories = Counter(event["category_id"] for event in real.history)
    types = Counter(event["type"] for event in real.history)
    users = Counter(event["user_id"] for event in real.history)
    hard: list[bool] = []
    fields: list[tuple[float, ...]] = []
    for part in parts:
        seen: dict[object, int] = {}
        for event, label in zip(part.events, part.labels, strict=True):
            at_ms, user = _time(event), event["user_id"]
            gap = at_ms - seen.get(user, at_ms - 10**9)
            seen[user] = at_ms
            if label.label and label.difficulty != "hard":
                continue  # easier attacks
            hard.append(bool(label.label))
            fields.append(
                (
                    items[event["item_id"]],
                    categories[event["category_id"]],
                    (at_ms // 3_600_000 + 8) % 24,
                    at_ms // 1000 % 60,
                    gap,
                    types[event["type"]],
                    users[user],
                )
            )
    names = ("item", "category", "hour", "second", "gap", "type", "account")
    columns = np.array(fields)
    return {name: float(roc_auc_score(hard, columns[:, n])) for n, name in enumerate(names)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--audit", action="store_true")
    told = parser.parse_args()
    real = background(read(told.data))
    shop = Shop(real)
    parts = [test(shop, real.last, number, told.seed) for number in range(told.draws)]
    for number, part in enumerate(parts):
        part.write(told.out / f"test-{number}.jsonl")
    attacks = sum(label.label for part in parts for label in part.labels)
    events = sum(len(part.events) for part in parts)
    print(f"{len(parts)} draws, {events} events, {attacks} of attacks ({attacks / events:.2%})")
    if told.audit:
        for name, value in audit(parts, real).items():
            print(f"{name:9s} {value:.3f}")


def _sizes(rng: np.random.Generator, total: int) -> list[int]:
    """`total` in uneven pieces of at most CAMPAIGN_EVENTS."""
    pieces = max(1, round(total / USUAL_EVENTS))
    weights = np.clip(rng.lognormal(0.0, 0.4, pieces), 0.7, 1.7)
    ends = np.rint(np.cumsum(weights) / weights.sum() * total).astype(int)
    sizes = [int(size) for size in np.diff(ends, prepend=0)]
    assert max(sizes) <= CAMPAIGN_EVENTS
    return sizes


def _event(act: Act, event_id: str, draw: Draw) -> Raw:
    return {
        "event_id": event_id,
        "user_id": act.user,
        "type": act.type,
        "event_time": act.at_s * 1000,
        "item_id": act.item,
        "category_id": draw.category[act.item],
    }


def _time(event: Mapping[str, object]) -> int:
    at_ms = event["event_time"]
    assert isinstance(at_ms, int)
    return at_ms


if __name__ == "__main__":
    main()
