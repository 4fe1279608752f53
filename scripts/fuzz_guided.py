"""The targets of `scripts.fuzz`, led by coverage: atheris, which is libFuzzer for Python.

    .venv/bin/uv pip install --require-hashes -r scripts/requirements/fuzz.txt
    .venv/bin/python -m scripts.fuzz_guided records --cpu-seconds 600 --keep new
    .venv/bin/python -m scripts.fuzz_guided parts --cpu-seconds 600 --keep new

Coverage is that of our own Python: msgspec and safetensors are compiled, it does not see their
branches. Begins with the corpus that is checked in; small inputs that reached something new can be
kept (--keep). An input that breaks the rule ends the run with its traceback, and lies in --found.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["stream_app.core", "models", "scripts.fuzz_parts"]):
    from scripts.fuzz import seeds, try_record
    from scripts.fuzz_parts import Parts

LOOK_EVERY: Final = 1000  # tries between looks at the clock
LARGEST: Final = 1 << 16  # bytes of an input
SEED: Final = "seed-"  # begins the name of what a run begins with
KEPT: Final = 4096  # bytes of one that is checked in


class Target:
    """Counts; ends the process when its CPU seconds are spent, as libFuzzer gives none back."""

    def __init__(
        self, attempt: Callable[[bytes], str], cpu_seconds: float, spent: Callable[[], None]
    ) -> None:
        self._attempt, self._cpu_seconds, self._spent = attempt, cpu_seconds, spent
        self._seen = Counter[str]()

    def __call__(self, data: bytes) -> None:
        self._seen[self._attempt(data)] += 1
        if self._seen.total() % LOOK_EVERY == 0 and time.process_time() > self._cpu_seconds:
            told = f"{self._seen.total():,} tries, 0 broken, {dict(self._seen)}"
            print(f"{told}, {time.process_time():.0f} CPU s", flush=True)
            self._spent()
            os._exit(0)


def keep(corpus: Path, folder: Path) -> None:
    """Copy what is small and was not there at the beginning."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in corpus.iterdir():
        if not path.name.startswith(SEED) and path.stat().st_size <= KEPT:
            shutil.copy(path, folder / path.name[:16])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target", choices=("records", "parts"))
    parser.add_argument("--cpu-seconds", type=float, default=600)
    parser.add_argument("--found", type=Path, default=Path("found"))
    parser.add_argument("--keep", type=Path, help="add what reaches something new to this folder")
    given = parser.parse_args()
    given.found.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp())
    corpus, own = folder / "corpus", folder / "readers"
    corpus.mkdir()
    own.mkdir()
    readers = Parts(own)
    begin = seeds(given.target) + (readers.good() if given.target == "parts" else [])
    for number, seed in enumerate(begin):
        (corpus / f"{SEED}{number}").write_bytes(seed)

    def spent() -> None:
        if given.keep:
            keep(corpus, given.keep)
        shutil.rmtree(folder)

    attempt = try_record if given.target == "records" else readers.read
    words = [sys.argv[0], str(corpus), f"-artifact_prefix={given.found}/", f"-max_len={LARGEST}"]
    atheris.Setup(words, Target(attempt, given.cpu_seconds, spent))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
