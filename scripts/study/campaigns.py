"""Campaign alerts on Taobao with spliced attacks: what the stream would join of a recipe's finds.

    .venv/bin/python -m scripts.study.campaigns --work data/taobao [--name context] [--seed 0]

Over the test draws of the fold that knows all families, after `scripts.study.taobao` has kept what
the recipe says of them. An event is decided anomalous from the limit on that a share of a draw's
clean events reach; strengths are those of `campaigns.strength`. Campaigns count that have as many
users as an alert needs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from models.evaluate.campaign_alerts import Alerted, alerted, summary
from models.evaluate.details import limit_of
from scripts.study.contest import Entrant
from scripts.study.parts import Kept, names, part, truth
from scripts.study.taobao import folder_of
from stream_app.core.campaign import CampaignPolicy

SHARES: Final = (0.01, 0.003)
STRENGTHS: Final = (0.0, 0.3, 0.5, 0.6, 0.7)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--name", default="context", help="of the recipe")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--entrants", type=Path, default=Path(__file__).with_name("entrants.json"))
    given = parser.parse_args()
    entrants = msgspec.json.decode(given.entrants.read_bytes(), type=list[Entrant])
    schema = next(one.read_as for one in entrants if one.name == given.name)
    folder, reader = folder_of(given.work, "all"), Kept()
    odds = np.load(folder / f"{given.name}.{given.seed}.npz")["all"].astype(np.float64)
    known, begin = truth(folder), 0
    found: dict[tuple[float, float], list[Alerted]] = {}
    for name in names(folder, "test"):
        draw = reader.load(part(folder, name, schema))
        data, events = draw.data, draw.events
        own = slice(begin, begin + len(events))
        begin += len(events)
        assert (data.anomalous[events] == known.anomalous[own]).all(), "scores of other draws"
        probable = 1 / (1 + np.exp(-odds[own]))
        for share in SHARES:
            decided = probable > limit_of(probable[~data.anomalous[events]], share)
            for strength in STRENGTHS:
                policy = CampaignPolicy(strength=strength)
                one = alerted(data, events, probable, decided, schema, policy)
                found.setdefault((share, strength), []).append(one)
    print(
        "| clean events decided anomalous | strength | alerts | of campaigns | of look-alikes "
        "| campaigns found | of their events before it, median |\n|" + " --- |" * 7
    )
    for (share, strength), some in found.items():
        told = summary(some)
        alike = ", ".join(f"{count} {kind}" for kind, count in told["of_look_alikes"].items())
        before = "" if told["median_before"] is None else f"{told['median_before']:.2f}"
        print(
            f"| {share:.1%} | {strength} | {told['alerts']} | {told['of_campaigns']} "
            f"| {alike or 0} | {told['found']} of {told['campaigns']} | {before} |"
        )


if __name__ == "__main__":
    main()
