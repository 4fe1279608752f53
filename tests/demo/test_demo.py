"""`shopsentry demo` as people run it: a process, its words, and what it leaves behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120.0
SMALL_DISK = (
    *("unshare", "--map-root-user", "--mount", "sh", "-c"),
    *('mount -t tmpfs -o size=4m tmpfs "${TMPDIR:-/mnt}" && exec "$@"', "sh"),
)

pytestmark = pytest.mark.redis


class Demo:
    """A running demo with a temporary folder of its own."""

    def __init__(self, folder: Path, *options: str, within: Sequence[str] = ()) -> None:
        """`within`: a command that runs it."""
        self.folder, self.said = folder, ""
        self._process = subprocess.Popen(
            [*within, sys.executable, "-m", "stream_app", "demo", "--no-live", *options],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def until(self, words: str) -> None:
        """Read on until a line has the words."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said += line
            if words in line:
                return
        raise AssertionError(f"it never said {words!r}:\n{self.said}")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def children(self) -> dict[str, int]:
        """Process ids by the word that their command line has."""
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                command = (place / "cmdline").read_bytes().decode(errors="replace")
                parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == self._process.pid:
                for word in ("redis-server", "worker"):
                    if word in command and "guard" not in command:
                        found[word] = int(place.name)
        return found

    def fill_its_disk(self) -> None:
        """Until nothing more can be written where its temporary files are."""
        place = Path(f"/proc/{self._process.pid}/root{self.folder}") / "filling"
        with place.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            file.writelines(bytes(1 << 16) for _ in range(1000))

    def end(self) -> int:
        """Its exit code, once it has ended and all that it said is read."""
        told, _ = self._process.communicate(timeout=PATIENCE_S)
        self.said += told
        return self._process.returncode

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Temporary files of the demo; nothing may be left there."""
    yield tmp_path
    deadline = time.monotonic() + 10
    while left := list(tmp_path.iterdir()):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def numbers(said: str) -> dict[str, int]:
    """The counts of the summary."""
    lines = re.findall(r"^\s*[=+]?\s*([a-z ]+?)\s+(?:[\d.]+ %|✓|✗)?\s+([\d,]+)", said, re.M)
    return {name: int(count.replace(",", "")) for name, count in lines}


@pytest.mark.slow
def test_a_short_demo_alerts_and_adds_up(folder: Path) -> None:
    demo = Demo(folder, "--duration", "8")
    code = demo.end()
    assert code == 0, demo.said
    found = numbers(demo.said)
    kinds = ("cleaned", "quarantined", "dead letters", "duplicates")
    assert found["input"] == found["sum"] == sum(found[kind] for kind in kinds)
    assert found["input"] > 5_000
    assert found["duplicates"] > 0
    assert found["dead letters"] > 0
    assert "first alert:" in demo.said
    assert "precision" in demo.said


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*SMALL_DISK, "true"], check=False, capture_output=True).returncode != 0,
    reason="no rights to mount a disk of its own",
)
def test_a_full_disk_does_not_touch_it(folder: Path) -> None:
    demo = Demo(folder, "--duration", "10", within=SMALL_DISK)
    demo.until("first alert")
    demo.fill_its_disk()
    assert demo.end() == 0, demo.said
    assert "every record has one outcome" in demo.said


@pytest.mark.slow
def test_ctrl_c_ends_it_with_a_summary(folder: Path) -> None:
    demo = Demo(folder, "--duration", "600")
    demo.until("first alert")
    demo.signal(signal.SIGINT)
    assert demo.end() == 0, demo.said
    assert "every record has one outcome" in demo.said


@pytest.mark.slow
def test_a_worker_that_dies_is_told_and_nothing_is_left(folder: Path) -> None:
    demo = Demo(folder, "--duration", "600")
    demo.until("first alert")
    children = demo.children()
    os.kill(children["worker"], signal.SIGKILL)
    assert demo.end() == 1
    assert "the worker ended by signal 9" in demo.said
    assert not Path(f"/proc/{children['redis-server']}").exists()


def test_a_killed_demo_takes_its_processes_with_it(folder: Path) -> None:
    demo = Demo(folder, "--duration", "600")
    demo.until("shop")
    children = demo.children()
    assert set(children) == {"worker", "redis-server"}
    demo.kill()


def test_sigterm_while_it_starts_ends_it(folder: Path) -> None:
    demo = Demo(folder)
    demo.until("broker")
    demo.signal(signal.SIGTERM)
    assert demo.end() == 130, demo.said
    assert "stopped" in demo.said
