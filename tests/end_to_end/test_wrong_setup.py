"""A wrong set-up: one paragraph that says what to do, an exit code, no traceback."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from stream_app.edges.embedded import free_port
from tests.end_to_end.rig import ROOT, Rig

SHIPPED = ROOT / "models" / "pretrained" / "shop-tiny"


def run(rig: Rig, *options: str, **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stream_app", *options, "worker"],
        cwd=ROOT,
        env=rig.environment(**settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def altered(folder: Path, name: str) -> Path:
    """The shipped bundle with one byte of one file changed."""
    copy = folder / "bundle"
    shutil.copytree(SHIPPED, copy)
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    return copy


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("broker down", ["Kafka", "SHOPSENTRY_KAFKA__BOOTSTRAP"]),
        ("Redis down", ["Redis", "SHOPSENTRY_REDIS__URL"]),
        ("topic missing", ["events", "SHOPSENTRY_KAFKA__CREATE_TOPICS"]),
        ("model missing", ["nowhere"]),
        ("model altered", ["bert/model.safetensors"]),
        ("port taken", ["SHOPSENTRY_WEB__PORT"]),
        ("unknown setting", ["SHOPSENTRY_KAFKA__BOOTSTRAPS", "SHOPSENTRY_KAFKA__BOOTSTRAP"]),
    ],
)
def test_a_wrong_set_up_is_explained(
    rig: Rig, tmp_path: Path, wrong: str, words: list[str]
) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    taken = socket.create_server(("127.0.0.1", 0))
    if wrong != "topic missing":
        rig.create_topics()
    settings: dict[str, dict[str, object]] = {
        "broker down": {"kafka__bootstrap": nobody},
        "Redis down": {"redis__url": f"redis://{nobody}/0"},
        "topic missing": {"kafka__create_topics": "false"},
        "model missing": {"scorer__bundle": tmp_path / "nowhere"},
        "model altered": {"scorer__bundle": altered(tmp_path, "bert/model.safetensors")},
        "port taken": {"web__port": taken.getsockname()[1]},
        "unknown setting": {"kafka__bootstraps": nobody},
    }
    ended = run(rig, **settings[wrong])
    taken.close()
    assert ended.returncode in (1, 2)
    assert "Traceback" not in ended.stderr
    for word in words:
        assert word in ended.stderr
    said = [line for line in ended.stderr.splitlines() if line.startswith("shopsentry: ")]
    assert len(said) == 1, ended.stderr


def test_debug_shows_where_an_error_comes_from(rig: Rig, tmp_path: Path) -> None:
    ended = run(rig, "--debug", scorer__bundle=tmp_path / "nowhere")
    assert ended.returncode != 0
    assert "Traceback" in ended.stderr
