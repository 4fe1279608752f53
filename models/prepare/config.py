"""What to prepare, and how."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from models.prepare.checks import Actions, actions
from stream_app.core.errors import Misconfigured
from stream_app.core.layout import KNOWN, LAYOUTS, REQUIRED, Format, Layout, Order, format_of

LABELS: Final = ("label", "attack", "difficulty", "campaign", "look_alike")


class PrepareConfig(Struct, frozen=True, kw_only=True):
    """Shares are of events, by time; the rest trains. Times are epoch ms."""

    data: tuple[Path, ...]
    out: Path
    labels: tuple[Path, ...] = ()
    form: Format | None = None  # None: by each file's name
    columns: Mapping[str, str] = {}  # field -> column, over the format's own
    types: Mapping[str, str] = {}  # the files' word for a type -> the schema's
    schema: str = "shop"
    order: Order = Order.AUTO
    valid: float = 0.2
    test: float = 0.2
    held_out: float = 0.1  # share of users that train and valid never see
    seed: int = 0
    drop: tuple[str, ...] = ()
    flag: tuple[str, ...] = ()
    min_events: int = 3  # of a user
    burst: int = 5  # events of a user within a second
    regular: int = 10  # equal pauses in a row
    earliest_ms: int | None = None  # None: found from the times themselves
    latest_ms: int | None = None
    force: bool = False  # write over what an earlier run wrote

    def check(self) -> None:
        """Raises Misconfigured."""
        for path in (*self.data, *self.labels):
            if not path.is_file():
                raise Misconfigured(f"there is no file {path}")
        for field in self.columns:
            if field not in (*KNOWN, *LABELS) and not field.startswith("attributes."):
                known = ", ".join((*KNOWN, *LABELS))
                raise Misconfigured(
                    f"events have no field {field}; there are {known}, attributes.*"
                )
        if not 0 <= self.valid + self.test < 1 or min(self.valid, self.test) < 0:
            raise Misconfigured("--valid and --test are shares; something must be left to train")
        if not 0 <= self.held_out < 1:
            raise Misconfigured("--held-out is a share of the users, at least 0 and below 1")
        if self.out.exists() and not self.force:
            raise Misconfigured(f"{self.out} is there already; name another, or say --force")
        if self.out.exists() and any(self.out.iterdir()) and not (self.out / "card.json").exists():
            raise Misconfigured(f"{self.out} was not written by prepare; name another folder")
        _ = self.actions

    @property
    def actions(self) -> Actions:
        return actions(self.drop, self.flag)

    def format_of(self, path: Path) -> Format:
        return self.form or format_of(path)

    def layout_of(self, path: Path, columns: tuple[str, ...] | None) -> Layout:
        """Which column is which field; `columns` are the file's, or None if it has no table.

        Raises Misconfigured: a field has no column, or a column is not there.
        """
        form = self.format_of(path)
        own = LAYOUTS.get(form)
        if own is None:
            known = (*KNOWN, *LABELS, "attributes")
            found = (f for f in known if columns is None or f in columns)
            of_attributes = (c for c in columns or () if c.startswith("attributes."))
            own = Layout(fields={f: f for f in (*found, *of_attributes)})
        fields = {**own.fields, **self.columns}
        if columns is not None:
            for field in REQUIRED:
                if field not in fields and not (field == "type" and own.only_type):
                    raise Misconfigured(
                        f"which column of {path.name} is {field}? Say --columns {field}=COLUMN; "
                        f"there are {', '.join(columns)}"
                    )
            for column in fields.values():
                if column not in columns:
                    raise Misconfigured(
                        f"{path.name} has no column {column}; there are {', '.join(columns)}"
                    )
        types = {**(own.types or {}), **self.types} or None
        return Layout(
            fields=fields,
            types=types,
            columns=own.columns,
            only_type=own.only_type,
            in_order=own.in_order,
        )
