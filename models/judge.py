"""What a bundle says of a batch on its device, whatever fails there.

A window that cannot be scored is found by halving and comes back as NaN; its neighbours are
unharmed. A device that does not answer any more raises DeviceFailed. Where a causal BERT alone
scores on CUDA, a batch may be begun and its scores fetched later.
"""

from __future__ import annotations

import logging
import os
import shutil
from typing import Final

import numpy as np
import torch
from msgspec import Struct
from numpy.typing import NDArray

from models.bundle import Bundle, fused
from models.committee import Opinions, hear
from models.flat import FlatBert, Precision, suits
from models.inference import Raw, run
from models.packing import sound
from models.reasons import Explainer
from models.recorded import Reading, RecordedReader
from stream_app.core.decision import decide
from stream_app.core.errors import DeviceFailed, Misconfigured
from stream_app.core.score import Floats, Reason, Scores
from stream_app.core.window import Ints, Windows

_log = logging.getLogger(__name__)
_FEW: Final = 1024  # windows that are told how likely they are at once: sooner than a second pass
_LIKELY: Final = 16_384  # events of a recorded pass that tells so


class Begun(Struct, frozen=True):
    """A batch that the device computes."""

    windows: Windows
    tasks: Ints
    reading: Reading

    def over(self) -> bool:
        return self.reading.over()


class Judge:
    """`threads`, `likelihood`, `precision`: see `scorer.BundleScorer`. `tokens`: events a pass."""

    def __init__(
        self, bundle: Bundle, threads: int, tokens: int, likelihood: bool, precision: Precision
    ) -> None:
        self.bundle = bundle
        self._recorded: RecordedReader | None = None
        self._likely: RecordedReader | None = None  # tells how likely windows are, too
        if flat := _flat(bundle, precision):
            self._recorded = RecordedReader(flat, bundle.device, likelihood=likelihood)
            self._likely = self._recorded
            if not likelihood:
                self._likely = RecordedReader(flat, bundle.device, _LIKELY, likelihood=True)
        self._likelihood = likelihood
        self._threads = threads
        self._tokens = tokens
        self._thresholds = bundle.calibration.decision
        self._explainer = Explainer(bundle.network, bundle.statistics, bundle.device)
        self._longest = min(e.config.window for e in bundle.members.encoders.values())

    def begin(self, windows: Windows, tasks: Ints) -> Begun | None:
        """None, or raises what it may: `score` does it, and finds the window that fails."""
        reader = self._reader(windows)
        if reader is None or len(windows) > reader.most or not self._sound(windows).all():
            return None
        return Begun(windows, tasks, reader.begin(windows))

    def collect(self, begun: Begun) -> Scores:
        """Waits for it."""
        try:
            read = begun.reading.collect()
        except Exception as error:
            self._check_device(error)
            return self.score(begun.windows, begun.tasks)
        return self._scores(begun.windows, begun.tasks, _own(read, begun.tasks))

    def score(self, windows: Windows, tasks: Ints) -> Scores:
        fine = np.flatnonzero(self._sound(windows))
        if len(fine) == len(windows):
            return self._scores(windows, tasks, self._hear(windows, tasks))
        _log.warning("%d windows are out of bounds and get no score", len(windows) - len(fine))
        found = Scores(*(np.full(len(windows), np.nan, np.float32) for _ in range(3)))
        few, own = windows.take(fine), tasks[fine]
        some = self._scores(few, own, self._hear(few, own))
        found.calibrated[fine], found.surprise[fine] = some.calibrated, some.surprise
        found.log_likelihood[fine] = some.log_likelihood
        return found

    def explain(self, windows: Windows, tasks: Ints) -> list[tuple[Reason, ...]]:
        """None of a window that cannot be explained."""
        found: list[tuple[Reason, ...]] = [()] * len(windows)

        def explain(which: Ints) -> None:
            try:
                some = self._explainer.explain(windows.take(which), tasks[which].tolist())
            except Exception as error:
                self._check_device(error)
                if len(which) == 1:
                    _log.warning("a window cannot be explained: %s", error)
                    return
                explain(which[: len(which) // 2])
                explain(which[len(which) // 2 :])
            else:
                for at, reasons in zip(which, some, strict=True):
                    found[int(at)] = reasons

        fine = np.flatnonzero(self._sound(windows))
        if len(fine):
            explain(fine)
        return found

    def _scores(self, windows: Windows, tasks: Ints, said: Opinions) -> Scores:
        calibrated = self.bundle.calibration.apply(fused(self.bundle, said, tasks), tasks)
        anomalous = decide(calibrated, self._thresholds.of(windows, tasks))
        which = np.flatnonzero(anomalous & np.isnan(said.log_likelihood))
        if len(which):
            said.log_likelihood[which] = self._told(windows.take(which))
        if not self._likelihood:
            said.log_likelihood[~anomalous] = np.nan  # whatever batch they came in
        return Scores(calibrated, said.surprise, said.log_likelihood)

    def _hear(self, windows: Windows, tasks: Ints) -> Opinions:
        """Halves the batch until the window that fails is alone."""
        bundle = self.bundle
        try:
            reader = self._reader(windows)
            if reader is not None:
                return _own(reader.run(windows), tasks)
            return hear(
                bundle.members,
                bundle.chosen,
                windows,
                tasks,
                bundle.device,
                self._tokens,
                self._likelihood,
                self._threads,
            )
        except DeviceFailed:
            raise
        except Exception as error:
            self._check_device(error)
            if len(windows) <= 1:
                _log.warning("a window cannot be scored: %s", error)
                raw = np.full((len(windows), len(bundle.chosen)), np.nan, np.float32)
                return Opinions(raw, *(np.full(len(windows), np.nan, np.float32) for _ in range(2)))
        parts = [
            self._hear(windows.take(which), tasks[which])
            for which in np.array_split(np.arange(len(windows)), 2)
        ]
        return Opinions(
            np.concatenate([part.raw for part in parts]),
            np.concatenate([part.surprise for part in parts]),
            np.concatenate([part.log_likelihood for part in parts]),
        )

    def _reader(self, windows: Windows) -> RecordedReader | None:
        return self._likely if len(windows) <= _FEW else self._recorded

    def _told(self, windows: Windows) -> Floats:
        """The log-likelihood of windows whose score is known; NaN should that fail."""
        network, device = self.bundle.network, self.bundle.device
        try:
            if self._likely is not None:
                return self._likely.run(windows).log_likelihood
            return run(network, windows, device, self._tokens, likelihood=True).log_likelihood
        except Exception as error:
            self._check_device(error)
            _log.warning("the likelihood of %d windows cannot be told: %s", len(windows), error)
            return np.full(len(windows), np.nan, np.float32)

    def _check_device(self, error: Exception) -> None:
        """After a failure: raises DeviceFailed unless the device still answers."""
        if self.bundle.device.type == "cpu":
            return
        try:
            torch.cuda.empty_cache()
            torch.zeros(8, device=self.bundle.device).sum().item()
        except RuntimeError as lost:
            raise DeviceFailed(
                f"The device {self.bundle.device} does not answer any more ({error}). "
                "Restart the worker; if it happens again, look at the driver's log."
            ) from lost

    def _sound(self, windows: Windows) -> NDArray[np.bool_]:
        return sound(windows, len(self.bundle.schema.types), self._longest)


def _own(read: Raw, tasks: Ints) -> Opinions:
    """Under the tasks of the windows."""
    return Opinions(
        read.logits[np.arange(len(tasks)), tasks][:, None], read.surprise, read.log_likelihood
    )


def _flat(bundle: Bundle, precision: Precision) -> FlatBert | None:
    """Where a causal BERT alone scores on CUDA; to record it takes some seconds. None: the general
    way.
    """
    alone = bundle.chosen == (next(iter(bundle.members.encoders)),)
    if bundle.device.type == "cuda" and alone and suits(bundle.network):
        if os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang"):
            return FlatBert(bundle.network, precision)
        missing = "Triton needs a C compiler, and there is no gcc or clang here: install one"
        if precision == "bf16":
            _log.warning("the GPU scores several times slower than it could: %s", missing)
            return None
        raise Misconfigured(f"{missing}, or leave scorer.precision at bf16")
    if precision != "bf16":
        raise Misconfigured(
            f"{precision} is for a causal BERT that scores alone on CUDA, and here is none: leave "
            "scorer.precision at bf16, or choose scorer.members=bert and scorer.device=cuda"
        )
    return None
