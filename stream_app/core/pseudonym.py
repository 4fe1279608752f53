"""Names that stand for users: the same for the same key, and to be made by its holder alone.

A plain hash would be no secret: whoever knows the shop's user ids could hash them all.
"""

from __future__ import annotations

from hashlib import blake2b

LEAST_KEY = 32  # characters; who could guess it could name every user


class Pseudonyms:
    """Keyed BLAKE2b of user ids, 128 bits: two users of a billion share a name once in 10^20."""

    def __init__(self, key: bytes) -> None:
        self._keyed = blake2b(key=blake2b(key).digest(), digest_size=16, person=b"shopsentry-user")

    def of(self, user_id: str) -> str:
        """`p-` and 32 hexadecimal digits."""
        hashed = self._keyed.copy()
        hashed.update(user_id.encode())
        return f"p-{hashed.hexdigest()}"
