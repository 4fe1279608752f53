"""Real shops' events, if the files are at hand: counts add up to the record."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from stream_app.core.outcome import Output
from tests.end_to_end.rig import ROOT, Rig, headers_of, workers

DATA = ROOT.parent / "shared" / "data"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "preset", "rows"),
    [
        ("taobao_split_a.csv", "taobao", 48_510),
        ("rees46_2019-10-01_head.csv", "rees46", 17_434),
    ],
)
def test_every_row_of_a_real_file_has_one_outcome(
    rig: Rig, name: str, preset: str, rows: int
) -> None:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"real events: no {name} beside the checkout")
    rig.create_topics()
    rejects = rig.folder / "rejects"
    subprocess.run(
        [
            *(sys.executable, "-m", "stream_app", "produce", str(path)),
            *("--format", preset, "--rejects", str(rejects)),
        ],
        cwd=ROOT,
        env=rig.environment(),
        check=True,
        timeout=120,
        capture_output=True,
    )
    with workers(rig, 2) as running:
        for worker in running:
            worker.await_ready()
        rig.await_committed(rows, patience_s=400)
        counted = [worker.get("/metrics") for worker in running]
        assert [worker.stop()[0] for worker in running] == [0, 0]
    duplicates = sum(
        int(float(line.split()[-1]))
        for page in counted
        for line in page.splitlines()
        if line.startswith('shopsentry_records_total{outcome="duplicates"}')
    )
    cleaned, quarantined = rig.read(Output.CLEANED), rig.read(Output.QUARANTINED)
    dead = rig.read(Output.DEAD_LETTERS)
    assert len(cleaned) + len(quarantined) + len(dead) + duplicates == rows
    for letter in dead:  # only where the row itself is bad
        assert headers_of(letter)["reason"] in BAD_ROWS[preset], headers_of(letter)
        assert is_odd(letter.value or b"", preset)


BAD_ROWS = {"taobao": ("future",), "rees46": ("late",)}


def is_odd(value: bytes, preset: str) -> bool:
    """Taobao: a time after the data was published. REES46: nothing is odd."""
    at: int = json.loads(value)["event_time"]
    return preset == "taobao" and at > 1_600_000_000_000
