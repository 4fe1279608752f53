"""Each baseline on a small shop with crude bots: better than chance, repeatable, causal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.baselines import NAMES, OF_BUNDLE, OF_SCHEMA, Draw, detectors, fit_draws
from models.baselines.space import SPACES
from models.bundle import Bundle
from models.dataset import Dataset, read, split
from models.measures import average_precision
from models.schema import Schema
from models.tune.space import Settings, suggest
from stream_app.core.errors import Misconfigured
from stream_app.core.window import Ints, WindowPolicy
from tests.models.conftest import Files

EVERY = (*NAMES, *OF_SCHEMA, *OF_BUNDLE)
QUICK: dict[str, Settings] = {
    "gru": {"epochs": 3},
    "stack": {"looks": 2},
    "stack-encoder": {"looks": 1},
}
SLOW = ("gru", "stack-encoder", "mean-shift")
ALL = [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in EVERY]


@pytest.fixture(scope="module")
def parts(dataset: Dataset) -> list[Ints]:
    return split(dataset, (0.5, 0.2, 0.3), seed=0)


@pytest.fixture(scope="module")
def beginning(files: Files, shop: Schema, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The first half of the same events."""
    path = tmp_path_factory.mktemp("prefix") / "events.jsonl"
    lines = files.data.read_bytes().splitlines()
    path.write_bytes(b"\n".join(lines[: len(lines) // 2]))
    return read([path], [files.labels], shop, WindowPolicy())


@pytest.mark.parametrize("name", ALL)
def test_a_baseline_finds_crude_bots_as_they_come_and_alike_each_time(
    name: str,
    dataset: Dataset,
    beginning: Dataset,
    parts: list[Ints],
    shop: Schema,
    bundle: Bundle,
) -> None:
    fit_on, choose_on, judge = parts
    (one,) = detectors([name], 3, settings=QUICK, schema=shop, bundle=bundle)
    if not one.labels:  # what is usual can be told only where anomalies are rare
        fit_on = fit_on[~dataset.anomalous[fit_on] | (fit_on % 50 == 0)]
    one.fit(dataset, fit_on, choose_on)
    scores = one.score(dataset, judge)
    assert one.name == name
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    anomalous = dataset.anomalous[judge]
    chance = 1.2 if name == "surprise" else 2  # bots repeat themselves; it is no good baseline
    assert average_precision(scores, anomalous) > chance * anomalous.mean()

    known = judge[judge < len(beginning)]  # the future does not exist: the same scores
    early = one.score(beginning, known)
    np.testing.assert_allclose(early, scores[: len(known)], atol=1e-4)
    few = known[::17]  # nor does it matter who else is asked about
    np.testing.assert_allclose(one.score(beginning, few), early[::17], atol=1e-4)

    (again,) = detectors([name], 3, settings=QUICK, schema=shop, bundle=bundle)
    again.fit(dataset, fit_on, choose_on)
    np.testing.assert_array_equal(again.score(dataset, judge), scores)


@pytest.mark.parametrize("name", [n for n in NAMES if detectors([n])[0].labels] + [*OF_SCHEMA])
def test_what_learns_from_labels_says_so_if_there_are_none(
    name: str, dataset: Dataset, parts: list[Ints], shop: Schema
) -> None:
    normal = [part[~dataset.anomalous[part]] for part in parts]
    (one,) = detectors([name], schema=shop)
    with pytest.raises(Misconfigured, match="anomalies"):
        one.fit(dataset, normal[0], normal[1])


@pytest.mark.parametrize(
    "name", [n for n in NAMES if n not in SLOW and not detectors([n])[0].labels]
)
def test_what_does_not_learn_from_labels_does_not_read_them(
    name: str, dataset: Dataset, files: Files, shop: Schema, parts: list[Ints]
) -> None:
    fit_on, choose_on, judge = parts
    blind = read([files.data], [], shop, WindowPolicy())
    found = []
    for data in (dataset, blind):
        (one,) = detectors([name])
        one.fit(data, fit_on, choose_on)
        found.append(one.score(data, judge))
    np.testing.assert_array_equal(found[0], found[1])


def test_draws_over_one_background_are_learnt_from_together(
    dataset: Dataset, beginning: Dataset, parts: list[Ints]
) -> None:
    fit_on, choose_on, judge = parts
    other = Draw(beginning, fit_on[fit_on < len(beginning)], choose_on[choose_on < len(beginning)])
    (together,) = detectors(["boosted"])
    fit_draws(together, [Draw(dataset, fit_on, choose_on), other])
    (alone,) = detectors(["boosted"])
    alone.fit(dataset, fit_on, choose_on)
    assert (together.score(dataset, judge) != alone.score(dataset, judge)).any()
    with pytest.raises(Misconfigured, match="at least one"):
        fit_draws(alone, [])


def test_what_a_detector_lacks_is_named() -> None:
    with pytest.raises(Misconfigured, match="'nonsense'"):
        detectors(["nonsense"])
    with pytest.raises(Misconfigured, match="no setting 'depth': it has rate"):
        detectors(["boosted"], settings={"boosted": {"depth": 3}})
    with pytest.raises(Misconfigured, match="give the schema"):
        detectors(["gru"])
    with pytest.raises(Misconfigured, match="asks a bundle"):
        detectors(["surprise"])


class Highest:
    """A trial that suggests the end of every range."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return high

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        return high


@pytest.mark.parametrize("name", EVERY)
def test_what_is_suggested_is_taken(name: str, shop: Schema, bundle: Bundle) -> None:
    assert set(SPACES) == set(EVERY)
    suggested = suggest(Highest(), SPACES[name])
    assert suggested.keys() == SPACES[name].keys()
    (one,) = detectors([name], settings={name: suggested}, schema=shop, bundle=bundle)
    assert one.name == name


def test_a_file_of_another_domain_has_aggregates_too(tmp_path: Path) -> None:
    from models import schema as schemas
    from models.counters.aggregates import aggregate

    path = tmp_path / "house.jsonl"
    lines = [
        f'{{"user_id":"h{n % 3}","type":"{kind}","event_time":{1_763_900_000_000 + n * 7000},'
        f'"item_id":"d{n % 5}","attributes":{{"value":{n}}}}}'
        for n, kind in enumerate(["lock", "unlock", "set", "switch", "motion"] * 8)
    ]
    path.write_text("\n".join(lines), "utf-8")
    data = read([path], [], schemas.load("smart-home"), WindowPolicy())
    found = aggregate(data)
    assert found.values.shape == (40, len(found.names))
    assert len(set(found.names)) == len(found.names)
    assert not np.isinf(found.values).any()
    assert {"value itself", "person seen"} <= set(found.names)
