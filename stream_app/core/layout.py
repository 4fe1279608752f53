"""Which column of a file is which field of the contract; the layouts of public files.

Facts alone: `edges.feeds` reads files row by row with them, `models.prepare` in columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

from msgspec import Struct

from stream_app.core.errors import Misconfigured

MILLISECONDS_FROM: Final = 100_000_000_000  # a larger epoch counts ms: in s it is the year 5138
REQUIRED: Final = ("user_id", "type", "event_time")
TEXTS: Final = ("event_id", "item_id", "category_id", "session_id", "query")
NUMBERS: Final = {"position": int, "price": float, "quantity": int}
KNOWN: Final = (*REQUIRED, *TEXTS, *NUMBERS)


class Format(StrEnum):
    """What a file looks like."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    TAOBAO = "taobao"
    REES46 = "rees46"
    WIKIPEDIA = "wikipedia"


class Order(StrEnum):
    """In which order a file's events go on."""

    AUTO = "auto"  # as they lie, unless that is no order of time
    TIME = "time"
    FILE = "file"


class Layout(Struct, frozen=True, kw_only=True):
    """Which column is which field of the contract."""

    fields: Mapping[
        str, str
    ]  # field -> column; attributes.<name> for further ones, label for truth
    types: Mapping[str, str] | None = None  # the file's word for a type -> the contract's
    columns: Sequence[str] | None = None  # of a CSV file without a header
    only_type: str | None = None  # of every row, where no column tells it
    in_order: bool = True  # rows lie in the order in which they happened


TAOBAO: Final = Layout(
    columns=("user", "item", "category", "behaviour", "seconds"),
    fields={
        "user_id": "user",
        "type": "behaviour",
        "event_time": "seconds",
        "item_id": "item",
        "category_id": "category",
    },
    types={"pv": "browse", "cart": "cart", "fav": "favourite", "buy": "purchase"},
    in_order=False,
)
REES46: Final = Layout(
    fields={
        "user_id": "user_id",
        "type": "event_type",
        "event_time": "event_time",
        "item_id": "product_id",
        "category_id": "category_id",
        "session_id": "user_session",
        "price": "price",
        "attributes.brand": "brand",
        "attributes.category_code": "category_code",
    },
    types={"view": "browse", "cart": "cart", "purchase": "purchase"},
)
WIKIPEDIA: Final = Layout(  # its times count from the start of its month
    fields={"user_id": "u", "item_id": "i", "event_time": "ts", "label": "label"},
    only_type="edit",
)
LAYOUTS: Final = {Format.TAOBAO: TAOBAO, Format.REES46: REES46, Format.WIKIPEDIA: WIKIPEDIA}


def format_of(path: Path) -> Format:
    """By the file's name. Raises Misconfigured."""
    by_ending = {
        ".jsonl": Format.JSONL,
        ".ndjson": Format.JSONL,
        ".csv": Format.CSV,
        ".parquet": Format.PARQUET,
    }
    if path.suffix not in by_ending:
        raise Misconfigured(
            f"cannot tell the format of {path.name}; give --format ({', '.join(Format)})"
        )
    return by_ending[path.suffix]


def lies_sorted(form: Format) -> bool:
    """Whether files of this format have their rows in the order in which they happened."""
    return form not in LAYOUTS or LAYOUTS[form].in_order
