"""The table of many runs, and lines of older files."""

from __future__ import annotations

from pathlib import Path

import msgspec

from scripts.chaos.results import Result, read, table


def test_the_table_adds_up_by_scene_and_delivery(tmp_path: Path) -> None:
    good = Result(seed=1, delivery="exactly-once", records=1000)
    good.faults["kill"] = 2
    bad = Result(seed=2, delivery="exactly-once", records=500, lost=3)
    bad.faults["kill"] = 1
    bad.faults["redis-flush"] = 1
    cut = Result(seed=3, delivery="at-least-once", records=7, failed="Traceback")
    other = Result(seed=3, delivery="at-least-once", scene="cluster", records=7, repeats=4)
    assert (good.ok, bad.ok, cut.ok, other.ok) == (True, False, False, True)
    kept = tmp_path / "runs.jsonl"
    kept.write_bytes(b"".join(msgspec.json.encode(r) + b"\n" for r in (good, bad, cut, other)))
    first, second = table(read(kept)).split("\n\n")
    heads, _, *rows = first.splitlines()
    assert heads.startswith("| one-node | runs | records | kill -9 | redis flush | lost |")
    assert rows[0].startswith("| at-least-once | 1 | 0 | 0 | 0 | 0 |")
    assert rows[0].endswith("| 1 |")
    assert rows[1].startswith("| exactly-once | 2 | 1,500 | 3 | 1 | 3 |")
    assert rows[1].endswith("| 0 |")
    assert second.startswith("| cluster |")


def test_lines_from_before_there_were_scenes_are_read(tmp_path: Path) -> None:
    line = (
        '{"seed":100,"delivery":"exactly-once","records":9,"faults":{"kill":3,"zombie":1},'
        '"outcomes":{"cleaned":9},"lost":0,"doubled":0,"repeats":0,"forgotten":0,"resent":0,'
        '"other":{},"differences":[],"took_s":74.1,"failed":""}'
    )
    (tmp_path / "old.jsonl").write_text(line + "\n")
    (result,) = read(tmp_path / "old.jsonl")
    assert (result.scene, result.faults["kill"], result.ok) == ("one-node", 3, True)
