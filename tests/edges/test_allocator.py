"""Memory that a worker no longer needs goes back to the system."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Blocks of 8 MiB, each with a small one after it that stays: without the settings they stay too.
GROWS = """
import ctypes, psutil
from stream_app.edges.allocator import give_memory_back
chosen = give_memory_back()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.free(libc.malloc(30 << 20))  # glibc learns: blocks below come from its arenas from now on
before = psutil.Process().memory_info().rss
for _ in range(20):
    large = libc.malloc(8 << 20)
    ctypes.memset(large, 1, 8 << 20)
    libc.malloc(64 << 10)
    libc.free(large)
    taken = libc.malloc(6 << 20)  # of what was freed, so that no hole has room for the next one
    ctypes.memset(taken, 1, 1)
print(chosen, (psutil.Process().memory_info().rss - before) >> 20)
"""


def grown(**variables: str) -> tuple[bool, int]:
    """Whether glibc was told, and the MiB by which the process grew."""
    told = subprocess.run(
        [sys.executable, "-c", GROWS],
        env={n: v for n, v in os.environ.items() if not n.startswith("MALLOC_")} | variables,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return told[0] == "True", int(told[1])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone")
def test_large_blocks_go_back_to_the_system_unless_somebody_chose_otherwise() -> None:
    chosen, mib = grown(MALLOC_ARENA_MAX="8")
    assert (chosen, mib > 60) == (False, True), "glibc gives it back by itself: no need for us"
    chosen, mib = grown()
    assert (chosen, mib < 20) == (True, True)
