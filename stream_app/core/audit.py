"""Whether every promise was kept: the input topic against what came out of it.

What it proves of the records in the range:
- each ends in exactly one of cleaned, quarantined, dead letter, duplicate. A dead letter names its
  record; a cleaned or quarantined one is found by its bytes, key, time and headers. Duplicates are
  not published: a record without an output is one if, and only if, the window rules over the input
  before it say so (`expected`). A dead letter has the reason that these rules give.
- no output without an input, byte for byte; no alert without a quarantined event.
- of each user, outputs stand in the order of their records (at the first time that each is there).
- exactly once: nothing is there twice. At least once: repeats are counted.

What it cannot prove:
- what came before the first record given: `begins=False` says that older records are missing, and
  then a record without an output may be a duplicate of one of them: it is `unproven`, not lost.
- which of several records is meant that agree in key, bytes, time and headers: their outputs are
  counted together.
- after Redis lost its windows (`forgotten=True`) the stream rightly takes a repeated event for a
  new one, and a late one for one in time. Such records are counted and need one outcome still, but
  not the one that the rules over the whole input give.
- the order among several input topics: one topic at a time, and `begins=False` where several share
  their windows.
- that a score is right: that takes the scores of `shopsentry score`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct, field
from xxhash import xxh3_128_digest

from stream_app.core.expected import POISON, Expected, Fate, Rules, expected
from stream_app.core.outcome import CUT_TO, DUPLICATES, Output
from stream_app.core.record import Record

ORIGIN = "kafka_dlt-original-"
OURS = "shopsentry-"
SHOWN = 1000  # differences kept; all are counted
PASSED = (Output.CLEANED, Output.QUARANTINED)


class Difference(Struct, frozen=True):
    """One thing that is not as promised."""

    kind: str  # lost, doubled, ...: a short fixed word
    place: str  # topic-partition@offset of an input, or of an output that has none
    detail: str


class Report(Struct):
    """What was found. `ok` if nothing differs."""

    records: int = 0  # judged
    outcomes: Counter[str] = field(default_factory=Counter)  # as in `outcome.OUTCOMES`
    repeats: Counter[str] = field(default_factory=Counter)  # outputs beyond the first, by topic
    unproven: int = 0  # without an output, perhaps a duplicate of what came before the input given
    forgotten: int = 0  # decided otherwise than by the whole input, after Redis lost its windows
    outside: int = 0  # outputs of records before or after the range
    kinds: Counter[str] = field(default_factory=Counter)  # of all differences
    differences: list[Difference] = field(default_factory=list)  # the first `SHOWN`

    @property
    def ok(self) -> bool:
        return not self.kinds

    def differ(self, kind: str, place: str, detail: str) -> None:
        self.kinds[kind] += 1
        if len(self.differences) < SHOWN:
            self.differences.append(Difference(kind, place, detail))


class Terms(Struct, frozen=True, kw_only=True):
    """What was promised, and what is known of the input."""

    exactly_once: bool = False
    begins: bool = True  # the input given begins where the windows did
    forgotten: bool = False  # Redis lost windows meanwhile


def place_of(record: Record) -> str:
    return f"{record.topic}-{record.partition}@{record.offset}"


def audit(
    inputs: Iterable[Record],
    outputs: Mapping[Output, Iterable[Record]],
    rules: Rules,
    terms: Terms,
    ranges: Mapping[int, range] | None = None,
) -> Report:
    """Judge the records of one topic whose offsets are in `ranges` (by partition; None: all).

    `inputs` have to hold every record that an output may come from, ascending by offset within a
    partition, those outside the range too. `outputs` are all of each topic, committed ones alone,
    ascending by offset within a partition.
    """
    return _Audit(rules, terms, ranges).run(inputs, outputs)


class _Audit:
    def __init__(self, rules: Rules, terms: Terms, ranges: Mapping[int, range] | None) -> None:
        self._rules, self._terms, self._ranges = rules, terms, ranges
        self._report = Report()
        self._all: list[Expected] = []
        self._ended: dict[int, list[str]] = defaultdict(list)  # by position in _all: outcomes
        self._newest: dict[tuple[object, ...], int] = {}  # of a user in an output: position

    def run(self, inputs: Iterable[Record], outputs: Mapping[Output, Iterable[Record]]) -> Report:
        self._all = list(expected(inputs, self._rules))
        self._passed({kind: outputs.get(kind, ()) for kind in PASSED})
        self._dead(outputs.get(Output.DEAD_LETTERS, ()))
        self._alerts(outputs.get(Output.ALERTS, ()))
        self._settle()
        return self._report

    def _judged(self, position: int) -> bool:
        record = self._all[position].record
        return self._ranges is None or record.offset in self._ranges.get(record.partition, ())

    def _passed(self, outputs: Mapping[Output, Iterable[Record]]) -> None:
        alike: dict[bytes, list[int]] = defaultdict(list)
        for position, one in enumerate(self._all):
            if one.user_id:
                alike[fingerprint(one.record, one.record.headers)].append(position)
        for print_, same in alike.items():
            if len(same) > 1:
                alike[print_] = self._publishable(same)
        taken: Counter[tuple[Output, bytes]] = Counter()
        for kind, published in outputs.items():
            for record in published:
                own = [h for h in record.headers if not h[0].startswith(OURS)]
                print_ = fingerprint(record, own)
                same = alike.get(print_, [])
                if not same:
                    self._stray(kind, record)
                    continue
                nth, taken[kind, print_] = taken[kind, print_], taken[kind, print_] + 1
                self._end(same[nth % len(same)], kind, record)

    def _publishable(self, same: list[int]) -> list[int]:
        """Of records that agree, those that may be published, in the order to expect."""
        accepted = [p for p in same if self._all[p].fate == Fate.ACCEPTED]
        if self._terms.forgotten:  # a stream that forgot the first takes a second one
            return accepted + [p for p in same if self._all[p].fate != Fate.ACCEPTED]
        return accepted or same[:1]

    def _stray(self, kind: Output, record: Record) -> None:
        if self._terms.begins:
            self._report.differ("no input", place_of(record), f"{kind} has what no record gave")
        else:
            self._report.outside += 1

    def _end(self, position: int, kind: str, output: Record) -> None:
        """One more output of a record."""
        if not self._judged(position):
            self._report.outside += 1
            return
        ended, one = self._ended[position], self._all[position]
        if kind in ended:
            self._report.repeats[kind] += 1
            if self._terms.exactly_once:
                told = f"again in {kind}, as {place_of(output)}"
                self._report.differ("doubled", place_of(one.record), told)
            return
        ended.append(kind)
        if one.fate == Fate.ACCEPTED:
            track = (kind, output.partition, one.record.partition, one.user_id)
            if position < self._newest.get(track, -1):
                later = place_of(self._all[self._newest[track]].record)
                told = f"in {kind} after {later} of the same user"
                self._report.differ("out of order", place_of(one.record), told)
            self._newest[track] = max(position, self._newest.get(track, -1))

    def _dead(self, letters: Iterable[Record]) -> None:
        where = {
            (one.record.topic, one.record.partition, one.record.offset): position
            for position, one in enumerate(self._all)
        }
        for letter in letters:
            told = dict(letter.headers)  # the last one counts: ours come after the record's own
            try:
                origin = (
                    told[f"{ORIGIN}topic"].decode(),
                    int(told[f"{ORIGIN}partition"]),
                    int(told[f"{ORIGIN}offset"]),
                )
            except (KeyError, ValueError):
                self._report.differ("no input", place_of(letter), "names no origin")
                continue
            position = where.get(origin)
            if position is None:
                self._stray(Output.DEAD_LETTERS, letter)
                continue
            if self._judged(position):
                self._compare(self._all[position], letter, told.get("reason", b"").decode())
            self._end(position, Output.DEAD_LETTERS, letter)

    def _compare(self, one: Expected, letter: Record, reason: str) -> None:
        """A dead letter with its record: the reason, and the bytes."""
        should = one.reason if one.fate == Fate.DEAD else POISON
        free = self._terms.forgotten and one.user_id
        if reason not in (should, POISON if one.fate == Fate.ACCEPTED else should):
            if free and reason in ("late", POISON):
                self._report.forgotten += 1
            elif self._terms.begins or reason != "late":
                told = f"buried as {reason}, not as {should}"
                self._report.differ("wrong reason", place_of(one.record), told)
        value, buried = one.record.value, letter.value
        whole = value == buried or (reason == "too-large" and buried == (value or b"")[:CUT_TO])
        if not whole or one.record.key != letter.key:
            self._report.differ("altered", place_of(one.record), "its dead letter has other bytes")

    def _named(self, one: Expected) -> list[tuple[str, str]]:
        """By which user and event an alert may call it: by pseudonym too, where there is a key."""
        users = [one.user_id]
        if self._rules.pseudonyms is not None:
            users.append(self._rules.pseudonyms.of(one.user_id))
        return [(user, one.event_id) for user in users]

    def _alerts(self, alerts: Iterable[Record]) -> None:
        quarantined = {
            name: p
            for p, ended in self._ended.items()
            if Output.QUARANTINED in ended
            for name in self._named(self._all[p])
        }
        # Events of the range that may alert, if they are quarantined.
        known = {
            name
            for position, one in enumerate(self._all)
            if one.fate == Fate.ACCEPTED and self._judged(position)
            for name in self._named(one)
        }
        outside = {
            name
            for position, one in enumerate(self._all)
            if not self._judged(position)
            for name in self._named(one)
        }
        seen: set[int] = set()
        for alert in alerts:
            envelope = msgspec.json.decode(alert.value or b"{}")
            name = (str(envelope.get("subject")), str(envelope.get("id")))
            position = quarantined.get(name)
            if position is None:
                if name in known and self._terms.begins:
                    self._report.differ("no input", place_of(alert), "its event is not quarantined")
                elif name in outside or not self._terms.begins:
                    self._report.outside += 1
                else:
                    self._report.differ("no input", place_of(alert), "no event has its id")
            elif position in seen:
                self._report.repeats[Output.ALERTS] += 1
                if self._terms.exactly_once:
                    record = self._all[position].record
                    self._report.differ("doubled", place_of(record), "a second alert")
            else:
                seen.add(position)

    def _settle(self) -> None:
        """Every record of the range against its outcomes."""
        first: dict[tuple[str, str], int] = {}  # of an event id: the record that was published
        for position, one in enumerate(self._all):
            name = (one.user_id, one.event_id)
            known = bool(one.user_id) and name in first
            ended = self._ended.get(position, [])
            if one.user_id and (not self._judged(position) or ended):
                first.setdefault(name, position)
            if not self._judged(position):
                continue
            self._report.records += 1
            place = place_of(one.record)
            for kind in ended[:1]:
                self._report.outcomes[kind] += 1
            if len(ended) > 1 and not (self._terms.forgotten and not self._terms.exactly_once):
                self._report.differ("two outcomes", place, " and ".join(ended))
            elif len(ended) > 1:
                self._report.forgotten += 1
            if not ended:
                self._without(one, place, known)
            elif ended[0] in PASSED and one.fate != Fate.ACCEPTED:
                self._undue(one, place, ended[0])

    def _without(self, one: Expected, place: str, known: bool) -> None:
        """A record that left no output."""
        if one.fate == Fate.DUPLICATE or (self._terms.forgotten and known):
            self._report.outcomes[DUPLICATES] += 1
            self._report.forgotten += one.fate != Fate.DUPLICATE
        elif not self._terms.begins and one.user_id:
            self._report.unproven += 1
        else:
            self._report.differ("lost", place, f"{one.fate}, and no output")

    def _undue(self, one: Expected, place: str, kind: str) -> None:
        """Published, though the rules say no."""
        if self._terms.forgotten and one.user_id:
            self._report.forgotten += 1
        else:
            told = f"in {kind}, though {one.reason or one.fate}"
            self._report.differ("undue", place, told)


def fingerprint(record: Record, headers: Sequence[tuple[str, bytes]]) -> bytes:
    """Of what passes through unchanged: key, value, time and own headers."""
    parts = (record.key, record.value, record.timestamp, [(n, v or b"") for n, v in headers])
    return xxh3_128_digest(msgspec.msgpack.encode(parts))
