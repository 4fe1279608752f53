"""Events and labels -> a bundle: pre-training, supervision, calibration, on separate users.

    fit        70 %   weights, statistics
    choose     15 %   the best epoch, by average precision
    calibrate  15 %   score -> probability; what is measured there goes into metrics.json

Users, and campaigns with all users they touched, are in one part only. A causal encoder learns from
every event of a stretch at once, a bidirectional one from as-of windows, for their newest events.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from msgspec import Struct
from torch import Tensor
from torch.nn import functional as F

from models import bundle as bundles
from models import schema as schemas
from models.calibration import Calibration, fit
from models.dataset import Dataset, read, split
from models.features import columns
from models.inference import mixed_precision, run
from models.masking import mask_events
from models.measures import average_precision, detection
from models.network import PRESETS, Attention, Network, NetworkConfig
from models.packing import left_aligned
from models.statistics import gather_statistics, typical_input
from stream_app.core.errors import Misconfigured
from stream_app.core.window import Ints, WindowPolicy, Windows

SHARES: Final = (0.7, 0.15, 0.15)
_CHOOSE_AT_MOST: Final = 30_000  # events scored after each epoch
_GOLDEN: Final = 12
_POSITIVE_SHARE: Final = 0.25  # of the loss
_GUESS_WEIGHT: Final = 0.1  # of guessing events, beside the labels
_NUMBER_DROPOUT: Final = 0.05
_SHORT_PAST: Final = 0.25  # weight of an event that sees less of its past than it will when served
_BUCKET: Final = 32  # batches among which lines are sorted by length

Progress = Callable[[str], None]


class Recipe(Struct, frozen=True, kw_only=True):
    """How weights are fitted."""

    epochs: int = 8
    pretrain_epochs: int = 2
    patience: int = 3
    lines: int = 64  # windows a step
    rate: float = 1e-3
    weight_decay: float = 0.02
    time_limit_s: float = math.inf
    seed: int = 0


class TrainReport(Struct, frozen=True, kw_only=True):
    version: str
    folder: Path
    seconds: float
    epochs: int  # with labels
    metrics: dict[str, Any]


class _Step(Struct):
    """One batch: lines of events, and how much each counts."""

    index: Ints  # (lines, events) rows
    lengths: Ints
    weight: Any  # (lines, events) float32; 0 = no loss


def train(
    data: Sequence[Path],
    labels: Sequence[Path],
    out: Path,
    *,
    name: str = "",
    schema: str | Path = "shop",
    preset: str = "tiny",
    attention: Attention = "causal",
    epochs: int = 8,
    pretrain_epochs: int = 2,
    time_limit_s: float | None = None,
    seed: int = 0,
    prior: float | None = None,
    device: str = "auto",
    threads: int = 1,
    progress: Progress = lambda _: None,
) -> TrainReport:
    """Read event files in order of arrival, train, and write the bundle `out`.

    `prior`: the share of anomalies to expect in use, if the files hold more or fewer of them.
    Deterministic on a CPU, unless the time limit cuts it short. Raises Misconfigured.
    """
    if preset not in PRESETS:
        raise Misconfigured(f"there is no preset {preset!r}: choose {', '.join(PRESETS)}")
    if attention not in ("causal", "bidirectional"):
        raise Misconfigured(f"there is no attention {attention!r}: choose causal or bidirectional")
    if prior is not None and not 0 < prior < 1:
        raise Misconfigured(f"prior is a share between 0 and 1, not {prior:g}")
    began = time.monotonic()
    place = bundles.pick_device(device)
    if threads:
        torch.set_num_threads(threads)
    limit = math.inf if time_limit_s is None else time_limit_s
    recipe = Recipe(epochs=epochs, pretrain_epochs=pretrain_epochs, time_limit_s=limit, seed=seed)
    policy, read_by = WindowPolicy(), schemas.load(schema)
    dataset = read(data, labels, read_by, policy)
    progress(
        f"read {len(dataset)} events of {len(dataset.users)} users, "
        f"{int(dataset.anomalous.sum())} of them anomalies; {dataset.put_aside} put aside"
    )
    if labels and not any(label is not None for label in dataset.labels):
        raise Misconfigured("no label has the event_id of an event: do the files belong together?")
    parts = split(dataset, SHARES, seed)
    if not all(len(part) for part in parts):
        raise Misconfigured("there are too few users to keep some aside: train on more events")
    try:
        out.mkdir(parents=True, exist_ok=True)  # or all the training would be for nothing
    except OSError as error:
        raise Misconfigured(f"{out} cannot be written: {error.strerror}") from error

    torch.manual_seed(seed)
    config = NetworkConfig(size=PRESETS[preset], attention=attention, window=policy.size)
    statistics = gather_statistics(read_by, dataset, parts[0], seed)
    network = Network(read_by, config, statistics).to(place)
    trainer = _Trainer(network, dataset, parts[0], parts[1], recipe, place, progress, began)
    done = trainer.run()
    typical = typical_input(network, dataset, parts[0], seed)
    network.typical.copy_(typical.to(place))

    calibration, metrics = _calibrate(network, dataset, parts[2], prior, place)
    events = dataset.windows.take(_golden_events(dataset, parts[2]))
    golden = _compact(events)
    version = bundles.save(
        out,
        name or f"{read_by.name}-{preset}",
        network,
        statistics,
        calibration,
        metrics,
        golden,
        dataset.task[_golden_events(dataset, parts[2])],
    )
    seconds = time.monotonic() - began
    progress(f"wrote {version} after {seconds:.0f} s")
    return TrainReport(version=version, folder=out, seconds=seconds, epochs=done, metrics=metrics)


class _Trainer:
    def __init__(
        self,
        network: Network,
        dataset: Dataset,
        fit_on: Ints,
        choose_on: Ints,
        recipe: Recipe,
        device: torch.device,
        progress: Progress,
        began: float,
    ) -> None:
        self.network, self.dataset, self.recipe, self.device = network, dataset, recipe, device
        self.fit_on, self.choose_on = fit_on, choose_on[:_CHOOSE_AT_MOST]
        self.progress, self.began = progress, began
        self.rng = np.random.default_rng(recipe.seed)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        rows = dataset.windows.rows
        self.rows = columns(network.schema, rows).to(device)
        self.ids = np.ascontiguousarray(rows["id"])
        anomalous = np.zeros(len(rows), np.float32)
        anomalous[dataset.row[dataset.anomalous]] = 1
        self.target = torch.from_numpy(anomalous).to(device)
        self.first = np.full(len(rows), -1, np.int64)  # by row: where its own window begins
        size = dataset.windows.index.shape[1]
        at = np.arange(len(dataset))
        self.first[dataset.row] = dataset.windows.index[at, size - dataset.windows.length]
        positives = int(dataset.anomalous[fit_on].sum())
        self.has_labels = positives > 0
        balance = (len(fit_on) - positives) / max(positives, 1)
        share = _POSITIVE_SHARE / (1 - _POSITIVE_SHARE)
        self.positive_weight = float(np.clip(share * balance, 0.2, 100))
        self.stretches = _stretches_of(dataset, fit_on)

    def run(self) -> int:
        """Fit in place; the best epoch's weights stay. Returns the epochs with labels."""
        recipe = self.recipe
        self._phase("pre-training", recipe.pretrain_epochs, supervised=False)
        if not self.has_labels:
            self.progress("no anomalies among the labels: the scores will tell nothing")
            return 0
        return self._phase("epoch", recipe.epochs, supervised=True)

    def _phase(self, name: str, epochs: int, supervised: bool) -> int:
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        plain = [p for p in self.network.parameters() if p.ndim <= 1]
        optimiser = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": self.recipe.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=self.recipe.rate,
        )
        best, kept, stale = -1.0, None, 0
        for epoch in range(epochs):
            steps = list(self._steps())
            self.network.train()
            total = 0.0
            for at, step in enumerate(steps):
                done = (epoch + at / len(steps)) / epochs
                for group in optimiser.param_groups:
                    group["lr"] = self.recipe.rate * _schedule(done)
                loss = self._loss(step, supervised)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
                optimiser.step()
                total += float(loss.detach())
                if self._late():
                    break
            said = f"{name} {epoch + 1}/{epochs}: loss {total / max(at + 1, 1):.4f}"
            if supervised:
                found = self._chosen_by()
                said += f", average precision {found:.4f}"
                if found > best:
                    best, stale = found, 0
                    state = self.network.state_dict()
                    kept = {key: value.detach().clone() for key, value in state.items()}
                else:
                    stale += 1
            self.progress(f"{said}, {time.monotonic() - self.began:.0f} s")
            if self._late() or stale >= self.recipe.patience:
                break
        if kept is not None:
            self.network.load_state_dict(kept)
        self.network.eval()
        return epoch + 1 if epochs else 0

    def _late(self) -> bool:
        return time.monotonic() - self.began > self.recipe.time_limit_s

    def _chosen_by(self) -> float:
        """Average precision on the users that choose the epoch, as the stream would score them."""
        windows = self.dataset.windows.take(self.choose_on)
        self.network.eval()
        raw = run(self.network, windows, self.device).logits
        own = raw[np.arange(len(windows)), self.dataset.task[self.choose_on]]
        found = average_precision(own, self.dataset.anomalous[self.choose_on])
        return 0.0 if math.isnan(found) else found

    def _loss(self, step: _Step, supervised: bool) -> Tensor:
        network, device = self.network, self.device
        index = torch.from_numpy(step.index.astype(np.int64)).to(device)
        lengths = torch.from_numpy(step.lengths).to(device)
        weight = torch.from_numpy(step.weight).to(device)
        window, target = self.rows.gather(index), self.target[index]
        described = network.describe(window)
        salt = network.salts(len(index), self.generator).to(device)
        normal = (weight > 0) & (target == 0)
        causal = network.config.attention == "causal"
        with mixed_precision(device):
            inputs = network.inputs(window, described, salt)
            loss = inputs.new_zeros(())
            states: Tensor | None = None
            if supervised or causal:
                shown = network.number_dropout(inputs, _NUMBER_DROPOUT, self.generator)
                tokens, own = network.embed(shown)
                states = network.encode(tokens, lengths)
            if supervised and states is not None:
                read = weight > 0
                logits = network.logits(states[read], own[read])
                task = network.task_of_type[window.type[read]]
                scored = logits.gather(1, task[:, None])[:, 0]
                counts = weight[read] * (1 + (self.positive_weight - 1) * target[read])
                each = F.binary_cross_entropy_with_logits(scored, target[read], reduction="none")
                loss = (each * counts).sum() / counts.sum()
            if causal and states is not None:
                past = network.no_past.to(states.dtype).expand(len(index), 1, -1)
                known, which = torch.cat([past, states[:, :-1]], 1)[normal], normal
            else:
                known, which = self._masked(step, inputs, lengths, normal)
            guesses = network.guesses(known)
        before = torch.nn.functional.pad(window.hashes[:, :-1], (0, 0, 1, 0))
        classes = network.classes(
            window.type[which], window.hashes[which], before[which], described[which]
        )
        nats = [F.cross_entropy(g, classes[:, at]) for at, g in enumerate(guesses)]
        guess = torch.stack(nats).mean() if len(classes) else loss.new_zeros(())
        return loss + (_GUESS_WEIGHT if supervised else 1.0) * guess

    def _masked(
        self, step: _Step, inputs: Tensor, lengths: Tensor, normal: Tensor
    ) -> tuple[Tensor, Tensor]:
        """States of the events to be guessed, and which they are, for a bidirectional encoder."""
        valid = np.arange(step.index.shape[1]) < step.lengths[:, None]
        seed = int(self.rng.integers(1 << 31))
        masking = mask_events(self.ids[step.index], valid, seed)
        source = torch.from_numpy(masking.source.reshape(-1)).to(self.device)
        hidden = torch.from_numpy(masking.hidden).to(self.device)
        shown = inputs.flatten(0, 1)[source].view_as(inputs)
        tokens, _ = self.network.embed(shown, counted=False)
        mask_token = self.network.mask_token.to(tokens.dtype)
        states = self.network.encode(torch.where(hidden[:, :, None], mask_token, tokens), lengths)
        which = torch.from_numpy(masking.guessed).to(self.device)
        return states[which], which

    def _steps(self) -> Iterator[_Step]:
        """An epoch: lines of like length together, in random order."""
        if self.network.config.attention == "causal":
            events = self.stretches(self.rng)
        else:
            events = self.fit_on[_sampled(self.dataset.anomalous[self.fit_on], self.rng)]
        events = self.rng.permutation(events)
        lines = self.recipe.lines
        length = self.dataset.windows.length
        batches: list[Ints] = []
        for begin in range(0, len(events), lines * _BUCKET):
            some = events[begin : begin + lines * _BUCKET]
            some = some[np.argsort(length[some], kind="stable")]
            batches += [some[at : at + lines] for at in range(0, len(some), lines)]
        for at in self.rng.permutation(len(batches)):
            yield self._step(batches[at])

    def _step(self, events: Ints) -> _Step:
        windows = self.dataset.windows
        length = windows.length[events]
        width = int(length.max())
        index = left_aligned(windows, events, width)
        place = np.arange(width)
        valid = place < length[:, None]
        if self.network.config.attention == "causal":
            full = (self.first[index] == index[:, :1]) | (place >= length[:, None] // 2)
            weight = np.where(full, 1.0, _SHORT_PAST) * valid
        else:
            weight = (place == length[:, None] - 1) * 1.0
        return _Step(index, length, weight.astype(np.float32))


def _schedule(done: float) -> float:
    """Learning rate by the share of a phase that is done: a short rise, then a cosine."""
    return min(1.0, 0.05 + done / 0.05) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0) * 0.97))


def _stretches_of(dataset: Dataset, events: Ints) -> Callable[[np.random.Generator], Ints]:
    """Draws events whose windows, half overlapping, cover all `events`."""
    order = events[np.argsort(dataset.user[events], kind="stable")]
    user = dataset.user[order]
    cuts = np.flatnonzero(np.diff(user)) + 1
    runs = np.split(order, cuts)
    length = dataset.windows.length

    def draw(rng: np.random.Generator) -> Ints:
        chosen: list[int] = []
        for run_ in runs:
            at = len(run_) - 1
            chosen.append(int(run_[at]))
            covered = at + 1 - int(length[run_[at]])
            if covered > 0:
                at -= int(rng.integers(1, max(2, int(length[run_[at]]) // 2)))
            while covered > 0:
                chosen.append(int(run_[at]))
                covered = at + 1 - int(length[run_[at]])
                at -= max(1, int(length[run_[at]]) // 2)
        return np.array(chosen)

    return draw


def _sampled(anomalous: np.ndarray[Any, Any], rng: np.random.Generator) -> Ints:
    """All anomalies, and at most 24 000 normal events."""
    normal = np.flatnonzero(~anomalous)
    some = rng.choice(normal, min(len(normal), 24_000), replace=False)
    return np.concatenate([np.flatnonzero(anomalous), some])


def _calibrate(
    network: Network, dataset: Dataset, events: Ints, prior: float | None, device: torch.device
) -> tuple[Calibration, dict[str, Any]]:
    windows, task = dataset.windows.take(events), dataset.task[events]
    raw = run(network, windows, device).logits[np.arange(len(events)), task]
    anomalous = dataset.anomalous[events]
    names = network.schema.task_names
    calibration = fit(raw, anomalous, task, len(names), prior)
    scores = calibration.apply(raw, task)
    decided = scores >= np.array(calibration.thresholds)[task]
    groups: dict[str, Sequence[str]] = {"task": [names[t] for t in task]}
    for group in ("family", "difficulty"):
        values = dataset.of(group)
        groups[group] = [values[at] for at in events]
    measured = detection(scores, decided, anomalous, groups)
    return calibration, {"held_out_users": measured}


def _golden_events(dataset: Dataset, events: Ints) -> Ints:
    """Some anomalies, some normal events; short and long windows."""
    anomalies = events[dataset.anomalous[events]]
    normal = events[~dataset.anomalous[events]]
    half = _GOLDEN // 2
    picked = [
        some[np.linspace(0, len(some) - 1, min(half, len(some))).astype(int)]
        for some in (anomalies, normal)
        if len(some)
    ]
    return np.concatenate(picked)


def _compact(windows: Windows) -> Windows:
    """The same windows over the rows that they use."""
    used, index = np.unique(windows.index, return_inverse=True)
    return Windows(windows.rows[used], index.reshape(windows.index.shape), windows.length)
