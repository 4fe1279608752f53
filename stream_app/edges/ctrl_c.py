"""Ctrl-C between calls of confluent-kafka, never within one.

Its `poll` and `flush` lose an exception that a signal raises meanwhile, and end in a SystemError
instead (2.16, about one Ctrl-C in four).
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_pressed: list[int] = []  # signals are the process's, so this is


@contextmanager
def deferred() -> Iterator[None]:
    """Within, Ctrl-C raises KeyboardInterrupt at the next `check`; a second one raises at once."""

    def note(number: int, frame: object) -> None:
        if _pressed:
            raise KeyboardInterrupt
        _pressed.append(number)

    _pressed.clear()
    before = signal.signal(signal.SIGINT, note)
    try:
        yield
        check()
    finally:
        signal.signal(signal.SIGINT, before)
        _pressed.clear()


def check() -> None:
    """Raises KeyboardInterrupt if Ctrl-C was pressed; the next one is noted anew."""
    if _pressed:
        _pressed.clear()
        raise KeyboardInterrupt
