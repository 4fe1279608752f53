"""Boosted trees on what is known of a window's newest event: a member beside the encoders.

LightGBM. A model is its text (`tree_text`): numbers and names, checked and then read by LightGBM's
own parser; nothing is unpickled. Knows facts as a table alone; `features.facts` makes them, in
training as in the stream.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models import tree_text
from stream_app.core.score import Floats

Table = NDArray[np.float32]  # (events, facts); NaN where there is none
Flags = NDArray[np.bool_]

ROUNDS: Final = 700  # trees at most
_PATIENCE: Final = 60  # rounds without a better average precision
_FEW: Final = 50  # anomalies: the average precision of fewer says more of chance than of trees
_BLIND: Final = 150  # rounds where there is nothing to choose by
_RECIPE: Final = {
    "objective": "binary",
    "metric": "average_precision",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 60,
    "feature_fraction": 0.4,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 10.0,
    "deterministic": True,
    "force_row_wise": True,  # or two runs might differ by what was faster
    "verbosity": -1,
}


class Trees:
    """Boosted trees, fitted. `text` is all of them."""

    def __init__(self, text: str, names: Sequence[str]) -> None:
        """`names` of the facts it will get. Raises ValueError if the text is of others, or none."""
        import lightgbm

        self.text = tree_text.checked(text, _written(names))
        try:
            self._booster = lightgbm.Booster(model_str=text)
        except lightgbm.basic.LightGBMError as error:
            raise ValueError(f"no trees: {error}") from error

    @property
    def count(self) -> int:
        return int(self._booster.num_trees())

    def raw(self, facts: Table, threads: int = 1) -> Floats:
        """(events,) log-odds."""
        if not len(facts):
            return np.zeros(0, np.float32)
        table = np.ascontiguousarray(facts, np.float32)
        found = self._booster.predict(table, raw_score=True, num_threads=threads)
        return np.asarray(found, np.float32)


def fit(
    facts: Table,
    anomalous: Flags,
    chosen: Table,
    chosen_anomalous: Flags,
    names: Sequence[str],
    seed: int = 0,
    threads: int = 1,
    growth: Mapping[str, float] | None = None,
    weight: Floats | None = None,
) -> Trees:
    """Trees fitted to `facts`; how many, by the average precision on `chosen`. Deterministic.

    Where `chosen` has few anomalies it chooses nothing. `growth`: parameters of LightGBM in place
    of the recipe's; `weight`: of each event in the loss.
    Raises ValueError without anomalies, or without normal events, to fit to.
    """
    import lightgbm

    if not 0 < int(anomalous.sum()) < len(anomalous):
        raise ValueError("trees need anomalies and normal events")
    recipe: dict[str, Any] = {**_RECIPE, **(growth or {}), "seed": seed, "num_threads": threads}
    shared = {"feature_name": _written(names), "params": recipe, "free_raw_data": True}
    data = lightgbm.Dataset(facts, anomalous.astype(np.int8), weight=weight, **shared)
    if int(chosen_anomalous.sum()) >= _FEW:
        held = lightgbm.Dataset(chosen, chosen_anomalous.astype(np.int8), reference=data)
        stop = lightgbm.early_stopping(_PATIENCE, verbose=False)
        booster = lightgbm.train(recipe, data, ROUNDS, valid_sets=[held], callbacks=[stop])
    else:
        booster = lightgbm.train(recipe, data, _BLIND)
    best = booster.best_iteration
    text = booster.model_to_string(num_iteration=best if best > 0 else None)
    return Trees(tree_text.slim(text, _written(names)), names)


def _written(names: Sequence[str]) -> list[str]:
    """Names as LightGBM keeps them: it takes neither spaces nor two alike."""
    return [f"{at}_" + re.sub(r"[^A-Za-z0-9]+", "_", name) for at, name in enumerate(names)]
