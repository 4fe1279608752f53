"""Several calls at once, of which none is left under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any


async def all_ended(calls: Sequence[Awaitable[Any]]) -> list[Any]:
    """What each says, once all have ended; then raises the first error of any, so that a caller who
    tries again meets nothing of its own.
    """
    replies = await asyncio.gather(*calls, return_exceptions=True)
    for reply in replies:
        if isinstance(reply, BaseException):
            raise reply
    return replies
