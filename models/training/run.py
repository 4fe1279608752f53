"""`train`: files in, a bundle out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from msgspec import Struct, structs

from models import bundle as bundles
from models import schema as schemas
from models.schema import Schema
from models.training.finish import calibrated, write
from models.training.material import Material, Sources, gather_material
from models.training.members import Plan, fit_members
from models.training.options import Options
from models.training.processes import Processes
from models.training.recipe import Progress
from models.training.session import Session
from models.training.warm_start import Start, load_start
from models.training.watch import Watch
from stream_app.core.errors import Misconfigured


class TrainReport(Struct, frozen=True, kw_only=True):
    version: str
    folder: Path
    seconds: float
    epochs: int  # of the leading encoder, with labels
    metrics: dict[str, Any]


def train(
    sources: Sources,
    out: Path,
    options: Options | None = None,
    progress: Progress = lambda _: None,
    *,
    bar: bool = False,
) -> TrainReport:
    """Read event files in order of arrival, train, and write the bundle `out`.

    Goes on where it was broken off, if `out` tells of that and the same is asked. Deterministic on
    a CPU, unless the time limit cuts it short. Raises Misconfigured.
    """
    began = time.monotonic()
    options = options or Options()
    options.check()
    sources.check()
    if options.threads:
        torch.set_num_threads(options.threads)
    processes = Processes(bundles.pick_device(options.device))
    schema = schemas.load(options.schema)
    policy = schema.window
    start = None
    if options.init is not None:
        start = load_start(options.init, schema, options.leader, options.attention, policy.size)
    plan_of(options, schema, start, policy.size, 0).check()

    session = Session(out)
    watch = Watch()
    if processes.first:
        _begin(session, sources, options, start)
        watch = Watch(progress, options.log_dir, bar)
    try:
        material = gather(sources, options, schema, processes, watch)
        plan = plan_of(options, schema, start, policy.size, len(material.fit_on))
        plan = structs.replace(plan, work=session.folder)
        members, epochs = fit_members(plan, material, processes, watch)
        watch.say("calibrating")
        prior = material.prior if options.prior is None else options.prior
        on, threads = processes.device, options.threads
        data, held_out = material.data, material.calibrate_on
        fusion, metrics = calibrated(members, data, held_out, prior, on, threads)
        metrics |= {"judged_by": material.judged_by, "prior": prior}
        size = (
            options.preset if start is None else f"{plan.config.encoder}-{plan.config.size.hidden}"
        )
        name = options.name or f"{schema.name}-{size}"
        version = ""
        if processes.first:
            version = write(out, name, members, fusion, metrics, data, held_out)
            session.end()
        processes.wait()
    finally:
        watch.close()
    seconds = time.monotonic() - began
    watch.say(f"wrote {version} after {seconds:.0f} s")
    return TrainReport(version=version, folder=out, seconds=seconds, epochs=epochs, metrics=metrics)


def gather(
    sources: Sources, options: Options, schema: Schema, processes: Processes, watch: Watch
) -> Material:
    """What there is to learn from. Raises Misconfigured if it is too little."""
    if sources.replicas is None:
        sources = structs.replace(sources, replicas=4 if processes.on_cpu else 8)
    material = gather_material(sources, schema, schema.window, options.seed, watch)
    if not (len(material.fit_on) and len(material.choose_on) and len(material.calibrate_on)):
        raise Misconfigured("there are too few users to keep some aside: train on more events")
    return material


def plan_of(
    options: Options, schema: Schema, start: Start | None, window: int, events: int
) -> Plan:
    """For so many events to fit to."""
    config = options.config(window, None if start is None else start.config)
    recipe = options.recipe(events, config.size.hidden, warm=start is not None)
    return Plan(
        names=options.members or (config.encoder,),
        schema=schema,
        config=config,
        recipe=recipe,
        start=start,
        threads=max(options.threads, 1),
    )


def _begin(session: Session, sources: Sources, options: Options, start: Start | None) -> None:
    asked = {
        **options.that_matter(),
        "init": start.identity if start is not None else None,
        "valid_use": sources.valid_use,
        "simulate": sources.simulate,
        "replicas": sources.replicas,
        "crowds": sources.crowds,
    }
    session.begin(asked, sources.files(), options.fresh)
