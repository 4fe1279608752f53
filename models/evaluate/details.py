"""What is told of one detector beside its ranking measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.evaluate.panel import Sides
from models.evaluate.truth import Truth


def details_of(given: Any, truth: Truth, sides: Sequence[Sides]) -> dict[str, Any]:
    return {}
