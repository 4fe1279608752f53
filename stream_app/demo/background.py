"""A thread that can be told to end, and whose error is not lost."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod


class Background(ABC):
    """Subclasses run until `self.stopping` is set."""

    name = "background"

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._guarded, name=self.name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Tell it to end, and wait until it has."""
        self.stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def check(self) -> None:
        """Raises what ended it, if that was an error."""
        if self._error is not None:
            raise self._error

    @abstractmethod
    def run(self) -> None: ...

    def _guarded(self) -> None:
        try:
            self.run()
        except BaseException as error:
            self._error = error
