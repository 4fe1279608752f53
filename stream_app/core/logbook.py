"""Stage 2: the logs of many users, in memory.

What `edges.redis_windows` keeps in Redis, for training, offline scoring and tests: the same
`accept` on the same rows. Pure: a dictionary and no clock.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stream_app.core.window import Logs, Rows, WindowPolicy, accept


class LogBook:
    """Logs by user. `row` is the encoder's dtype."""

    def __init__(self, row: np.dtype[np.void], policy: WindowPolicy) -> None:
        self._row = row
        self._policy = policy
        self._logs: dict[bytes, bytes] = {}

    def slide(
        self,
        users: Sequence[bytes],
        rows: Rows,
        committed: Sequence[int],
        known: Sequence[int] = (),
    ) -> Logs:
        """Judge and append `rows` of one source, ascending by seq. See `ports.WindowStore`, and
        `accept` for what is `known`.
        """
        groups: dict[bytes, list[int]] = {}
        for at, user in enumerate(users):
            groups.setdefault(user, []).append(at)
        logs: list[bytes] = []
        place = np.empty(len(users), np.int64)
        start = np.empty(len(users), np.int64)
        first = 0
        for user, positions in groups.items():
            new = rows[positions].tobytes()
            log, places, forgettable = accept(
                self._logs.get(user, b""), new, self._row.itemsize, self._policy, committed, known
            )
            self._logs[user] = log[forgettable * self._row.itemsize :]
            place[positions] = [first + p if p >= 0 else p for p in places]
            start[positions] = first
            first += len(log) // self._row.itemsize
            logs.append(log)
        return Logs(np.frombuffer(b"".join(logs), self._row), start, place)

    def __len__(self) -> int:
        return len(self._logs)
