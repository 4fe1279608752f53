"""A bundle and the shop's own events -> a smaller bundle, and what that costs and saves.

The events' users and campaigns are parted: some to learn from again, some to put the new scores on
the old scale and to calibrate, some to tell of. Thresholds stay, as probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct, structs

from models import bundle as bundles
from models.bundle import Bundle
from models.compress import align, speed
from models.compress.agreement import Agreement, agreement
from models.compress.smaller import HOWS, Way, smaller
from models.compress.speed import Speed
from models.dataset import Dataset, read, split
from models.fusion import Fusion
from models.network import Network
from models.recalibration import Method, check, refit
from models.training import finish
from models.writing import check_folder, writing
from stream_app.core.errors import Misconfigured
from stream_app.core.window import Ints

JSON: Final = "compression.json"
MARKDOWN: Final = "compression.md"

_SHARES: Final = (0.6, 0.2, 0.2)  # to learn from, to calibrate, to tell of
_TIMED: Final = 2_000  # windows a round

Progress = Callable[[str], None]


class Wanted(Struct, frozen=True, kw_only=True):
    way: Way = Way()
    method: Method = "keep"  # of calibrating anew
    threads: int = 1
    rounds: int = speed.ROUNDS


class Compressed(Struct, frozen=True, kw_only=True):
    version: str
    before: str  # version of the bundle that it came from
    how: str
    members: dict[str, str]  # what became of each
    sizes: tuple[int, int]  # bytes on disk, before and after
    speed: Speed
    agreement: Agreement


class _Parts(Struct, frozen=True):
    data: Dataset
    fit: Ints
    calibrate: Ints
    judge: Ints


def compress(
    source: Path,
    on: Path,
    labels: Sequence[Path],
    out: Path,
    wanted: Wanted,
    history: Sequence[Path] = (),
    progress: Progress = lambda _: None,
) -> Compressed:
    """Write `out`: the bundle in `source`, smaller, with the table of what changed beside it.

    `history`: files before `on`, which only fill the windows. Raises Misconfigured or BadBundle.
    """
    _check(source, out, labels, wanted)
    bundle = bundles.load(source, "cpu")
    packed = [n for n, e in bundle.members.encoders.items() if e.config.weights != "float32"]
    if packed:
        raise Misconfigured(
            f"{source} is compressed already ({', '.join(packed)}): give the bundle it was made of"
        )
    parts = _parted(bundle, on, labels, history, wanted.way.seed)
    made = smaller(bundle.members, parts.data, parts.fit, parts.calibrate, wanted.way, progress)
    found = _aligned(bundle, made.networks, parts)
    fusion = _calibrated(found, parts, wanted)
    found = structs.replace(found, fusion=fusion)
    agreed = _agreement(bundle, found, parts)
    metrics = {**bundle.metrics, "compressed": {"from": bundle.version, "how": wanted.way.how}}
    version = finish.write(
        out,
        f"{bundle.name}-{wanted.way.how}",
        found.members,
        fusion,
        metrics,
        parts.data,
        parts.calibrate,
    )
    progress("measuring the speed")
    loaded = bundles.load(out, "cpu")
    some = parts.judge[
        np.linspace(0, len(parts.judge) - 1, min(_TIMED, len(parts.judge))).astype(int)
    ]
    timed = speed.compare(
        bundle,
        loaded,
        parts.data.windows.take(some),
        parts.data.task[some],
        wanted.threads,
        wanted.rounds,
    )
    told = Compressed(
        version=version,
        before=bundle.version,
        how=wanted.way.how,
        members=made.said,
        sizes=(_size(source), _size(out)),
        speed=timed,
        agreement=agreed,
    )
    _write(out, told)
    return told


def _check(source: Path, out: Path, labels: Sequence[Path], wanted: Wanted) -> None:
    if wanted.way.how not in HOWS:
        raise Misconfigured(f"there is no way {wanted.way.how!r}: choose {', '.join(HOWS)}")
    if not 0 < wanted.way.keep <= 1:
        raise Misconfigured("--keep is a share, above 0 and at most 1")
    check(wanted.method, bool(labels))
    if out.exists() and out.resolve() == source.resolve():
        raise Misconfigured("--out is the bundle itself: name another folder, to be able to return")
    check_folder(out)


def _parted(
    bundle: Bundle, on: Path, labels: Sequence[Path], history: Sequence[Path], seed: int
) -> _Parts:
    data = read([*history, on], labels, bundle.schema, bundle.schema.window)
    own = data.file == len(history)
    fit, calibrate, judge = (part[own[part]] for part in split(data, _SHARES, seed))
    if not len(calibrate) or not len(judge):
        raise Misconfigured(f"{on} has events of too few users to part them: give more")
    return _Parts(data, fit, calibrate, judge)


def _aligned(before: Bundle, networks: Mapping[str, Network], parts: _Parts) -> Bundle:
    """With other networks, their raw scores put where those of their predecessors were."""
    windows, tasks = parts.data.windows.take(parts.calibrate), parts.data.task[parts.calibrate]
    encoders = {**before.members.encoders, **networks}
    bare = structs.replace(before, members=structs.replace(before.members, encoders=encoders))
    was, is_ = (bundles.opinions(one, windows, tasks).raw for one in (before, bare))
    count = len(before.schema.task_names)
    columns = {name: before.chosen.index(name) for name in networks}
    aligned = {n: align.lines(was[:, at], is_[:, at], tasks, count) for n, at in columns.items()}
    members, fusion = align.replaced(before.members, before.fusion, networks, aligned)
    return structs.replace(before, members=members, fusion=fusion)


def _calibrated(bundle: Bundle, parts: _Parts, wanted: Wanted) -> Fusion:
    """For every set of members that may be chosen; thresholds stay."""
    fusion = bundle.fusion
    if wanted.method == "keep":
        return fusion
    events = parts.calibrate
    tasks, anomalous = parts.data.task[events], parts.data.anomalous[events]
    said = bundles.opinions(bundle, parts.data.windows.take(events), tasks).raw
    for names in [key.split("+") for key in fusion.finals]:
        which = [bundle.chosen.index(name) for name in names]
        raw = fusion.mean(said[:, which], names, list(bundle.members.trees), tasks)
        final = refit(fusion.final(names), raw, anomalous, tasks, wanted.method)
        fusion = fusion.with_final(names, final)
    return fusion


def _agreement(before: Bundle, after: Bundle, parts: _Parts) -> Agreement:
    windows, tasks = parts.data.windows.take(parts.judge), parts.data.task[parts.judge]
    scores = [bundles.score(one, windows, tasks) for one in (before, after)]
    limits = [one.calibration.decision.of(windows, tasks) for one in (before, after)]
    return agreement(scores[0], scores[1], limits[0], limits[1], parts.data.anomalous[parts.judge])


def _size(folder: Path) -> int:
    """Bytes of the files of a bundle."""
    from models import manifest

    known = manifest.check(folder, bundles.FILES).sha256
    return sum((folder / file).stat().st_size for file in known)


def _write(out: Path, told: Compressed) -> None:
    from models.compress.table import markdown

    text = msgspec.json.format(msgspec.json.encode(told), indent=1)
    with writing(out):
        (out / JSON).write_bytes(text + b"\n")
        (out / MARKDOWN).write_text(markdown(told), "utf-8")
