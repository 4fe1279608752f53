"""The text of boosted trees: LightGBM's own format, cut down to what scoring reads.

LightGBM's parser trusts what it is given, and a text that was tampered with can end the process. So
a text is only handed to it if it is, letter by letter, what we would write for the trees in it, and
each of these is a tree.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

Tree = Mapping[str, str]  # key -> values with spaces between, as in the text

_MOST_LEAVES: Final = 4096
_KEYS: Final = (
    "num_leaves",
    "num_cat",
    "split_feature",
    "threshold",
    "decision_type",
    "left_child",
    "right_child",
    "leaf_value",
    "is_linear",
    "shrinkage",
)
_FORKS: Final = frozenset(_KEYS[2:7])  # what a tree without a fork has not
_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")
_WHOLE: Final = re.compile(r"-?\d{1,9}")


def slim(text: str, names: Sequence[str]) -> str:
    """What LightGBM wrote, cut down. Raises ValueError if it cannot be."""
    return checked(_written(_trees(text), names), names)


def checked(text: str, names: Sequence[str]) -> str:
    """The text, if it is one of ours. Raises ValueError: what is wrong."""
    trees = _trees(text)
    if not trees:
        raise ValueError("there is no tree in the text")
    for number, tree in enumerate(trees):
        if wrong := _complaint(tree, len(names)):
            raise ValueError(f"tree {number} is none: {wrong}")
    if _named(text) != list(names):
        raise ValueError("its trees were fitted to other facts")
    if _written(trees, names) != text:
        raise ValueError("it has something else among its trees")
    return text


def _trees(text: str) -> Sequence[Tree]:
    found: list[dict[str, str]] = []
    for line in text.partition("\nend of trees")[0].split("\n"):
        key, _, value = line.partition("=")
        if key == "Tree":
            found.append({})
        elif found and key in _KEYS and value:
            found[-1][key] = value
    return found


def _named(text: str) -> list[str]:
    line = re.search(r"^feature_names=(.*)$", text, re.MULTILINE)
    return line[1].split(" ") if line else []


def _written(trees: Sequence[Tree], names: Sequence[str]) -> str:
    blocks = []
    for number, tree in enumerate(trees):
        lines = [f"Tree={number}", *(f"{key}={tree[key]}" for key in _KEYS if key in tree)]
        blocks.append("\n".join(lines) + "\n\n\n")
    header = [
        "tree",
        "version=v4",
        "num_class=1",
        "num_tree_per_iteration=1",
        "label_index=0",
        f"max_feature_idx={len(names) - 1}",
        "objective=binary sigmoid:1",
        "feature_names=" + " ".join(names),
        "feature_infos=" + " ".join("none" for _ in names),
        "tree_sizes=" + " ".join(str(len(block.encode())) for block in blocks),
    ]
    return "\n".join(header) + "\n\n" + "".join(blocks) + "end of trees\n"


def _complaint(tree: Tree, features: int) -> str | None:
    if not _WHOLE.fullmatch(tree.get("num_leaves", "")):
        return "it has no number of leaves"
    leaves = int(tree["num_leaves"])
    if not 1 <= leaves <= _MOST_LEAVES or tree.get("num_cat") != "0":
        return "it has too many leaves, or categories"
    needed = set(_KEYS) - (_FORKS if leaves == 1 else frozenset())
    if not needed <= set(tree) or tree["is_linear"] != "0":
        return "something of it is missing"
    if leaves == 1:
        return None if _finite(tree["leaf_value"], 1) else "its leaf has no value"
    forks = leaves - 1
    # A threshold of infinity parts what is missing from what is there.
    thresholds = re.sub(r"(^| )-?inf(?= |$)", r"\g<1>0", tree["threshold"])
    if not (_finite(tree["leaf_value"], leaves) and _finite(thresholds, forks)):
        return "its values are not as many numbers as it has leaves and forks"
    if not _finite(tree["shrinkage"], 1):
        return "it has no shrinkage"
    whole = {key: _whole(tree[key]) for key in _FORKS - {"threshold"}}
    if any(len(values) != forks for values in whole.values()):
        return "it has not as many of everything as it has forks"
    if not all(0 <= at < features for at in whole["split_feature"]):
        return "it asks for a fact that there is not"
    if not all(kind in (0, 2, 4, 6, 8, 10) for kind in whole["decision_type"]):
        return "it decides by something else than an amount"
    if any(0 <= c <= at for s in ("left", "right") for at, c in enumerate(whole[f"{s}_child"])):
        return "it runs in a circle"
    children = sorted(whole["left_child"] + whole["right_child"])
    if children != [*range(-leaves, 0), *range(1, forks)]:
        return "a fork or a leaf of it is not in one place"
    return None


def _finite(text: str, count: int) -> bool:
    values = text.split(" ")
    numbers = all(_NUMBER.fullmatch(v) and math.isfinite(float(v)) for v in values)
    return numbers and len(values) == count


def _whole(text: str) -> list[int]:
    values = text.split(" ")
    return [int(v) for v in values] if all(map(_WHOLE.fullmatch, values)) else []
