"""What a Redis that lost its data may change, and what not: sharper than `Terms.forgotten`.

    records   0 ...... first ........ last ......
              as ever | as ever, or   | as ever, or as if the stream
                      | as if nothing | had begun at `last`
                      | came before   |

`first` was committed before the loss began, `last` was the end of the topic when it was over. A
repeated record may be published again, and a late one pass, only if what it repeats, or is later
than, came before `last`. All else is as ever: no record is lost, none has two outcomes, order is
kept, what is no event is buried for its reason. Windows are shorter, so scores may differ, and
alerts' cool-down and users' risk begin anew.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from scripts.chaos.stage import Lapse
from stream_app.core.audit import ORIGIN, OURS, PASSED, Difference, fingerprint, place_of
from stream_app.core.expected import LATE, POISON, Fate, Rules, expected
from stream_app.core.outcome import Output
from stream_app.core.record import Record

Place = tuple[int, int]  # partition, offset


def possible(
    inputs: Sequence[Record], rules: Rules, lapses: Iterable[Lapse]
) -> dict[Place, set[Fate]]:
    """The fates that each record of a topic may have had."""
    known = list(expected(inputs, rules))
    found = {_place(one.record): {one.fate} for one in known}
    for lapse in lapses:
        after = [r for r in inputs if r.offset >= lapse.last[r.partition]]
        for one in expected(after, rules):
            found[_place(one.record)].add(one.fate)
        for one in known:
            offset, partition = one.record.offset, one.record.partition
            if one.user_id and lapse.first[partition] <= offset < lapse.last[partition]:
                found[_place(one.record)].add(Fate.ACCEPTED)
    return found


def unexplained(
    inputs: Sequence[Record],
    outputs: Mapping[Output, Sequence[Record]],
    rules: Rules,
    lapses: Sequence[Lapse],
) -> list[Difference]:
    """What passed or was late although Redis had not forgotten why not, or why.

    For delivery exactly once: an output that is there again would count as one of another record.
    """
    fates = possible(inputs, rules, lapses)
    alike: dict[bytes, list[Record]] = defaultdict(list)
    for record in inputs:
        alike[fingerprint(record, record.headers)].append(record)
    told: list[Difference] = []
    by_place = {_place(record): record for record in inputs}
    passed: Counter[bytes] = Counter()
    for kind in PASSED:
        for output in outputs.get(kind, ()):
            own = [header for header in output.headers if not header[0].startswith(OURS)]
            passed[fingerprint(output, own)] += 1
    for letter in outputs.get(Output.DEAD_LETTERS, ()):
        headers = dict(letter.headers)
        place = int(headers[f"{ORIGIN}partition"]), int(headers[f"{ORIGIN}offset"])
        record, reason = by_place[place], headers["reason"].decode()
        if reason == POISON:
            passed[fingerprint(record, record.headers)] += 1
        elif reason == LATE and Fate.DEAD not in fates[place]:
            told.append(Difference("undue", place_of(record), "late, though nothing says so"))
    for print_, times in passed.items():
        most = sum(Fate.ACCEPTED in fates[_place(record)] for record in alike[print_])
        if times > most:
            detail = f"of {len(alike[print_])} alike {times} passed, {most} may"
            told.append(Difference("undue", place_of(alike[print_][-1]), detail))
    return told


def _place(record: Record) -> Place:
    return record.partition, record.offset
