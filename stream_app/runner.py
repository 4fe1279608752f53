"""Running a prepared worker until a signal or an error ends it."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import faust

from stream_app.edges.allocator import memory_given_back


class Runner(faust.Worker):  # type: ignore[misc]
    """Faust's worker without its terminal decoration; an error comes out of `run`."""

    def __init__(self, app: faust.App, logging_config: dict[str, Any], level: str) -> None:
        super().__init__(
            app,
            loglevel=level.upper(),
            logging_config=logging_config,
            redirect_stdouts=False,
            quiet=True,
        )
        self.spinner = None

    def run(self) -> None:
        """Until SIGINT or SIGTERM. Raises what stopped the worker otherwise."""
        # What is loaded by now stays for good: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 100)
        self._starting_fut = asyncio.ensure_future(self.start(), loop=self.loop)
        with memory_given_back():
            try:
                self.loop.run_until_complete(self._starting_fut)
            except asyncio.CancelledError:
                return  # a signal: `stop_and_shutdown` below waits for the stop that it began
            finally:
                self.stop_and_shutdown()
                gc.unfreeze()  # or libraries complain of leaks at exit
