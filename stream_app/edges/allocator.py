"""Memory that the C library keeps free, given back to the system from time to time.

Batches of windows have another size each time, and glibc keeps the holes that they leave: a busy
worker grew by hundreds of MiB without keeping anything. To have large blocks from the system each
time instead (`M_MMAP_THRESHOLD`) cost a quarter of the throughput in page faults.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

PERIOD_S: Final = 10.0


@contextmanager
def memory_given_back() -> Iterator[None]:
    """While it lasts, every PERIOD_S; nothing where the C library has no `malloc_trim`."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_trim_until, args=(over, trim), name="trim", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _trim_until(over: threading.Event, trim: Callable[[int], object]) -> None:
    while not over.wait(PERIOD_S):
        trim(0)  # holes amid what is used too; Python runs on meanwhile
