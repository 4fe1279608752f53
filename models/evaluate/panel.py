"""All ranking measures of one detector on one draw, under many weightings at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.evaluate.campaigns import Campaigns, campaigns_of
from models.evaluate.ranking import Flags, Floats, Ints, Order, Ranking, order_of
from models.evaluate.resample import Units
from models.evaluate.truth import Truth

BUDGETS: Final = (0.001, 0.01)  # share of clean events, or of clean users, that may be alerted
RARE: Final = 0.01  # prevalence that average precision is also given for, if there is more
_LEAST: Final = 5  # look-alike events; with fewer, an area against them says nothing

AP: Final = "average_precision"
RARE_AP: Final = "average_precision_rare"
AUC: Final = "roc_auc"
LOOK_ALIKE_AUC: Final = "look_alike_auc"

Key = tuple[str, str, str]  # group and value ("" for all events), measure


def label_of(share: float) -> str:
    """0.001 -> 0.1%"""
    return f"{share * 100:g}%"


class Sides(Struct, frozen=True):
    """One draw, parted into what is to be told apart. Indices are into its events."""

    events: Ints  # (events,) of the whole truth
    positive: Ints
    negative: Ints
    look_alike: Ints
    clean_user: Ints  # (negatives of clean users,) number among `clean_unit`
    of_clean: Ints  # the negatives that clean users have
    clean_unit: Ints  # (clean users,)
    unit: Ints  # (events,)
    units: int
    campaigns: Campaigns
    apart: Mapping[tuple[str, str], Flags]  # positives of a group that no normal event has
    shared: Mapping[tuple[str, str], tuple[Ints, Ints]]  # its positives (numbers), its negatives

    @property
    def prevalence(self) -> float:
        return len(self.positive) / len(self.events)


def sides_of(truth: Truth, units: Units, draw: int) -> Sides:
    events = np.flatnonzero(truth.draw == draw)
    part = truth.take(events)
    unit, user = units.of[events], units.user[events]
    positive, negative = np.flatnonzero(part.anomalous), np.flatnonzero(~part.anomalous)
    touched = np.unique(user[positive])
    of_clean = negative[~np.isin(user[negative], touched)]
    clean_unit, clean_user = np.unique(user[of_clean], return_inverse=True)
    apart: dict[tuple[str, str], Flags] = {}
    shared: dict[tuple[str, str], tuple[Ints, Ints]] = {}
    for name, values in part.groups.items():
        if name == "look_alike":
            continue
        normal = set(values[negative].tolist()) - {""}
        for value in sorted(set(values[positive].tolist()) - {""}):
            own = values == value
            if value in normal:
                shared[name, value] = np.flatnonzero(own[positive]), negative[own[negative]]
            else:
                apart[name, value] = own[positive]
    return Sides(
        events=events,
        positive=positive,
        negative=negative,
        look_alike=negative[part.group("look_alike")[negative] != ""],
        clean_user=clean_user,
        of_clean=of_clean,
        clean_unit=clean_unit,
        unit=unit,
        units=units.count,
        campaigns=campaigns_of(
            units.campaign[events][positive], units.campaign_unit, part.at_ms[positive]
        ),
        apart=apart,
        shared=shared,
    )


class Panel(Struct, frozen=True):
    """The orders of one detector's scores on one draw."""

    sides: Sides
    events: Order  # anomalies among normal events
    users: Order | None  # anomalies among clean users, each with the highest of their scores
    look_alikes: Order | None  # anomalies among look-alikes
    shared: Mapping[tuple[str, str], Order]  # within a group that normal events have as well

    def at(self, weight: Floats) -> dict[Key, Floats]:
        """Each measure, (resamples,). `weight`: (units, resamples)."""
        return dict(self._measures(weight))

    def _measures(self, weight: Floats) -> Iterator[tuple[Key, Floats]]:
        sides = self.sides
        ranking = self.events.weighed(weight)
        alerted = {label_of(b): ranking.alerted(b) for b in BUDGETS}
        yield from _named("", "", _of(ranking, alerted, None, sides.prevalence))
        for budget in BUDGETS:
            top = ranking.alerted_of_all(budget)
            yield ("", "", f"recall_of_top@{label_of(budget)}"), ranking.recall(top)
        for (group, value), some in sides.apart.items():
            prevalence = some.sum() / (some.sum() + len(sides.negative))
            yield from _named(group, value, _of(ranking, alerted, some, float(prevalence)))
        yield from self._by_campaign(alerted, weight)
        for (group, value), order in self.shared.items():
            own = order.weighed(weight)
            within = {label_of(b): own.alerted(b) for b in BUDGETS}
            yield from _named(group, value, _of(own, within, None, 0.0))
        if self.users is not None:
            against = self.users.weighed(weight)
            by_user = {f"{1000 * b:g}/1000users": against.alerted(b) for b in BUDGETS}
            yield from self._by_campaign(by_user, weight)
        if self.look_alikes is not None:
            alike = self.look_alikes.weighed(weight)
            yield ("", "", LOOK_ALIKE_AUC), alike.area_under_curve()
            for (group, value), some in sides.apart.items():
                yield (group, value, LOOK_ALIKE_AUC), alike.area_under_curve(some)

    def _by_campaign(
        self, alerted: Mapping[str, Flags], weight: Floats
    ) -> Iterator[tuple[Key, Floats]]:
        campaigns = self.sides.campaigns
        own = weight[campaigns.unit]
        groups: dict[tuple[str, str], Flags] = {("", ""): np.ones(len(campaigns), bool)}
        groups |= {key: campaigns.mostly(some) for key, some in self.sides.apart.items()}
        for name, flags in alerted.items():
            before = campaigns.before_alert(flags)
            found = before < campaigns.size[:, None]
            through = before / campaigns.size[:, None]
            for (group, value), some in groups.items():
                total = own[some].sum(0)
                with np.errstate(divide="ignore", invalid="ignore"):
                    recall = (own[some] * found[some]).sum(0) / total
                    let = (own[some] * through[some]).sum(0) / total
                yield (group, value, f"campaigns@{name}"), recall
                yield (group, value, f"let_through@{name}"), let


def against_look_alikes(scores: NDArray[np.floating[Any]], some: Flags, look_alike: Flags) -> float:
    """The same measure of some anomalies, every event once; NaN where it says nothing."""
    high, alike = scores[some], scores[look_alike]
    if len(alike) < _LEAST:
        return float("nan")
    unit, other = np.zeros(len(high), np.int64), np.zeros(len(alike), np.int64)
    order = order_of(high, unit, alike, other, 1)
    return float(order.weighed(np.ones((1, 1))).area_under_curve()[0])


def panel_of(scores: NDArray[np.floating[Any]], sides: Sides) -> Panel:
    """`scores`: (events,) of the draw, all finite."""
    unit, positive = sides.unit, sides.positive
    high, high_unit = scores[positive], unit[positive]

    def against(negative: Ints, some: Ints | None = None) -> Order:
        one, its = (high, high_unit) if some is None else (high[some], high_unit[some])
        return order_of(one, its, scores[negative], unit[negative], sides.units)

    users = None
    if len(sides.clean_unit):
        highest = np.full(len(sides.clean_unit), -np.inf)
        np.maximum.at(highest, sides.clean_user, scores[sides.of_clean])
        users = order_of(high, high_unit, highest, sides.clean_unit, sides.units)
    return Panel(
        sides=sides,
        events=against(sides.negative),
        users=users,
        look_alikes=against(sides.look_alike) if len(sides.look_alike) >= _LEAST else None,
        shared={key: against(n, p) for key, (p, n) in sides.shared.items()},
    )


def _of(
    ranking: Ranking, alerted: Mapping[str, Flags], some: Flags | None, prevalence: float
) -> dict[str, Floats]:
    found = {AP: ranking.average_precision(some), AUC: ranking.area_under_curve(some)}
    if prevalence > RARE:
        found[RARE_AP] = ranking.average_precision(some, RARE)
    for name, flags in alerted.items():
        found[f"recall@{name}"] = ranking.recall(flags, some)
    return found


def _named(group: str, value: str, found: Mapping[str, Floats]) -> Iterator[tuple[Key, Floats]]:
    for measure, values in found.items():
        yield (group, value, measure), values
