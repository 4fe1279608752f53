"""Windows cut so that one pass over a user's newest window answers for the ones before it.

A worker that is behind may score like this. A causal scorer reads a window that begins another one
off the longer one's pass (`models.packing`). A full window does not begin the next one, as that has
lost its first event; so the earlier windows of a group lose theirs as well:

    newest     3 4 5 6 7 8        scored, if it is full
    before it  2 3 4 5 6 7   ->   3 4 5 6 7     read off it
               1 2 3 4 5 6   ->   3 4 5 6

No window loses more than half: of a user with many events in a group some more are scored. What
does not fill its window keeps it whole, and its score with it. Pure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_app.core.window import Ints, Windows


def coalesced(windows: Windows, start: Ints, place: Ints) -> tuple[Windows, NDArray[np.bool_]]:
    """The windows of a group, some of them cut, and (windows,) which.

    `start` and `place` (windows,) as in `window.Logs`: the first row of the event's user, its own.
    """
    size = windows.index.shape[1]
    full = windows.length == size
    _, user = np.unique(start, return_inverse=True)
    newest = np.zeros(len(place), np.int64)  # (users,) at most so many: of full windows
    np.maximum.at(newest, user[full], place[full])
    behind = newest[user] - place
    length = np.where(full, size - behind % (size // 2), windows.length)
    return Windows(windows.rows, windows.index, length), length < windows.length
