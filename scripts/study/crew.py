"""Processes that work side by side on a study, and what came of it in time."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from typing import Any


class Crew:
    """Processes: many to read, then some on the GPUs and the rest of the cores for baselines.

    Never more threads than cores: LightGBM's wait for each other in a loop, and all others with
    them (four GPUs and 64 cores, 140 threads: a training of a minute was not done after five).
    """

    def __init__(self, cores: int, threads: int, on_gpu: int, gpus: int) -> None:
        """`threads` of a baseline; `on_gpu`: processes that share the GPUs."""
        spawn = multiprocessing.get_context("spawn")
        turn = spawn.Value("i", 0)
        left = max(1, (cores - on_gpu) // threads)
        self._pools = {
            "read": ProcessPoolExecutor(cores, spawn, _begin, (None, 0)),
            "cpu": ProcessPoolExecutor(left, spawn, _begin, (None, 0)),
        }
        if on_gpu:
            self._pools["gpu"] = ProcessPoolExecutor(on_gpu, spawn, _begin, (turn, gpus))
        self.device = "cuda" if on_gpu else "cpu"

    def give(self, pool: str, do: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """`gpu` is the CPU where there is none."""
        where = self._pools.get(pool) or self._pools["cpu"]
        return where.submit(do, *arguments)

    def leave(self, *pools: str) -> None:
        """What still runs is not waited for."""
        for name in pools:
            if (pool := self._pools.pop(name, None)) is not None:
                running = list((pool._processes or {}).values())
                pool.shutdown(wait=False, cancel_futures=True)
                for process in running:
                    process.terminate()


def _begin(turn: Any, gpus: int) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    if turn is not None:
        with turn.get_lock():
            os.environ["CUDA_VISIBLE_DEVICES"] = str(turn.value % gpus)
            turn.value += 1


def wait(what: str, futures: Sequence[Future[Any]], until: float, began: float) -> list[Any]:
    """What came before `until`; what failed is told and left out."""
    found = []
    try:
        for done in as_completed(futures, timeout=max(until - time.monotonic(), 1)):
            if error := done.exception():
                print(f"{what}: {error!r}", flush=True)
            else:
                found.append(done.result())
    except TimeoutError:
        print(f"{what}: {len(found)} of {len(futures)} were in time", flush=True)
    print(f"{what}: {len(found)} after {time.monotonic() - began:.0f} s", flush=True)
    return found
