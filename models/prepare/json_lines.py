"""Lines of JSON -> columns of text, thousands at once; one by one where one of them is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import polars as pl

_TEXT: Final = r'"(?:[^"\\]|\\.)*"'
_VALUE: Final = rf"(?:{_TEXT}|-?[0-9.eE+-]+|null)"
_PAIR: Final = rf"{_TEXT}\s*:\s*{_VALUE}\s*"
FLAT: Final = rf"\{{\s*(?:{_PAIR}(?:,\s*{_PAIR})*)?\}}"  # an object of texts, numbers and nulls
_ATTRIBUTES: Final = rf'"attributes"\s*:\s*({FLAT})'
_SOME: Final = r'"attributes"\s*:\s*[^\sn]'
_MANY: Final = r"\}\s*,\s*\{"
_line = msgspec.json.Decoder(dict[str, msgspec.Raw])
_BROKEN: Final = "broken"
NO_ATTRIBUTES: Final = "[]"  # in place of what is no flat object


def decoded(lines: pl.Series, columns: Mapping[str, str]) -> pl.DataFrame:
    """`broken` (bool), and a text for each field of `columns` (field -> key); null: not there.

    `attributes` stays the text of a flat object, or is `[]` if it is anything else. The event may
    be in the `data` of a CloudEvents envelope. A null line is a broken one.
    """
    keys = {field: key for field, key in columns.items() if field != "attributes"}
    plain = dict.fromkeys(keys.values(), pl.String())
    kind = {**plain, "data": pl.Struct(plain)}
    try:
        # polars joins the lines with commas: it must not take one for two, nor two for one.
        if lines.null_count() or lines.str.contains(_MANY).any():
            raise pl.exceptions.ComputeError("one by one")
        found = lines.str.json_decode(pl.Struct(kind))
        if len(found) != len(lines):
            raise pl.exceptions.ComputeError("one by one")
        frame = found.struct.unnest().with_columns(found.is_null().alias(_BROKEN))
    except (pl.exceptions.ComputeError, pl.exceptions.InvalidOperationError):
        frame = pl.DataFrame([_one(line, plain) for line in lines], schema={_BROKEN: bool, **kind})
    wrapped = pl.col(keys["user_id"]).is_null() & pl.col("data").is_not_null()
    within = {f: pl.col("data").struct.field(key) for f, key in keys.items()}
    shown = frame.select(
        _BROKEN,
        *(pl.when(wrapped).then(within[f]).otherwise(pl.col(k)).alias(f) for f, k in keys.items()),
    )
    flat = lines.str.extract(_ATTRIBUTES).alias("attributes")
    odd = flat.is_null() & lines.str.contains(_SOME)
    return shown.with_columns(
        pl.when(odd).then(pl.lit(NO_ATTRIBUTES)).otherwise(flat).alias("attributes")
    )


def _one(line: str | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    if line is None:
        return {_BROKEN: True}
    try:
        told = _line.decode(line)
        row: dict[str, Any] = _texts(told, fields)
        if "data" in told and bytes(told["data"])[:1] == b"{":
            row["data"] = _texts(_line.decode(told["data"]), fields)
    except (msgspec.MsgspecError, RecursionError):
        return {_BROKEN: True}
    return {_BROKEN: False, **row}


def _texts(told: Mapping[str, msgspec.Raw], fields: Mapping[str, Any]) -> dict[str, str | None]:
    """Raises msgspec.ValidationError if one of the fields is a list or an object."""
    return {name: _text(bytes(told[name])) for name in fields if name in told}


def _text(raw: bytes) -> str | None:
    if raw[:1] == b'"':
        return msgspec.json.decode(raw, type=str)
    if raw[:1] in b"[{":
        raise msgspec.ValidationError("a list or an object instead of a value")
    return None if raw == b"null" else raw.decode()
