"""A small shop with crude bots, and a bundle trained on it in seconds."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from models import bundle as bundles
from models import schema as schemas
from models.bundle import Bundle
from models.dataset import Dataset, read
from models.schema import Schema
from models.training import Options, Sources, TrainReport, train
from stream_app.core.window import WindowPolicy

START_MS = 1_763_900_000_000


class Files(msgspec.Struct):
    data: Path
    labels: Path


def write_shop(folder: Path, users: int, seed: int) -> Files:
    """People who browse at their own pace; one user in six is a bot on one item."""
    dice = random.Random(seed)
    events, labels = [], []
    for user in range(users):
        bot = user % 6 == 0
        at_ms = START_MS + dice.randrange(3_600_000)
        favourite = f"item-{dice.randrange(50)}"
        for number in range(dice.randrange(8, 20)):
            at_ms += dice.randrange(400, 900) if bot else int(dice.lognormvariate(9.5, 1))
            event_id = f"{seed}-{user}-{number}"
            item = favourite if bot else f"item-{dice.randrange(400)}"
            event = {
                "event_id": event_id,
                "user_id": f"user-{user}",
                "type": "click" if bot else dice.choice(["browse", "click", "search", "cart"]),
                "event_time": at_ms,
                "item_id": item,
                "category_id": f"c{hash_of(item) % 9}",
                "price": round(dice.lognormvariate(3, 1), 2),
            }
            if dice.random() < 0.5:
                event["position"] = dice.randrange(40)
            events.append((at_ms, event))
            labels.append({"event_id": event_id, "label": int(bot), "campaign": f"u{user}"})
    events.sort(key=lambda pair: pair[0])
    files = Files(folder / "events.jsonl", folder / "labels.jsonl")
    files.data.write_bytes(b"\n".join(msgspec.json.encode(e) for _, e in events))
    files.labels.write_bytes(b"\n".join(map(msgspec.json.encode, labels)))
    return files


def hash_of(text: str) -> int:
    return sum(text.encode())


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small matrices: two threads on two busy cores wait for each other a hundred times longer."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shop() -> Schema:
    return schemas.load("shop")


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return write_shop(tmp_path_factory.mktemp("shop"), users=180, seed=1)


@pytest.fixture(scope="session")
def dataset(files: Files, shop: Schema) -> Dataset:
    return read([files.data], [files.labels], shop, WindowPolicy())


@pytest.fixture(scope="session")
def trained(files: Files, tmp_path_factory: pytest.TempPathFactory) -> TrainReport:
    out = tmp_path_factory.mktemp("bundle") / "shop"
    sources = Sources(data=[files.data], labels=[files.labels], simulate=0)
    return train(sources, out, Options(epochs=2, pretrain_epochs=1, seed=3, device="cpu"))


@pytest.fixture(scope="session")
def bundle(trained: TrainReport) -> Bundle:
    return bundles.load(trained.folder, "cpu")


@pytest.fixture
def some(dataset: Dataset) -> np.ndarray:
    """Events with short and long windows."""
    return np.arange(0, len(dataset), 7)
