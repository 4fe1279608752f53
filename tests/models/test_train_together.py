"""Two processes that train together, as `torchrun` starts them, against one alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models import bundle as bundles
from models.training.session import FOLDER
from tests.models.conftest import Files

RUN = """
import os, sys
from pathlib import Path
import numpy as np, torch
from safetensors.torch import save_file
from models import schema
from models.dataset import read, split
from models.inference import run
from models.measures import average_precision
from models.network import PRESETS, NetworkConfig
from models.training import Recipe, fit_encoder
from models.training.processes import Processes
from stream_app.core.window import WindowPolicy

data, labels, out = map(Path, sys.argv[1:])
torch.set_num_threads(1)
shop = schema.load("shop")
found = read([data], [labels], shop, WindowPolicy())
fit_on, choose_on, held_out = split(found, (0.7, 0.15, 0.15), 1)
processes = Processes(torch.device("cpu"))
recipe = Recipe(epochs=2, pretrain_epochs=0, seed=4, lines=24, accumulate=2)
encoder = fit_encoder(
    shop, found, fit_on, choose_on, NetworkConfig(size=PRESETS["tiny"]), recipe,
    processes=processes,
)
logits = run(encoder.network, found.windows.take(held_out), processes.device).logits
own = logits[np.arange(len(held_out)), found.task[held_out]]
precision = average_precision(own, found.anomalous[held_out])
state = {**encoder.network.state_dict(), "precision": torch.tensor(precision)}
state["processes"] = torch.tensor(processes.count)
save_file({k: v.contiguous() for k, v in state.items()}, out / f"{processes.rank}.safetensors")
"""


def train(files: Files, out: Path, count: int) -> list[dict[str, torch.Tensor]]:
    out.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(count):
        told = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": count,
            "LOCAL_WORLD_SIZE": count,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if count > 1:
            environment |= {key: str(value) for key, value in told.items()}
        arguments = [sys.executable, "-c", RUN, str(files.data), str(files.labels), str(out)]
        processes.append(
            subprocess.Popen(arguments, cwd=Path(__file__).parents[2], env=environment)
        )
    assert [process.wait(120) for process in processes] == [0] * count
    return [load_file(out / f"{rank}.safetensors") for rank in range(count)]


@pytest.mark.slow
def test_two_processes_end_with_the_same_weights_and_find_what_one_finds(
    files: Files, tmp_path: Path
) -> None:
    first, second = train(files, tmp_path / "two", 2)
    (alone,) = train(files, tmp_path / "one", 1)
    assert int(first["processes"]) == 2
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    assert float(first["precision"]) > 0.8
    assert abs(float(first["precision"]) - float(alone["precision"])) < 0.1
    assert any(not torch.equal(alone[n], v) for n, v in first.items())  # shares were others


@pytest.mark.slow
def test_the_command_trains_members_in_two_processes_and_one_of_them_writes(
    files: Files, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    told = "--standalone --nproc-per-node 2 -m stream_app train --members bert,trees"
    told += f" --data {files.data} --labels {files.labels} --simulate 0 --out {out}"
    told += " --epochs 3 --pretrain-epochs 0 --lines 16 --device cpu"
    done = subprocess.run(
        [Path(sys.executable).with_name("torchrun"), *told.split()],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"to {out}") == 1
    assert done.stderr.count("epoch 3/3: loss") == 1
    bundle = bundles.load(out, "cpu")  # its golden windows score as they did
    assert bundle.chosen == ("bert", "trees")
    assert bundle.metrics["held_out_users"]["average_precision"] > 0.8
    assert not (out / FOLDER).exists()
