"""`tune`: files in, a study of trials, the best settings out.

Nothing of a test is read: trials are compared on the users and campaigns by which a training
chooses its epoch.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import xxhash
from msgspec import Struct, json, to_builtins

from models import bundle as bundles
from models import schema as schemas
from models.schema import Schema
from models.training.material import Material, Sources
from models.training.options import Options
from models.training.processes import Processes
from models.training.recipe import Progress
from models.training.run import gather, plan_of
from models.training.session import content
from models.training.warm_start import Start, load_start
from models.training.watch import Watch
from models.tune import settings
from models.tune.study import Study, Tried, opened
from models.tune.subjects import Baseline, Subject, Training
from stream_app.core.errors import Misconfigured


class Wanted(Struct, frozen=True, kw_only=True):
    """`study` is a file that keeps the trials, `out` one for the best settings."""

    study: Path
    out: Path
    of: str = settings.TRAIN  # or a baseline
    trials: int = 20  # in all, those of earlier runs included
    time_limit_s: float = math.inf  # no trial begins later, but the first

    def check(self) -> None:
        """Raises Misconfigured."""
        if self.study.absolute() == self.out.absolute():
            raise Misconfigured("--study and --out are the same file")


class TuneReport(Struct, frozen=True, kw_only=True):
    of: str
    trials: Sequence[Tried]  # the first one has the usual settings
    best: Tried
    judged_by: str  # what told of the anomalies


def tune(
    sources: Sources,
    options: Options,
    wanted: Wanted,
    progress: Progress = lambda _: None,
    *,
    bar: bool = False,
) -> TuneReport:
    """Try settings until there are enough; `out` has the best at any time.

    Goes on with the study if there is one. Deterministic on a CPU. Raises Misconfigured.
    """
    began = time.monotonic()
    wanted.check()
    options.check()
    sources.check()
    if options.threads:
        torch.set_num_threads(options.threads)
    processes = Processes(bundles.pick_device(options.device))
    if processes.count > 1:
        raise Misconfigured("tune runs in one process: start it without torchrun")
    schema = schemas.load(options.schema)
    window = schema.window.size
    subject: Subject
    start = None
    if wanted.of == settings.TRAIN:
        if options.init is not None:
            start = load_start(options.init, schema, options.leader, options.attention, window)
        plan_of(options, schema, start, window, 0).check()
        subject = Training(options, schema, start, processes, bar)
    else:
        subject = Baseline(wanted.of, schema, options.seed, max(options.threads, 1))
    asked = _asked(subject, sources, options, schema, start)
    with opened(wanted.study, asked, options.seed) as study:
        material = gather(sources, options, schema, processes, Watch(progress))
        if not material.data.anomalous[material.choose_on].any():
            raise Misconfigured(
                "there is no anomaly among the users who choose: give labels, or leave out "
                "--simulate 0"
            )
        if before := study.tried():
            progress(f"going on with {wanted.study}: {len(before)} trials are done")
        while len(done := study.tried()) < wanted.trials:
            if done and time.monotonic() - began > wanted.time_limit_s:
                progress("the time is over")
                break
            _try(study, subject, material, progress, len(done) + 1, wanted)
            _keep(_report(study, subject, material), wanted)
        report = _report(study, subject, material)
        _keep(report, wanted)
    return report


def _try(
    study: Study,
    subject: Subject,
    material: Material,
    progress: Progress,
    number: int,
    wanted: Wanted,
) -> None:
    import optuna

    trial, tried = study.ask(subject.space, subject.usual)
    began = time.monotonic()

    def say(line: str) -> None:
        progress(f"trial {number}/{wanted.trials}: {line}")

    def reached(epoch: int, value: float) -> None:
        trial.report(value, epoch)
        if trial.should_prune():
            say(f"cut short in epoch {epoch} at {value:.4f}, half of the others did better")
            raise optuna.TrialPruned

    try:
        found = subject.judge(tried, material, reached, say)
    except optuna.TrialPruned:
        study.cut_short(trial, time.monotonic() - began)
        return
    except KeyboardInterrupt:
        study.forget()
        progress(f"{wanted.study} keeps {number - 1} trials; the same command goes on with it")
        raise
    except BaseException:
        study.forget()
        raise
    study.tell(trial, found.chosen_by, found.kept_aside, found.seconds)
    say(f"average precision {found.chosen_by:.4f}, {found.seconds:.0f} s")


def _report(study: Study, subject: Subject, material: Material) -> TuneReport:
    tried = study.tried()
    best = max((one for one in tried if not one.pruned), key=lambda one: one.chosen_by)
    return TuneReport(of=subject.name, trials=tried, best=best, judged_by=material.judged_by)


def _keep(report: TuneReport, wanted: Wanted) -> None:
    best, first = report.best, report.trials[0]
    told = [
        f"Best of {len(report.trials)} trials, number {best.number}; judged by {report.judged_by}.",
        f"Average precision {best.chosen_by:.4f}; of the usual settings {first.chosen_by:.4f}.",
    ]
    if not math.isnan(best.kept_aside):
        told.append(
            f"On users who chose nothing {best.kept_aside:.4f}, and {first.kept_aside:.4f}."
        )
    new = wanted.out.with_name(f"{wanted.out.name}.new")
    try:
        wanted.out.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(settings.text(report.of, best.settings, told), "utf-8")
        os.replace(new, wanted.out)
    except OSError as error:
        raise Misconfigured(f"{wanted.out} cannot be written: {error.strerror}") from error


def _asked(
    subject: Subject, sources: Sources, options: Options, schema: Schema, start: Start | None
) -> dict[str, Any]:
    """All that the trials depend on, beside their settings."""
    found: dict[str, Any] = {
        "of": subject.name,
        "space": to_builtins(dict(subject.space)),
        "seed": options.seed,
        "schema": xxhash.xxh3_128_hexdigest(json.encode(schema)),
        "simulate": sources.simulate,
        "replicas": sources.replicas,
        "valid_use": sources.valid_use,
        "files": [content(path) for path in sources.files()],
    }
    if isinstance(subject, Training):
        free = {*subject.space, "name", "members", "prior"}
        own = {k: v for k, v in options.that_matter().items() if k not in free}
        found = own | found | {"init": start.identity if start else None}
    return found
