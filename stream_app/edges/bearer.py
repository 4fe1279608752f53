"""Bearer tokens for SASL OAUTHBEARER, out of a file that somebody else keeps fresh.

A file is the hook: an agent of any identity provider writes it (a projected service account token
of Kubernetes is one already), and it is read anew whenever Kafka asks for a token.
"""

from __future__ import annotations

import asyncio
import base64
import time
from pathlib import Path
from typing import Final

import msgspec
from aiokafka.abc import AbstractTokenProvider

from stream_app.core.errors import Misconfigured

UNKNOWN_S: Final = 300.0  # a token that does not say until when it is good is read again then


class _Claims(msgspec.Struct):
    exp: float | None = None


class BearerFile(AbstractTokenProvider):  # type: ignore[misc]
    """For aiokafka (`token`) and librdkafka (`librdkafka`)."""

    def __init__(self, path: Path) -> None:
        """Raises Misconfigured if there is no token by now."""
        self._path = path
        self._read()

    async def token(self) -> str:
        return await asyncio.to_thread(self._read)

    def librdkafka(self, _config: str) -> tuple[str, float]:
        """The token, and the epoch second at which it ends."""
        token = self._read()
        return token, _end_of(token) or time.time() + UNKNOWN_S

    def _read(self) -> str:
        try:
            token = self._path.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            token = ""
        if not token:
            raise Misconfigured(f"kafka.oauth_token_file: there is no token in {self._path}")
        return token


def _end_of(token: str) -> float | None:
    """What a JWT says of its end; None if it is none, or says nothing."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        return msgspec.json.decode(claims, type=_Claims).exp
    except (ValueError, msgspec.MsgspecError):
        return None
