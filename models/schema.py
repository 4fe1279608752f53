"""What a model reads of an event: fields, their kinds, and the task of each event type.

A schema is a TOML file, stored with every bundle. It says how a row looks after `window.HEAD`; it
knows nothing of how rows are made (`encoding`) or read (`features`).
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np
from msgspec import Struct, field

from stream_app.core.context import COMPANY, MARKS, NEW, Asked, ContextPlan, What
from stream_app.core.crowd import KEPT
from stream_app.core.errors import Misconfigured
from stream_app.core.event import Tasks
from stream_app.core.window import HEAD, WindowPolicy

Kind = Literal["category", "amount", "ordinal", "context", "company"]

TEXTS: Final = (
    "item_id",
    "category_id",
    "session_id",
    "query",
)  # an event's own, by what they hold
NUMBERS: Final = ("price", "position", "quantity")
ATTRIBUTES: Final = "attributes."
CONTEXT: Final = "context."
COUNTED: Final = "#"  # before the number of a counter: no field is called so
MISSING_ORDINAL: Final = 255
LARGEST_ORDINAL: Final = 254
_LONGEST_S: Final = 10 * 365 * 24 * 3600
_FOLDER: Final = Path(__file__).parent / "schemas"


class Field(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing that is known of an event.

    category: a name of something, kept as a hash of `bits` bits; 0 if missing
    amount:   a number of any size, kept as float16 of sign(x) log(1 + |x|); NaN if missing
    ordinal:  a small count or rank from 0, kept as uint8 up to 254; 255 if missing
    context:  what the site saw of one of the categories before: a code in a uint8, 255 if missing
    company:  16 bits of one of the users seen there, 0 if missing

    The source of the last two is `context.<category>.<what>`, `<what>` being `since1` to `since16`,
    `users`, `new`, `did.<type>` (context), `user1` to `user4` (company): see core.context.
    """

    name: str
    kind: Kind
    source: str  # an event's own field, or `attributes.<name>`
    bits: Literal[16, 32] = 32
    by: str | None = None  # amount: a category within which amounts are alike
    label: str | None = None  # for people

    @property
    def title(self) -> str:
        return self.label or self.name


class Schema(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fields in the order of the row, event types in the order of their numbers (from 1)."""

    name: str
    task_names: tuple[str, ...] = field(name="tasks")
    types: dict[str, str]  # event type -> task
    fields: tuple[Field, ...]
    span_s: int | None = None  # of event time that a window spans; else as usual
    # Rows also have the causal counters of `models.counters`. A worker needs all events for them.
    counters: bool = False

    @property
    def counter_names(self) -> tuple[str, ...]:
        """Those that a row has, in their order."""
        if not self.counters:
            return ()
        from models.counters.counting import names_for  # it reads schemas itself

        return names_for(self)

    @property
    def window(self) -> WindowPolicy:
        """How much of a user's past a model of this schema learns from, and is asked with."""
        if self.span_s is None:
            return WindowPolicy()
        return WindowPolicy(span_ms=self.span_s * 1000)

    @property
    def tasks(self) -> Tasks:
        return Tasks(self.task_names, {t: self.task_names.index(k) for t, k in self.types.items()})

    @property
    def type_names(self) -> tuple[str, ...]:
        return tuple(self.types)

    @property
    def task_of_type(self) -> tuple[int, ...]:
        """Task index by the number of a type; number 0, no type, counts as the first task."""
        return (0, *(self.task_names.index(task) for task in self.types.values()))

    @property
    def context(self) -> ContextPlan:
        """What the context stage is asked for; false if nothing."""
        asked: list[Asked] = []
        fields = self.of_kind("context", "company")
        told = {f.name: _told(f.source) for f in fields}
        things = tuple(dict.fromkeys(t.thing for t in told.values() if t))
        done = tuple(dict.fromkeys(t.type for t in told.values() if t and t.type))
        for f in fields:
            t = told[f.name]
            if t is not None:
                place = done.index(t.type) + NEW + 1 if t.type else t.place
                asked.append(Asked(f.name, things.index(t.thing), t.what, place))
        types = tuple(self.type_names.index(kind) + 1 for kind in done)
        return ContextPlan(things, types, tuple(asked))

    def of_kind(self, *kinds: Kind) -> tuple[Field, ...]:
        return tuple(f for f in self.fields if f.kind in kinds)

    @property
    def row(self) -> np.dtype[np.void]:
        """`window.HEAD`, the fields, the type's number, and bytes to fill up to a multiple of 8."""
        forms = {"amount": "<f2", "ordinal": "u1", "context": "u1", "company": "<u2"}
        columns: list[tuple[str, str]] = [*HEAD]
        columns += [(f.name, forms.get(f.kind, f"<u{f.bits // 8}")) for f in self.fields]
        columns += [(f"{COUNTED}{at}", "<f2") for at in range(len(self.counter_names))]
        columns.append(("type", "u1"))
        spare = -np.dtype(columns).itemsize % 8
        return np.dtype([*columns, ("spare", f"V{spare}")] if spare else columns)


def parse(text: str, origin: str = "the schema") -> Schema:
    """Raises Misconfigured, saying what is wrong with `origin`."""
    try:
        schema = msgspec.convert(tomllib.loads(text), Schema)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise Misconfigured(f"{origin} is no schema: {error}") from error
    for complaint in _complaints(schema):
        raise Misconfigured(f"{origin} is no schema: {complaint}")
    return schema


def load(name_or_path: str | Path) -> Schema:
    """A shipped schema by name, or one from a file. Raises Misconfigured."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = _FOLDER / f"{name_or_path}.toml"
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        shipped = ", ".join(sorted(p.stem for p in _FOLDER.glob("*.toml")))
        raise Misconfigured(
            f"there is no schema {str(name_or_path)!r}: name one of {shipped}, or a .toml file"
        ) from error
    return parse(text, str(name_or_path))


def dump(schema: Schema) -> str:
    """The schema as TOML; `parse` reads it back."""

    def quoted(value: str | int) -> str:
        return msgspec.json.encode(value).decode()  # a JSON string is a TOML string

    lines = [f"name = {quoted(schema.name)}"]
    lines.append(f"tasks = [{', '.join(map(quoted, schema.task_names))}]")
    if schema.span_s is not None:
        lines.append(f"span_s = {schema.span_s}")
    if schema.counters:
        lines.append("counters = true")
    lines.append("\n[types]")
    lines += [f"{quoted(kind)} = {quoted(task)}" for kind, task in schema.types.items()]
    for f in schema.fields:
        lines.append("\n[[fields]]")
        known = msgspec.structs.asdict(f)
        lines += [f"{key} = {quoted(value)}" for key, value in known.items() if value is not None]
    return "\n".join(lines) + "\n"


def _complaints(schema: Schema) -> list[str]:
    found: list[str] = []
    if schema.span_s is not None and not 0 < schema.span_s <= _LONGEST_S:
        found.append(f"span_s must be above 0 and at most {_LONGEST_S}, ten years")
    if not 0 < len(schema.types) <= LARGEST_ORDINAL:
        found.append("it needs 1 to 254 types")
    for kind, task in schema.types.items():
        if task not in schema.task_names:
            found.append(f"type {kind!r} has the task {task!r}, which is not among the tasks")
    names = [f.name for f in schema.fields]
    reserved = {name for name, _ in HEAD} | {"type", "spare"}
    categories = {f.name for f in schema.of_kind("category")}
    for f in schema.fields:
        own = TEXTS if f.kind == "category" else NUMBERS
        seen = _told(f.source) if f.kind in ("context", "company") else None
        if names.count(f.name) > 1 or f.name in reserved or not f.name.isidentifier():
            found.append(f"field {f.name!r} needs another name")
        elif f.kind in ("context", "company"):
            if seen is None or (seen.what == "user") != (f.kind == "company"):
                found.append(f"field {f.name!r} has the source {f.source!r}: no {f.kind} is that")
            elif seen.thing not in categories:
                found.append(f"field {f.name!r} tells of {seen.thing!r}, which is no category")
            elif seen.type and seen.type not in schema.types:
                found.append(f"field {f.name!r} tells of the type {seen.type!r}, which is none")
        elif f.source not in own and not f.source.startswith(ATTRIBUTES):
            allowed = ", ".join(own)
            found.append(
                f"field {f.name!r} has the source {f.source!r}, not {allowed} or attributes.*"
            )
        elif f.by is not None and f.by not in categories:
            found.append(f"field {f.name!r} is set against {f.by!r}, which is no category")
    if not found and len(schema.context.types) >= MARKS:
        found.append(f"context can tell of {MARKS - 1} event types at most")
    return found


class _Told(Struct, frozen=True):
    """A source that begins with `context.`, taken apart."""

    thing: str
    what: What
    place: int
    type: str = ""  # of the events that a share is of


def _told(source: str) -> _Told | None:
    if not source.startswith(CONTEXT):
        return None
    thing, _, what = source.removeprefix(CONTEXT).partition(".")
    number = re.fullmatch(r"(since|user)([1-9]\d?)", what)
    if number is not None and number[1] == "since":
        return _Told(thing, "since", int(number[2])) if int(number[2]) <= KEPT else None
    if number is not None:
        return _Told(thing, "user", int(number[2])) if int(number[2]) <= COMPANY else None
    if what.startswith("did."):
        return _Told(thing, "share", 0, what.removeprefix("did."))
    shares: dict[str, What] = {"users": "users", "new": "share"}
    return _Told(thing, shares[what], NEW) if what in shares else None
