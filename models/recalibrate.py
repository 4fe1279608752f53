"""A bundle and a later slice of the shop's own events -> the same weights, decided otherwise.

The slice must be younger than what the model was trained on and older than what it will judge. What
is told of the result is measured on users, or on time, that the fit in question did not see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import Struct, structs
from numpy.typing import NDArray

from models import bundle as bundles
from models.bundle import Bundle
from models.calibration import Calibration, Segment
from models.dataset import Dataset, read
from models.encoding import Hashes
from models.evaluate.reliability import reliability
from models.measures import at_threshold
from models.recalibration import Method, check, held_out, refit
from models.thresholds import Rule, threshold
from models.writing import check_folder
from stream_app.core.conformal import Tail, tail_of
from stream_app.core.errors import Misconfigured
from stream_app.core.score import Floats
from stream_app.core.window import Ints

_ERROR: Final = "expected_calibration_error"


class Wanted(Struct, frozen=True, kw_only=True):
    """What shall change. `segments`: values of `segment_field` with thresholds of their own."""

    method: Method = "keep"
    rule: Rule = Rule("half")
    by_task: bool = False  # the rule for each task by itself, not for all events together
    segment_field: str | None = None
    segments: tuple[str, ...] = ()


class Recalibrated(Struct, frozen=True, kw_only=True):
    """`error` and `brier` are before and after, the latter on users that the fit did not see."""

    version: str
    events: int
    anomalies: int
    error: tuple[float, float] | None  # expected calibration error; None without labels
    brier: tuple[float, float] | None
    thresholds: Mapping[str, tuple[float, ...]]  # "all" and each segment -> by task
    alarmed: float  # share of the slice's events at their threshold or above
    later: float  # the same in its later half, by thresholds set on its earlier half
    decided: Mapping[str, float] | None  # precision, recall, ...; None without labels


class _Slice(Struct, frozen=True):
    data: Dataset
    events: Ints
    raw: Floats
    tasks: Ints
    anomalous: NDArray[np.bool_]


def recalibrate(
    bundle: Bundle,
    on: Path,
    labels: Sequence[Path],
    out: Path,
    wanted: Wanted,
    history: Sequence[Path] = (),
    source: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Recalibrated:
    """Write `out`: `bundle` with its calibration and thresholds fitted to the events of `on`.

    `history`: files before it, which only fill the windows. `source`: the folder that the bundle
    came from. Raises Misconfigured.
    """
    _check(bundle, wanted, labels)
    check_folder(out)
    data = read([*history, on], labels, bundle.schema, bundle.schema.window)
    events = np.flatnonzero(data.file == len(history))
    if not len(events):
        raise Misconfigured(f"there is no event in {on}")
    progress(f"scoring {len(events):,} events")
    tasks = data.task[events]
    said = bundles.opinions(bundle, data.windows.take(events), tasks).raw
    fusion = bundle.fusion
    # Each set of members that may be chosen when serving, all of them last.
    for names in sorted((key.split("+") for key in fusion.finals), key=len):
        which = [bundle.chosen.index(name) for name in names]
        raw = fusion.mean(said[:, which], names, list(bundle.members.trees), tasks)
        some = _Slice(data, events, raw, tasks, data.anomalous[events])
        fitted = refit(fusion.final(names), raw, some.anomalous, tasks, wanted.method)
        after = _decided(fitted, some, np.arange(len(events)), bundle, wanted)
        fusion = fusion.with_final(names, after)
    golden = bundles.golden(source, bundle.schema) if source else None
    windows = golden.windows if golden else data.windows.take(events[:12])
    version = bundles.save(
        out,
        bundle.name,
        bundle.members,
        fusion,
        bundle.metrics,
        windows,
        golden.tasks if golden else tasks[:12],
    )
    return _told(version, bundle.calibration, after, some, bundle, wanted)


def _check(bundle: Bundle, wanted: Wanted, labels: Sequence[Path]) -> None:
    check(wanted.method, bool(labels))
    categories = [f.name for f in bundle.schema.of_kind("category")]
    if wanted.segment_field is not None and wanted.segment_field not in categories:
        raise Misconfigured(
            f"{wanted.segment_field!r} is no category of the schema {bundle.schema.name}; "
            f"there are {', '.join(categories)}"
        )


def _decided(
    calibration: Calibration, some: _Slice, which: Ints, bundle: Bundle, wanted: Wanted
) -> Calibration:
    """With thresholds by the rule, from the events `which` of the slice."""
    scores = calibration.apply(some.raw[which], some.tasks[which])
    anomalous, tasks = some.anomalous[which], some.tasks[which]
    names = bundle.schema.task_names

    def by_task(own: NDArray[np.bool_], where: str) -> tuple[float, ...]:
        found = []
        for task, name in enumerate(names):
            part = own & (tasks == task) if wanted.by_task else own
            try:
                found.append(threshold(wanted.rule, scores[part], anomalous[part]))
            except Misconfigured as error:
                place = f"{where}, task {name}" if wanted.by_task else where
                raise Misconfigured(f"{place}: {error}") from error
        return tuple(found)

    everywhere = by_task(np.ones(len(which), np.bool_), "all events")
    segments: list[Segment] = []
    if wanted.segment_field is not None:
        bits = next(f.bits for f in bundle.schema.fields if f.name == wanted.segment_field)
        rows = some.data.windows.rows[some.data.row[some.events[which]]]
        for name in wanted.segments:
            hashed = Hashes(bits)[name]
            own = rows[wanted.segment_field] == hashed
            where = f"{wanted.segment_field} {name}"
            if not own.any():
                raise Misconfigured(f"no event is of {where}: is it written as events have it?")
            segments.append(Segment(name, hashed, by_task(own, where)))
    return structs.replace(
        calibration,
        thresholds=everywhere,
        segment_field=wanted.segment_field,
        segments=tuple(segments),
        clean=_tails(scores, anomalous, tasks, everywhere, wanted.by_task),
    )


def _tails(
    scores: Floats,
    anomalous: NDArray[np.bool_],
    tasks: Ints,
    limits: tuple[float, ...],
    by_task: bool,
) -> tuple[Tail, ...]:
    """Of what is not labelled anomalous: for p-values, exact where events begin to be anomalous."""
    if not by_task:
        return (tail_of(scores[~anomalous], limits),)
    return tuple(
        tail_of(scores[~anomalous & (tasks == task)], [limit]) for task, limit in enumerate(limits)
    )


def _told(
    version: str,
    before: Calibration,
    after: Calibration,
    some: _Slice,
    bundle: Bundle,
    wanted: Wanted,
) -> Recalibrated:
    count = len(some.events)
    labelled = bool(some.anomalous.any())
    alarms = _alarms(after, some, np.arange(count))
    earlier, later = np.arange(count // 2), np.arange(count // 2, count)
    try:
        foresight = _alarms(_decided(after, some, earlier, bundle, wanted), some, later).mean()
    except Misconfigured:  # half of the slice is too little for the rule: nothing can be told
        foresight = np.nan
    error = brier = decided = None
    if labelled:
        users = some.data.user[some.events]
        old = before.apply(some.raw, some.tasks)
        new = held_out(before, some.raw, some.anomalous, some.tasks, users, wanted.method)
        was, is_ = (reliability(scores, some.anomalous) for scores in (old, new))
        error, brier = (was[_ERROR], is_[_ERROR]), (was["brier"], is_["brier"])
        decided = at_threshold(alarms, some.anomalous)
    return Recalibrated(
        version=version,
        events=count,
        anomalies=int(some.anomalous.sum()),
        error=error,
        brier=brier,
        thresholds={
            "all": after.thresholds,
            **{segment.name: segment.thresholds for segment in after.segments},
        },
        alarmed=float(alarms.mean()),
        later=float(foresight),
        decided=decided,
    )


def _alarms(calibration: Calibration, some: _Slice, which: Ints) -> NDArray[np.bool_]:
    windows = some.data.windows.take(some.events[which])
    scores = calibration.apply(some.raw[which], some.tasks[which])
    found: NDArray[np.bool_] = scores >= calibration.decision.of(windows, some.tasks[which])
    return found


def as_json(found: Recalibrated) -> dict[str, Any]:
    return msgspec.to_builtins(found)  # type: ignore[no-any-return]
