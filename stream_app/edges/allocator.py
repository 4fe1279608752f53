"""The C library's allocator, told to give memory back.

Batches of windows have another size each time. glibc keeps what they leave in up to 16 arenas, for
blocks that are seldom asked for again: a busy worker grows by hundreds of MiB without keeping
anything. As blocks from 1 MiB on come from the system, and go back to it, it does not. What that
costs: docs/performance.md.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

M_TRIM_THRESHOLD: Final = -1  # malloc.h
M_MMAP_THRESHOLD: Final = -3
M_ARENA_MAX: Final = -8
LARGE: Final = 1 << 20  # bytes
KEPT: Final = 16 << 20  # at the end of an arena
ARENAS: Final = 2


def give_memory_back() -> bool:
    """For the whole process, from now on. False where it is not to be: another C library, or
    somebody who runs the worker has set glibc's own MALLOC_ variables.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version") or any(
        n.startswith("MALLOC_") for n in os.environ
    ):
        return False
    chosen = {M_MMAP_THRESHOLD: LARGE, M_TRIM_THRESHOLD: KEPT, M_ARENA_MAX: ARENAS}
    return all([libc.mallopt(of, value) for of, value in chosen.items()])
