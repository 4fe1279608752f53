"""What every section of the settings is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_settings import NoDecode

HERE: Final = Path(__file__).resolve().parents[2]  # `models` lies beside `stream_app`
MASK: Final = "********"

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


def _split(value: object) -> object:
    """`a, b` -> [a, b]: how a list is written in an environment variable."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


AnyNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), Field(min_length=1)]


class Section(BaseModel):
    """A few settings that one part needs. Never changes once loaded."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False
    )


def shown(secret: SecretStr | None) -> str | None:
    """The secret itself, for whoever needs it."""
    return secret.get_secret_value() if secret is not None else None
