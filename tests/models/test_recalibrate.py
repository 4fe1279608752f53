"""A bundle decided otherwise: the same weights, thresholds that keep to a budget on later days."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from models import bundle as bundles
from models.bundle import Bundle
from models.compress.align import replaced
from models.dataset import read
from models.recalibrate import Wanted, recalibrate
from models.simulate.shop import SimulationConfig, write
from models.simulate.style import STYLES
from models.thresholds import Rule
from stream_app.cli import app
from stream_app.core.errors import Misconfigured
from stream_app.core.window import WindowPolicy

SHIPPED = Path(bundles.__file__).parent / "pretrained" / "shop-tiny"


class Shop(msgspec.Struct):
    before: Path
    slice: Path
    later: Path
    labels: Path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop's week in three files: a third each, in order of time."""
    folder = tmp_path_factory.mktemp("shop")
    config = SimulationConfig(seed=77, events=6_000, attack_share=0.06, style=STYLES["full"])
    write(config, folder / "all", folder / "labels")
    lines = (folder / "all").read_bytes().splitlines(keepends=True)
    for name, at in (("before", 0), ("slice", 2_000), ("later", 4_000)):
        (folder / name).write_bytes(b"".join(lines[at : at + 2_000]))
    return Shop(folder / "before", folder / "slice", folder / "later", folder / "labels")


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return bundles.load(SHIPPED, "cpu")


def alarmed(folder: Path, shop: Shop) -> float:
    bundle = bundles.load(folder, "cpu")
    data = read([shop.before, shop.slice, shop.later], [], bundle.schema, WindowPolicy())
    events = np.flatnonzero(data.file == 2)
    windows = data.windows.take(events)
    scores = bundles.score(bundle, windows, data.task[events])
    return float((scores >= bundle.calibration.decision.of(windows, data.task[events])).mean())


def test_a_budget_is_kept_on_the_slice_and_about_kept_later(
    shop: Shop, shipped: Bundle, tmp_path: Path
) -> None:
    wanted = Wanted(rule=Rule("budget", 0.05))
    found = recalibrate(shipped, shop.slice, [], tmp_path, wanted, [shop.before], SHIPPED)
    assert 0.045 < found.alarmed <= 0.05
    assert 0.02 < alarmed(tmp_path, shop) < 0.1
    assert found.error is None


def test_labels_mend_probabilities_that_were_too_sure(
    shop: Shop, shipped: Bundle, tmp_path: Path
) -> None:
    final = shipped.calibration
    lines = tuple(msgspec.structs.replace(line, offset=line.offset + 4) for line in final.lines)
    proud = shipped.fusion.with_final(shipped.chosen, msgspec.structs.replace(final, lines=lines))
    bundle = msgspec.structs.replace(shipped, fusion=proud)
    wanted = Wanted(method="isotonic", rule=Rule("cost", 9.0))
    found = recalibrate(bundle, shop.slice, [shop.labels], tmp_path, wanted, [shop.before], SHIPPED)
    assert found.error is not None
    assert found.error[1] < 0.02 < found.error[0]
    assert np.allclose(found.thresholds["all"], 0.1)
    again = bundles.load(tmp_path, "cpu")
    assert again.version == found.version != shipped.version


def test_a_part_of_the_shop_gets_its_own_threshold(
    shop: Shop, shipped: Bundle, tmp_path: Path
) -> None:
    events = [msgspec.json.decode(line) for line in shop.slice.read_bytes().splitlines()]
    names = sorted({e["category_id"] for e in events if "category_id" in e})
    most = max(names, key=lambda name: sum(e.get("category_id") == name for e in events))
    wanted = Wanted(rule=Rule("budget", 0.05), segment_field="category", segments=(most,))
    found = recalibrate(shipped, shop.slice, [], tmp_path, wanted, [shop.before], SHIPPED)
    assert set(found.thresholds) == {"all", most}
    decision = bundles.load(tmp_path, "cpu").calibration.decision
    assert decision.field == "category"
    assert list(decision.by_segment.values()) == [found.thresholds[most]]


def test_what_is_scored_afterwards_is_told_how_rare_it_is(
    shop: Shop, shipped: Bundle, tmp_path: Path
) -> None:
    assert shipped.calibration.decision.tails == ()
    wanted = Wanted(rule=Rule("conformal", 0.05), by_task=True)
    out = tmp_path / "b"
    recalibrate(shipped, shop.slice, [shop.labels], out, wanted, [shop.before], SHIPPED)
    made = bundles.load(out, "cpu")
    limits = np.array(made.calibration.thresholds, np.float32)
    for limit, tail in zip(limits, made.calibration.clean, strict=True):
        assert tail.p_values(limit[None])[0] <= 0.05
    _, other = replaced(made.members, made.fusion, {}, {})  # as compressed bundles are made
    assert other.final(made.chosen).clean == ()
    lines = tmp_path / "scores"
    arguments = ["score", "--model", str(out), "--history", str(shop.slice)]
    done = CliRunner().invoke(app, [*arguments, "--in", str(shop.later), "--out", str(lines)])
    assert done.exit_code == 0, done.output
    told = [msgspec.json.decode(line) for line in lines.read_bytes().splitlines()]
    normal = {
        label["event_id"]
        for label in map(msgspec.json.decode, shop.labels.read_bytes().splitlines())
        if not label["label"]
    }
    rare = np.array([one["p_value"] for one in told if one["event_id"] in normal])
    for share in (0.1, 0.3):
        assert 0.4 * share < (rare <= share).mean() < 1.8 * share
    assert any(one["anomalous"] for one in told)
    assert all(one["p_value"] <= 0.05 for one in told if one["anomalous"])


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (Wanted(method="platt"), "needs --labels"),
        (Wanted(segment_field="colour", segments=("red",)), "no category of the schema shop"),
        (Wanted(rule=Rule("budget", 1e-4)), "at least 10,000 events"),
        (
            Wanted(segment_field="category", segments=("no such",)),
            "no event is of category no such",
        ),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_written(
    wanted: Wanted, told: str, shop: Shop, shipped: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(Misconfigured, match=told):
        recalibrate(shipped, shop.slice, [], tmp_path / "out", wanted, source=SHIPPED)
    assert not (tmp_path / "out").exists()


def test_the_command_tells_what_it_did(shop: Shop, tmp_path: Path) -> None:
    arguments = ["calibrate", "--model", str(SHIPPED), "--on", str(shop.slice)]
    arguments += ["--labels", str(shop.labels), "--out", str(tmp_path / "b")]
    told = CliRunner().invoke(app, [*arguments, "--method", "temperature", "--threshold", "half"])
    assert told.exit_code == 0, told.output
    assert "expected calibration error" in told.output
    assert "wrote shop-tiny-" in told.output


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--threshold", "lots"], "no rule for a threshold"),
        (["--segment", "category"], "FIELD=VALUE"),
        (["--out", str(SHIPPED)], "is the bundle itself"),
    ],
)
def test_wrong_use_is_told_in_a_line(more: list[str], told: str, shop: Shop) -> None:
    arguments = ["calibrate", "--model", str(SHIPPED), "--on", str(shop.slice), "--out", "x", *more]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 2
    assert told in found.output
