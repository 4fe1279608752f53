"""Taobao, half A: what is trained on, chosen on and judged, with attacks and look-alikes in all.

    .venv/bin/python scripts/study/splits.py --data taobao_split_a.csv --out data/study
        [--leave-out brushing,replay] [--replicas 8] [--draws 20]

Nine days of 481 people. 70 % of them are known: their days 1 to 5 are trained on. 15 % first appear
in the validation days 6 and 7, 15 % in the test days 8 and 9, where everybody is judged. Every part
and every draw has campaigns, accounts, targets and scenes of its own.

    history.jsonl        days 1 to 5 of the known, without attacks
    train-N.jsonl        the same with attacks (10 %) and look-alikes (8 %); a fifth of the people
                         come later than they did, so that honest newcomers exist in mid-stream
    valid-N.jsonl        days 6 and 7, to be read after the history: 2 % and 3 %
    between.jsonl        days 6 and 7 without attacks
    test-N.jsonl         days 8 and 9, to be read after history and between: below 1 % and 2 %
    *.labels.jsonl       their truths

`--leave-out` keeps families out of training and validation; the test then has these alone.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import xxhash
from msgspec import Struct

from models.simulate.attacks import FAMILIES
from models.simulate.splice import behead, splice
from models.simulate.world import Label

Raw = dict[str, object]

TYPES: Final = {"pv": "browse", "cart": "cart", "fav": "favourite", "buy": "purchase"}
FIRST_S: Final = 1_511_539_200  # 25 November 2017, 00:00 in China
DAY_S: Final = 86_400
DAYS: Final = 9
FOLDS: Final = (
    ("click_fraud", "account_takeover"),
    ("scraping", "coupon_abuse"),
    ("brushing", "ride_along"),
    ("cart_hoarding", "replay"),
    ("credential_stuffing", "composite"),
)
TRAIN_RATES: Final = (0.10, 0.08)  # attacks and look-alikes, as shares of the real events
VALID_RATES: Final = (0.02, 0.03)
TEST_RATES: Final = (0.006, 0.02)
CAMPAIGN_EVENTS: Final = 50  # at most, or at 1 % a draw would be one campaign


class Part(Struct, frozen=True):
    """Events in order of arrival, and their labels."""

    events: Sequence[Mapping[str, object]]
    labels: Sequence[Label] = ()

    def write(self, path: Path) -> None:
        """`path` and, if anything is labelled, `<name>.labels.jsonl` beside it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [msgspec.json.encode(event) for event in self.events]
        path.write_bytes(b"\n".join(lines) + b"\n")
        if self.labels:
            lines = [msgspec.json.encode(label) for label in self.labels]
            path.with_suffix(".labels.jsonl").write_bytes(b"\n".join(lines) + b"\n")


class Background(Struct, frozen=True):
    """Real events by what they serve."""

    history: list[Raw]  # days 1 to 5 of the known
    between: list[Raw]  # days 6 and 7 of all but the last to appear
    last: list[Raw]  # days 8 and 9 of all
    held_back: list[Raw]  # all days of those who first appear in the test


def read(path: Path) -> list[Raw]:
    """The nine days in order of time; rows outside of them have wrong clocks."""
    with path.open(newline="") as file:
        rows = [(int(row[4]), n, row) for n, row in enumerate(csv.reader(file))]
    rows.sort(key=lambda row: row[:2])
    return [
        {
            "event_id": str(10_000_000 + n),
            "user_id": user,
            "type": TYPES[kind],
            "event_time": at_s * 1000,
            "item_id": item,
            "category_id": category,
        }
        for at_s, n, (user, item, category, kind, _) in rows
        if FIRST_S <= at_s < FIRST_S + DAYS * DAY_S
    ]


def background(events: Sequence[Raw]) -> Background:
    def lot(event: Raw) -> float:
        return xxhash.xxh3_64_intdigest(f"study:{event['user_id']}".encode()) / 2**64

    def day(event: Raw) -> int:
        at_ms = event["event_time"]
        assert isinstance(at_ms, int)
        return (at_ms // 1000 - FIRST_S) // DAY_S + 1

    return Background(
        [e for e in events if day(e) <= 5 and lot(e) < 0.7],
        [e for e in events if 6 <= day(e) <= 7 and lot(e) < 0.85],
        [e for e in events if day(e) >= 8],
        [e for e in events if lot(e) >= 0.85],
    )


def train(real: Background, number: int, families: Sequence[str], *, varied: bool = False) -> Part:
    """One replica: the same people, other attacks. `varied` as for `splice`."""
    seed = 1000 + number
    people = behead(real.history, 0.2, np.random.default_rng(seed))
    attacks, scenes = TRAIN_RATES
    return Part(
        *splice(
            people,
            seed,
            attacks,
            families,
            look_alike_rate=scenes,
            campaign_events=CAMPAIGN_EVENTS,
            varied=varied,
        )
    )


def valid(real: Background, number: int, families: Sequence[str]) -> Part:
    return _later(real.history, real.between, 2000 + number, VALID_RATES, families)


def test(real: Background, number: int, families: Sequence[str]) -> Part:
    """At most 1 % of the events are attacks; three families a draw, all of them in turn."""
    families = [families[(3 * number + at) % len(families)] for at in range(min(3, len(families)))]
    past = [*real.history, *real.between]
    return _later(past, real.last, 3000 + number, TEST_RATES, families)


def _later(
    past: Sequence[Raw],
    events: Sequence[Raw],
    seed: int,
    rates: tuple[float, float],
    families: Sequence[str],
) -> Part:
    """Attacks on `events` by accounts and on items that the past has as well."""
    from_ms = events[0]["event_time"]
    assert isinstance(from_ms, int)
    spliced, labels = splice(
        [*past, *events],
        seed,
        rates[0],
        families,
        look_alike_rate=rates[1],
        from_ms=from_ms,
        campaign_events=CAMPAIGN_EVENTS,
    )
    kept = [
        (event, label)
        for event, label in zip(spliced, labels, strict=True)
        if isinstance(at_ms := event["event_time"], int) and at_ms >= from_ms
    ]
    return Part([event for event, _ in kept], [label for _, label in kept])


def files(
    real: Background, replicas: int, valid_draws: int, draws: int, leave_out: Sequence[str]
) -> Iterator[tuple[str, Part]]:
    """Names and contents of all files of a study."""
    seen = [family for family in FAMILIES if family not in leave_out]
    yield "history", Part(real.history)
    yield "between", Part(real.between)
    for number in range(replicas):
        yield f"train-{number}", train(real, number, seen)
    for number in range(valid_draws):
        yield f"valid-{number}", valid(real, number, seen)
    for number in range(draws):
        yield f"test-{number}", test(real, number, list(leave_out) or seen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--leave-out", default="", help="families, with commas between them")
    parser.add_argument("--replicas", type=int, default=8)
    parser.add_argument("--valid-draws", type=int, default=3)
    parser.add_argument("--draws", type=int, default=20)
    given = parser.parse_args()
    leave_out = [name for name in given.leave_out.split(",") if name]
    if unknown := set(leave_out) - set(FAMILIES):
        parser.error(f"no such family: {', '.join(unknown)}; there are {', '.join(FAMILIES)}")
    real = background(read(given.data))
    for name, part in files(real, given.replicas, given.valid_draws, given.draws, leave_out):
        part.write(given.out / f"{name}.jsonl")
        attacks = sum(label.label for label in part.labels)
        campaigns = len({label.campaign for label in part.labels if label.label})
        alike = sum(label.look_alike is not None for label in part.labels)
        print(
            f"{name}: {len(part.events)} events, {attacks} of {campaigns} attacks "
            f"({attacks / len(part.events):.2%}), {alike} of look-alikes"
        )


if __name__ == "__main__":
    main()
