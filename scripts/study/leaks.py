"""Whether one raw field of one event gives the spliced attacks away (Taobao, half A).

    .venv/bin/python -m scripts.study.leaks --data taobao_split_a.csv [--draws 8]

Replicas as the study trains on, all together: hard attacks against everything else, with and
without look-alikes among the honest. An area under the curve above .75, or below .25, is a leak.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from models.simulate.attacks import FAMILIES
from models.simulate.audit import LIMIT, audit, leaks
from models.simulate.world import Simulated
from scripts.study import splits


def told(real: splits.Background, draws: int) -> list[Simulated]:
    """The events of some replicas, with their labels."""
    found = []
    for number in range(draws):
        part = splits.train(real, number, list(FAMILIES))
        found += [
            Simulated(dict(event), label)
            for event, label in zip(part.events, part.labels, strict=True)
        ]
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=8)
    given = parser.parse_args(arguments)
    events = told(splits.background(splits.read(given.data)), given.draws)
    honest = [one for one in events if one.label.look_alike is None]
    every, plain = audit(events), audit(honest)
    print("| field | against all | without look-alikes |\n| --- | --- | --- |")
    for name in sorted(every, key=lambda name: -abs(every[name] - 0.5)):
        print(f"| {name} | {every[name]:.3f} | {plain[name]:.3f} |")
    found = sorted({*leaks(every), *leaks(plain)})
    print(f"\nbeyond {LIMIT}: {', '.join(found) or 'none'}")


if __name__ == "__main__":
    main()
