"""The naive answer to what `stream_app.core.window` computes: one user, plain lists."""

from __future__ import annotations

from typing import NamedTuple

from stream_app.core.window import DUPLICATE, LATE, Logs, WindowPolicy, as_of


class Act(NamedTuple):
    at_ms: int
    id: int
    offset: int


def judge(history: list[Act], policy: WindowPolicy) -> list[int | list[Act]]:
    """For each act of one user, in offset order: DUPLICATE, LATE, or its window, oldest first."""
    log: list[Act] = []
    answers: list[int | list[Act]] = []
    for act in history:
        near = log[-policy.horizon :]
        if any(other.id == act.id for other in near):
            answers.append(DUPLICATE)
        elif near and act.at_ms < max(other.at_ms for other in near) - policy.lateness_ms:
            answers.append(LATE)
        else:
            log.append(act)
            past = [a for a in [*near, act] if act.at_ms - policy.span_ms < a.at_ms <= act.at_ms]
            answers.append(sorted(past, key=lambda a: (a.at_ms, a.offset))[-policy.size :])
    return answers


def answers_of(policy: WindowPolicy, logs: Logs) -> list[int | list[Act]]:
    """DUPLICATE, LATE or the window of each event, as the product has it."""
    found: list[int | list[Act]] = [int(p) for p in logs.place]
    accepted, windows = as_of(logs, policy)
    for position, index, length in zip(accepted, windows.index, windows.length, strict=True):
        rows = windows.rows[index[len(index) - length :]]
        found[position] = [
            Act(int(r["at_ms"]), int(r["id"]), (int(r["seq"]) & (1 << 48) - 1) - 1) for r in rows
        ]
    return found
