"""`shopsentry audit`: did every record of a topic end where it should?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from stream_app.commands import settings_of
from stream_app.commands.alerts import time_ms
from stream_app.core.audit import Report, Terms
from stream_app.core.audit_scores import TOLERANCE, Offline
from stream_app.core.errors import Misconfigured
from stream_app.core.record import Record

if TYPE_CHECKING:
    from models.schema import Schema
    from stream_app.core.expected import Rules
    from stream_app.edges.auditing import Gathered
    from stream_app.settings import Settings


def audit(
    context: typer.Context,
    topic: Annotated[
        str | None, typer.Option(help="Input topic; else the first of kafka.input_topics.")
    ] = None,
    partition: Annotated[
        list[int] | None, typer.Option(help="Only this partition; may be repeated.", min=0)
    ] = None,
    from_offset: Annotated[int | None, typer.Option(min=0)] = None,
    to_offset: Annotated[int | None, typer.Option(help="Exclusive.", min=0)] = None,
    from_time: Annotated[
        str | None, typer.Option(help="Kafka time to begin at: 2026-11-23T10:00Z.")
    ] = None,
    to_time: Annotated[str | None, typer.Option(help="Kafka time to end before.")] = None,
    against: Annotated[
        Path | None, typer.Option(help="Compare with these lines of `shopsentry score`.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Compare with what this bundle says of the input now.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="By which scores may differ.", min=0.0)
    ] = TOLERANCE,
    forgotten: Annotated[
        bool, typer.Option("--forgotten", help="Redis lost its windows: repeats may be new again.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Prove from the topics alone that each committed record has exactly one outcome.

    Ends with 1 if anything differs. With kafka.delivery at-least-once, outputs that are there again
    are counted; with exactly-once they are differences. Read-only.
    """
    if against and model:
        raise Misconfigured("--against and --model are two ways to the same: choose one")
    if (against or model) and forgotten:
        raise Misconfigured("where Redis lost its windows, scores rightly differ: no comparison")
    from models.manifest import schema_of
    from stream_app.core.audit import audit as judge
    from stream_app.edges.auditing import gather
    from stream_app.edges.replaying import Range

    settings = settings_of(context).but("scorer", bundle=model)
    kafka = settings.kafka
    chosen = Range(
        topic=topic or kafka.input_topics[0],
        partitions=tuple(partition or ()),
        from_offset=from_offset,
        to_offset=to_offset,
        from_ms=time_ms(from_time) if from_time else None,
        to_ms=time_ms(to_time) if to_time else None,
    )
    schema = schema_of(settings.scorer.bundle, settings.scorer.trusted_keys)
    rules = _rules(settings, schema)
    found = gather(kafka.librdkafka(), kafka.group, chosen, kafka.outputs())
    if (against or model) and schema.counters and not found.begins:
        raise Misconfigured(
            f"the model reads counters of all that went before (schema {schema.name!r}), and older "
            "records of the topic are gone or left out: scores cannot be compared"
        )
    terms = Terms(
        exactly_once=kafka.delivery == "exactly-once",
        begins=found.begins and len(kafka.input_topics) == 1,
        forgotten=forgotten,
    )
    report = judge(found.inputs, found.outputs, rules, terms, found.ranges)
    compared = 0
    if against or model:
        lines = _lines(against) if against else _scored(settings, found.inputs)
        compared = _compare(report, found, rules, lines, tolerance)
    if as_json:
        told = {**msgspec.to_builtins(report), "ok": report.ok, "compared": compared}
        typer.echo(msgspec.json.encode(told | {"waiting": found.waiting}))
    else:
        _show(report, found.waiting, compared)
    if not report.ok:
        raise typer.Exit(1)


def _rules(settings: Settings, schema: Schema) -> Rules:
    """What is expected of a worker with this schema. Raises Misconfigured."""
    from stream_app.commands import done
    from stream_app.core.expected import Rules
    from stream_app.edges.kafka_admin import largest_record

    kafka = settings.kafka
    most = largest_record(kafka.aiokafka(), kafka.outputs().values(), kafka.max_record_bytes)
    return Rules(
        tasks=schema.tasks,
        windows=settings.window.policy(schema.window),
        most_bytes=done(most),
        pseudonyms=settings.privacy.pseudonyms(),
    )


def _lines(path: Path) -> list[Offline]:
    try:
        decoder = msgspec.json.Decoder(Offline)
        return [decoder.decode(line) for line in path.read_bytes().splitlines() if line.strip()]
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path} is no output of `shopsentry score`: {error}") from error


def _scored(settings: Settings, inputs: Iterable[Record]) -> list[Offline]:
    import asyncio

    from stream_app.wiring import offline_scorer

    return asyncio.run(offline_scorer(settings).judge_all(inputs))


def _compare(
    report: Report, found: Gathered, rules: Rules, lines: Iterable[Offline], tolerance: float
) -> int:
    from stream_app.core.audit_scores import compare
    from stream_app.core.decode import decode

    inside = [r for r in found.inputs if r.offset in found.ranges.get(r.partition, ())]
    judged = {event.event_id for event in decode(inside, rules.tasks).events if event.event_id}
    return compare(report, found.outputs, rules.tasks, lines, judged, tolerance)


def _show(report: Report, waiting: int, compared: int) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    outcomes = ", ".join(f"{count:,} {kind}" for kind, count in sorted(report.outcomes.items()))
    console.print(f"{report.records:,} records: {outcomes or 'no outcome'}", highlight=False)
    notes = {
        "not committed yet, not judged": waiting,
        "outputs there again": report.repeats.total(),
        "decided anew after Redis lost windows": report.forgotten,
        "without output, perhaps repeats of records that are gone": report.unproven,
        "compared with offline scores": compared,
    }
    for what, count in notes.items():
        if count:
            console.print(f"  {count:,} {what}", highlight=False)
    if report.ok:
        console.print("nothing differs")
        return
    table = Table("what", "where", "how")
    for one in report.differences[:50]:
        table.add_row(one.kind, one.place, one.detail)
    console.print(table)
    console.print(", ".join(f"{count:,} {kind}" for kind, count in report.kinds.items()))
