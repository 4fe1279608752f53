"""Memory that a worker no longer needs goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

# 64 MiB of blocks too small for glibc to have them from the system, freed but for the last one:
# it holds all before it in place.
HOLES = """
import ctypes, threading, time, psutil
from stream_app.edges import allocator
allocator.PERIOD_S = 0.05
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
size, process = 64 << 10, psutil.Process()
before = process.memory_info().rss
blocks = [libc.malloc(size) for _ in range(1024)]
for block in blocks:
    ctypes.memset(block, 1, size)
for block in blocks[:-1]:
    libc.free(block)
kept = process.memory_info().rss - before
with allocator.memory_given_back():
    deadline = time.monotonic() + 10
    while (left := process.memory_info().rss - before) > 16 << 20 and time.monotonic() < deadline:
        time.sleep(0.01)
print(kept >> 20, left >> 20, [t.name for t in threading.enumerate()])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone")
def test_holes_go_back_to_the_system_and_the_thread_ends_with_it() -> None:
    told = subprocess.run(
        [sys.executable, "-c", HOLES], capture_output=True, text=True, check=True
    ).stdout.split(maxsplit=2)
    assert int(told[0]) > 50, "glibc gives it back by itself: no need for us"
    assert int(told[1]) <= 16
    assert told[2].strip() == "['MainThread']"
