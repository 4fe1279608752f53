"""What a training learns from and who judges it: labels, later draws, simulated attacks."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from models import bundle as bundles
from models.dataset import lot, read
from models.measures import average_precision
from models.schema import Schema
from models.simulate.shop import SimulationConfig, write
from models.training import Options, Sources, train
from models.training.material import Material, gather_material
from models.training.watch import Watch
from stream_app.core.errors import Misconfigured
from stream_app.core.window import WindowPolicy
from tests.models.conftest import Files

DAY_MS = 24 * 3600 * 1000
START_MS = 1_767_225_600_000


def shop_files(folder: Path, name: str, **config: object) -> Files:
    files = Files(folder / f"{name}.jsonl", folder / f"{name}.labels.jsonl")
    write(SimulationConfig(span_ms=2 * DAY_MS, **config), files.data, files.labels)  # type: ignore[arg-type]
    return files


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Two days of a shop that nobody attacks."""
    folder = tmp_path_factory.mktemp("quiet")
    return shop_files(folder, "quiet", seed=31, events=5000, attack_share=0.0)


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The two days after them, with attacks."""
    folder = tmp_path_factory.mktemp("later")
    return shop_files(
        folder, "later", seed=32, events=6000, attack_share=0.2, start_ms=START_MS + 2 * DAY_MS
    )


def material(shop: Schema, **sources: object) -> tuple[Material, list[str]]:
    said: list[str] = []
    found = gather_material(
        Sources(**sources),  # type: ignore[arg-type]
        shop,
        WindowPolicy(),
        0,
        Watch(said.append),
    )
    return found, said


def users(found: Material, events: np.ndarray) -> set[str]:
    """Honest ones: whom the file knows without a campaign."""
    data = found.data
    campaigns = data.of("campaign")
    return {data.users[data.user[at]] for at in events if not campaigns[at]}


def campaigns(found: Material, events: np.ndarray) -> set[str]:
    held = found.data.of("campaign")
    return {held[at] for at in events} - {""}


def assert_apart(found: Material) -> None:
    parts = [found.fit_on, found.choose_on, found.calibrate_on]
    for of in (users, campaigns):
        held = [of(found, part) for part in parts]
        assert not held[0] & held[1] | held[0] & held[2] | held[1] & held[2]


def test_without_labels_replicas_with_attacks_are_learnt_from_and_judge(
    shop: Schema, quiet: Files
) -> None:
    found, said = material(shop, data=[quiet.data], replicas=2)
    assert any(line.startswith("spliced attacks into 3 replicas") for line in said)
    assert_apart(found)
    data = found.data
    assert 0.05 < data.anomalous[found.fit_on].mean() < 0.2
    assert data.anomalous[found.choose_on].sum() >= 20
    assert found.prior == 0.01  # simulated attacks do not say how many there are
    alike = np.array(data.of("look_alike"))[found.fit_on] != ""
    assert alike.any()
    assert not data.anomalous[found.fit_on][alike].any()
    assert not data.anomalous[found.pretrain_on].any()
    assert len(set(data.file[found.fit_on].tolist())) == 2  # not the last one, which judges


def test_replicas_share_neither_campaigns_nor_accounts(shop: Schema, quiet: Files) -> None:
    found, _ = material(shop, data=[quiet.data], replicas=2)
    data = found.data
    known = set(read([quiet.data], [], shop, WindowPolicy()).users)
    made = np.flatnonzero(data.anomalous)
    by_file = [
        {data.users[data.user[at]] for at in made if data.file[at] == file} - known
        for file in sorted(set(data.file[made].tolist()))
    ]
    assert len(by_file) == 3
    assert all(by_file)
    shared = (by_file[0] & by_file[1]) | (by_file[0] & by_file[2]) | (by_file[1] & by_file[2])
    # Accounts are made up in the manner of known ones, so two draws may hit upon one by chance.
    assert len(shared) <= 0.05 * sum(map(len, by_file))


def test_later_labelled_events_are_read_after_the_data_and_judge(
    shop: Schema, quiet: Files, later: Files
) -> None:
    found, _ = material(
        shop, data=[quiet.data], valid=[later.data], valid_labels=[later.labels], simulate=0
    )
    assert_apart(found)
    data = found.data
    judged = np.concatenate([found.choose_on, found.calibrate_on, found.fit_on])
    assert data.windows.rows["at_ms"][data.row[judged]].min() >= START_MS + 2 * DAY_MS - 600_000
    assert data.anomalous[found.fit_on].sum() > data.anomalous[found.choose_on].sum() > 0
    assert found.prior is not None
    assert 0.1 < found.prior < 0.3
    longer = read([quiet.data, later.data], [], shop, WindowPolicy())
    assert data.windows.length[judged].max() == longer.windows.length.max()


def test_later_events_may_only_judge(shop: Schema, quiet: Files, later: Files) -> None:
    sources = {"data": [quiet.data], "valid": [later.data], "valid_labels": [later.labels]}
    found, _ = material(shop, **sources, valid_use="select", replicas=1)
    assert_apart(found)
    kept_aside = users(found, found.choose_on) | users(found, found.calibrate_on)
    assert all(lot(user, 0) >= 0.7 for user in kept_aside)
    names = campaigns(found, found.choose_on) | campaigns(found, found.calibrate_on)
    whole = read([later.data], [later.labels], shop, WindowPolicy())
    assert names == set(whole.of("campaign")) - {""}


def test_simulated_events_weigh_as_much_as_labelled_ones(
    shop: Schema, quiet: Files, later: Files
) -> None:
    found, _ = material(
        shop, data=[later.data], labels=[later.labels], replicas=2, simulate=0.5, crowds=1.0
    )
    file = found.data.file[found.fit_on]
    weight = found.weight[found.fit_on]
    real, made = weight[file == 0].sum(), weight[file > 0].sum()
    assert made / real == pytest.approx(0.5, rel=1e-3)
    assert found.prior == pytest.approx(
        found.data.anomalous[found.data.file == 0].mean()
    )  # what is labelled tells


def test_events_without_items_are_not_attacked_but_learnt_from(
    shop: Schema, quiet: Files, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.jsonl"
    with bare.open("wb") as file:
        for line in quiet.data.read_bytes().splitlines()[:1500]:
            event = msgspec.json.decode(line)
            event.pop("item_id", None)
            file.write(msgspec.json.encode(event) + b"\n")
    found, said = material(shop, data=[bare], replicas=1)
    assert any(line.startswith("no simulated attacks: no event has an item_id") for line in said)
    assert np.array_equal(found.fit_on, found.pretrain_on)


def test_honest_crowds_weigh_more(shop: Schema, quiet: Files) -> None:
    found, _ = material(shop, data=[quiet.data], replicas=2, crowds=3.0)
    kinds = np.array(found.data.of("look_alike"))[found.fit_on]
    crowd = np.isin(kinds, ["flash_sale", "viral_link", "welcome_offer"])
    assert crowd.any()
    assert (found.weight[found.fit_on] == np.where(crowd, 3.0, 1.0)).all()
    with pytest.raises(Misconfigured, match="--crowds"):
        material(shop, data=[quiet.data], crowds=0.0)


def test_files_that_do_not_go_together_are_refused(shop: Schema, quiet: Files) -> None:
    with pytest.raises(Misconfigured, match="2 --valid but 0"):
        material(shop, data=[quiet.data], valid=[quiet.data] * 2)
    with pytest.raises(Misconfigured, match="without --valid"):
        material(shop, data=[quiet.data], valid_labels=[quiet.labels])


@pytest.mark.slow
def test_a_bundle_from_unlabelled_events_finds_later_attacks(
    shop: Schema, quiet: Files, later: Files, tmp_path: Path
) -> None:
    sources = Sources(data=[quiet.data], replicas=2)
    report = train(sources, tmp_path, Options(epochs=3, pretrain_epochs=1, device="cpu"))
    bundle = bundles.load(report.folder, "cpu")
    test = read([quiet.data, later.data], [later.labels], shop, WindowPolicy())
    new = np.flatnonzero(test.file == 1)
    scores = bundles.score(bundle, test.windows.take(new), test.task[new])
    found = average_precision(scores, test.anomalous[new])
    assert found > 1.7 * test.anomalous[new].mean()
