"""How long `shopsentry prepare` takes for many events, and how much memory.

    .venv/bin/python scripts/bench_prepare.py --events 10000000 --format jsonl

Makes the events with a share of dirt of each kind in a temporary folder (2.2 GB of JSON for 10
million), runs the command as a process of its own, and prints its time, its CPU time and the most
memory that it held. What it held includes pages of files that the system maps and can take back.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

BLOCK: Final = 1_000_000
START_MS: Final = 1_767_225_600_000
SPAN_MS: Final = 28 * 86_400_000
TYPES: Final = ("browse", "click", "search", "cart", "purchase")
ENDINGS: Final = {"jsonl": ".jsonl", "csv": ".csv", "parquet": ".parquet"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--format", choices=ENDINGS, action="append")
    parser.add_argument("--unsorted", action="store_true", help="by user, to be sorted by time")
    parser.add_argument("--folder", type=Path, help="for the files; else a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for form in given.format or list(ENDINGS):
            path = Path(folder) / f"events{ENDINGS[form]}"
            write(path, given.events, given.unsorted)
            print(measured(path, Path(folder) / "prepared", given.events))
            path.unlink()


def write(path: Path, events: int, unsorted: bool) -> None:
    """A million events at a time, in the order of time (or, within a million, by user)."""
    dice = np.random.default_rng(7)
    written = path.open("wb") if path.suffix != ".parquet" else None
    pieces = []
    for first in range(0, events, BLOCK):
        frame = block(dice, first, min(BLOCK, events - first), events)
        frame = frame.sort("user_id") if unsorted else frame
        if written is None:
            pieces.append(path.with_name(f"piece-{first:012}.parquet"))
            frame.write_parquet(pieces[-1])
        elif path.suffix == ".jsonl":
            frame.write_ndjson(written)
            written.write(b'{"user_id": "broken\n')
        else:
            frame.write_csv(written, include_header=first == 0)
            written.write(b"too,few,columns\n")
    if written is None:
        pl.scan_parquet(pieces).sink_parquet(path)
        for piece in pieces:
            piece.unlink()
    else:
        written.close()


def block(dice: np.random.Generator, first: int, size: int, events: int) -> pl.DataFrame:
    """Users and items by a heavy-tailed law; one row in some hundred with a fault."""
    steps = (first + np.sort(dice.random(size)) * size) / events
    item = (dice.pareto(1.1, size) * 50).astype(np.int64) % 400_000
    user = (dice.pareto(0.8, size) * 900).astype(np.int64) % 900_000
    fault = dice.integers(0, 1000, size)
    frame = pl.DataFrame(
        {
            "n": np.arange(first, first + size),
            "user": user,
            "type": dice.integers(0, len(TYPES), size),
            "event_time": START_MS + (steps * SPAN_MS).astype(np.int64),
            "item": item,
            "price": np.round(dice.lognormal(3, 1, size), 2),
            "position": dice.integers(0, 60, size),
            "session": user * 31 + (steps * 40).astype(np.int64),
            "fault": fault,
        }
    )
    is_fault = [pl.col("fault") == kind for kind in range(5)]
    return frame.select(
        pl.format("e{}", pl.when(is_fault[0]).then(pl.col("n") // 2).otherwise("n")).alias(
            "event_id"
        ),
        pl.when(~is_fault[1]).then(pl.format("user-{}", "user")).alias("user_id"),
        pl.col("type").replace_strict(dict(enumerate(TYPES)), return_dtype=pl.String),
        pl.when(is_fault[2]).then(pl.lit(0)).otherwise("event_time").alias("event_time"),
        pl.format("item-{}", "item").alias("item_id"),
        pl.format("c{}", pl.col("item") % 700).alias("category_id"),
        pl.format("s{}", "session").alias("session_id"),
        pl.when(is_fault[3]).then(-pl.col("price")).otherwise("price").alias("price"),
        "position",
    )


def measured(path: Path, out: Path, events: int) -> str:
    command = [sys.executable, "-m", "stream_app", "prepare", "--data", str(path)]
    began_s = time.monotonic()
    process = subprocess.Popen([*command, "--out", str(out), "--force"], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)  # of this process alone, not of all so far
    took_s = time.monotonic() - began_s
    if status:
        sys.exit(f"prepare ended with {os.waitstatus_to_exitcode(status)}")
    report = json.loads((out / "card.json").read_text())["report"]
    assert report["read"] == report["kept"] + sum(c["dropped"] for c in report["checks"])
    cpu_s = used.ru_utime + used.ru_stime
    return (
        f"{path.suffix[1:]}: {events:,} events, {path.stat().st_size / 1e9:.2f} GB, "
        f"in {took_s:.0f} s ({events / took_s:,.0f}/s), {cpu_s:.0f} s of CPU, "
        f"{used.ru_maxrss / 1e6:.2f} GB of memory at most; "
        f"{report['read'] - report['kept']:,} dropped"
    )


if __name__ == "__main__":
    main()
