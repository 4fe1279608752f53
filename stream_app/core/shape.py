"""How deep a record's JSON is, and how many fields it has, told without making objects of it.

Unknown fields are passed on unread. These limits are for whoever reads them next: a record within
them costs any JSON reader little, however it was made.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np

MAX_DEPTH: Final = 128  # objects and lists within each other
MAX_FIELDS: Final = 4096  # names in all objects of a record together
SLIGHT: Final = 2 * MAX_DEPTH  # bytes: what is shorter cannot be beyond a limit
_SHORTEST: Final = len(b'"":0,')  # a field
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_STEP: Final = np.zeros(256, np.int64)
_STEP[list(b"[{")] = 1
_STEP[list(b"]}")] = -1


def excess(value: bytes) -> tuple[str, str] | None:
    """Of valid JSON: (reason, detail) if it is beyond a limit. Costs as much as half a decoding, so
    leave out what is SLIGHT.
    """
    opened = value.count(b"{") + value.count(b"[")
    if opened <= MAX_DEPTH and len(value) < _SHORTEST * MAX_FIELDS:  # nearly all
        return None
    bare = np.frombuffer(_STRING.sub(b"", value), np.uint8)
    depth = int(np.cumsum(_STEP[bare]).max(initial=0))
    if depth > MAX_DEPTH:
        return "too-deep", f"{depth} levels of objects and lists; {MAX_DEPTH} are allowed"
    fields = int(np.count_nonzero(bare == ord(":")))
    if fields > MAX_FIELDS:
        return "too-many-fields", f"{fields} fields; {MAX_FIELDS} are allowed"
    return None
