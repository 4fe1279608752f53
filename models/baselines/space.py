"""What may be tuned of each baseline; usual is what its constructor has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from models.tune.space import TRAINING, Range, Space

_GROWTH: Final = {
    "rate": Range(0.02, 0.1, 0.05, log=True),
    "leaves": Range(6, 40, 15, log=True, whole=True),
    "least": Range(20, 300, 60, log=True, whole=True),
    "columns": Range(0.1, 0.8, 0.4),
    "l2": Range(1, 100, 10, log=True),
}
_LOOKS: Final = {"looks": Range(1, 3, 3, whole=True)}

SPACES: Final[Mapping[str, Space]] = {
    "velocity": {"quantile": Range(0.98, 0.9999, 0.999)},
    "isolation-forest": {
        "trees": Range(100, 500, 300, whole=True),
        "events": Range(128, 4096, 512, True, True),
    },
    "ecod": {},
    "hbos": {"bins": Range(8, 60, 20, whole=True)},
    "knn": {"nearest": Range(3, 60, 10, True, True), "parts": Range(8, 60, 20, whole=True)},
    "mean-shift": {
        "quantile": Range(0.01, 0.2, 0.02, True),
        "parts": Range(4, 15, 10, whole=True),
    },
    "pca": {"parts": Range(8, 80, 40, whole=True)},
    "boosted-own": _GROWTH,
    "boosted": _GROWTH,
    "stack": {**_GROWTH, **_LOOKS},
    "stack-encoder": {**_GROWTH, **_LOOKS},
    "surprise": {},
    "gru": {**TRAINING, "epochs": Range(3, 12, 8, whole=True)},
    "random-encoder": {},
}
