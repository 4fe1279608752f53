"""Mutations of good input for the readers of foreign bytes: the record decoder and the bundle.

    .venv/bin/python -m scripts.fuzz records --seconds 600 --seed 1
    .venv/bin/python -m scripts.fuzz parts --seconds 600 --seed 1
    .venv/bin/python -m scripts.fuzz bundle --seconds 600 --seed 1

A record is an event or rejected, never an exception, and is decided again alike. A bundle is loaded
or refused with a word for people: `parts` are the readers of its single files (`fuzz_parts`), which
is quick; `bundle` is the whole, slow, its manifest sealed again over the mutated file, so that what
is behind the hashes is reached as well. What breaks that is written to --found, and ends the run
with 1. Inputs to begin with are in tests/fuzz/corpus. `scripts.fuzz_guided` tries the same, led by
coverage.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from stream_app.core.decode import decode
from stream_app.core.errors import BadBundle, Misconfigured
from stream_app.core.event import MAX_TIME_MS, Tasks
from stream_app.core.record import StoredRecord

ROOT: Final = Path(__file__).resolve().parent.parent
CORPUS: Final = ROOT / "tests" / "fuzz" / "corpus"  # a folder for records, one for parts
BUNDLE: Final = ROOT / "models" / "pretrained" / "shop-tiny"
SCARCE: Final = (
    *(b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\\u0000", b"\\ud800", b"null", b"true"),
    *(b"NaN", b"1e999", b"-1", b"9223372036854775808", b"0.1", b"\xff", b"\x00", b"\xed\xa0\x80"),
    *(b'"data":', b'"specversion":', b'"event_time":"2026-01-01T00:00:00Z"', b"[" * 2000),
)
TASKS: Final = Tasks(("click",), {"click": 0, "browse": 0, "purchase": 0})


def mutate(data: bytes, draw: random.Random, others: Sequence[bytes]) -> bytes:
    """One to six small changes: bits, bytes, words, cuts, parts of another input."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 6)):
        at = draw.randrange(len(changed) + 1)
        upto = min(len(changed), at + draw.randint(1, 1 + len(changed) // 4))
        how = draw.randrange(7)
        if how == 0 and at < len(changed):
            changed[at] ^= 1 << draw.randrange(8)
        elif how == 1:
            changed[at:at] = draw.choice(SCARCE)
        elif how == 2:
            del changed[at:upto]
        elif how == 3:
            changed[at:at] = changed[at:upto]
        elif how == 4:
            changed[at:upto] = draw.choice(SCARCE)
        elif how == 5:
            changed[at:upto] = draw.randbytes(min(8, upto - at))
        else:
            other = draw.choice(others)
            begin = draw.randrange(len(other) + 1)
            changed[at:upto] = other[begin : begin + draw.randint(1, 40)]
    return bytes(changed)


def try_record(value: bytes) -> str:
    """What became of it. Raises AssertionError, or whatever the decoder lets through."""
    record = StoredRecord(
        topic="fuzz", partition=0, offset=0, timestamp=MAX_TIME_MS, key=None, value=value
    )
    decoded = decode([record], TASKS)
    again = decode([record], TASKS)
    assert (decoded.events, decoded.rejected) == (again.events, again.rejected)
    assert len(decoded.events) + len(decoded.rejected) == 1
    for event in decoded.events:
        event.user_id.encode()
        (event.event_id or "").encode()
        assert 0 <= event.at_ms <= MAX_TIME_MS
    for rejected in decoded.rejected:
        rejected.detail.encode(errors="replace")
        return rejected.reason
    return "event"


def records(draw: random.Random) -> Callable[[], tuple[bytes, Callable[[], str]]]:
    return _mutated(draw, seeds("records"), try_record)


def parts(draw: random.Random, folder: Path) -> Callable[[], tuple[bytes, Callable[[], str]]]:
    from scripts.fuzz_parts import Parts

    readers = Parts(folder)
    return _mutated(draw, [*readers.good(), *seeds("parts")], readers.read)


def seeds(target: str) -> list[bytes]:
    """What is checked in for a target."""
    return [path.read_bytes() for path in sorted((CORPUS / target).glob("*"))]


def _mutated(
    draw: random.Random, corpus: Sequence[bytes], attempt: Callable[[bytes], str]
) -> Callable[[], tuple[bytes, Callable[[], str]]]:
    def one() -> tuple[bytes, Callable[[], str]]:
        value = mutate(draw.choice(corpus), draw, corpus)
        return value, lambda: attempt(value)

    return one


def try_bundle(folder: Path) -> str:
    """Whether it was loaded. Raises what is no word for people."""
    from models.bundle import load

    try:
        load(folder, "cpu")
    except (BadBundle, Misconfigured) as error:
        return "refused" if str(error) else "refused without a word"
    return "loaded"


def bundles(draw: random.Random, folder: Path) -> Callable[[], tuple[bytes, Callable[[], str]]]:
    from models import manifest

    copy = Path(shutil.copytree(BUNDLE, folder / "bundle"))
    names = sorted(str(p.relative_to(BUNDLE)) for p in BUNDLE.rglob("*") if p.is_file())
    good = {name: (BUNDLE / name).read_bytes() for name in names}
    sealed = [name for name in names if name != "manifest.json"]

    def one() -> tuple[bytes, Callable[[], str]]:
        name = draw.choice(names)
        for each, content in good.items():
            (copy / each).write_bytes(content)
        head = min(len(good[name]), draw.choice([200, 4000, 1 << 30]))  # heads of tensors too
        value = mutate(good[name][:head], draw, list(good.values())) + good[name][head:]
        (copy / name).write_bytes(value)
        if name != "manifest.json":
            manifest.seal(copy, "shop-tiny", sealed)
        return f"{name}\n".encode() + value, lambda: try_bundle(copy)

    return one


def fuzz(
    one: Callable[[], tuple[bytes, Callable[[], str]]], seconds: float, tries: int, found: Path
) -> tuple[Counter[str], int]:
    """Outcomes, and how many inputs broke the rule; each is written to `found`."""
    until, seen, broken = time.monotonic() + seconds, Counter[str](), 0
    while time.monotonic() < until and seen.total() + broken < tries:
        value, attempt = one()
        try:
            seen[attempt()] += 1
        except Exception:
            broken += 1
            found.mkdir(parents=True, exist_ok=True)
            (found / f"{broken:04}.bin").write_bytes(value)
            (found / f"{broken:04}.txt").write_text(traceback.format_exc())
    return seen, broken


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("target", choices=("records", "parts", "bundle"))
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--tries", type=int, default=1 << 60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--found", type=Path, default=Path("found"))
    given = parser.parse_args()
    draw = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        targets = {
            "records": lambda: records(draw),
            "parts": lambda: parts(draw, Path(folder)),
            "bundle": lambda: bundles(draw, Path(folder)),
        }
        one = targets[given.target]()
        seen, broken = fuzz(one, given.seconds, given.tries, given.found)
    print(f"{given.target}: {seen.total() + broken:,} tries, {broken} broken, {dict(seen)}")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
