"""The readers of a bundle's single files, each by itself, for `scripts.fuzz`.

An input is a line with the name of a file, and its content. It is read as the loader reads it, with
the rest of a good bundle around it, up to where a network would be made: so thousands a second are
tried. What a reader raises must be what the loader turns into a refusal.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from safetensors.torch import load as load_tensors

from models import bundle as bundles
from models import manifest as manifests
from models import schema as schemas
from models import signature, tree_text
from models.encoders import NetworkConfig
from models.features import fact_names
from models.fusion import Fusion
from models.member_files import misfit
from models.network import Statistics
from stream_app.core.errors import BadBundle

BUNDLE: Final = Path(__file__).resolve().parent.parent / "models" / "pretrained" / "shop-tiny"
SCHEMA: Final = schemas.load(BUNDLE / "schema.toml")
NAMES: Final = tuple(name.replace(" ", "_") for name in fact_names(SCHEMA))
WEIGHTS: Final = (BUNDLE / "bert" / "model.safetensors").stat().st_size
REFUSALS: Final = (*bundles.UNFIT, *bundles.UNSCORABLE)  # what the loader catches of the others
WHOLE: Final = (manifests.MANIFEST, manifests.SIGNATURE)  # their readers refuse by themselves
TREE: Final = f"""feature_names={" ".join(NAMES)}
Tree=0
num_leaves=2
num_cat=0
split_feature=0
threshold=0.5
decision_type=2
left_child=-1
right_child=-2
leaf_value=0.1 -0.1
is_linear=0
shrinkage=1
"""


class Parts:
    """The readers, and a folder for them to read from."""

    def __init__(self, folder: Path) -> None:
        """`folder` is empty, and theirs."""
        self._folder = folder
        for file in bundles.FILES:
            (self._folder / file).write_bytes(b"{}")
        manifests.seal(self._folder, "small", bundles.FILES)
        self._trusted = signature.make_key(self._folder / "key.pem")
        signature.sign(self._folder, self._folder / "key.pem")

    def read(self, data: bytes) -> str:
        """What became of it. Raises whatever the loader would let through."""
        name, _, content = data.partition(b"\n")
        names = list(PARTS)
        part = name.decode(errors="replace")
        if part not in PARTS:
            part = names[zlib.crc32(name) % len(names)]
        try:
            PARTS[part](self, content)
        except BadBundle as error:
            return "refused" if str(error) else "refused without a word"
        except REFUSALS:
            if part in WHOLE:
                raise
            return "refused"
        return "read"

    def _manifest(self, content: bytes) -> None:
        path = self._folder / manifests.MANIFEST
        before = path.read_bytes()
        path.write_bytes(content)
        try:
            manifests.check(self._folder, bundles.FILES)
        finally:
            path.write_bytes(before)

    def _signature(self, content: bytes) -> None:
        path = self._folder / manifests.SIGNATURE
        before = path.read_bytes()
        path.write_bytes(content)
        try:
            signature.check(self._folder, [self._trusted])
        finally:
            path.write_bytes(before)

    def _golden(self, content: bytes) -> None:
        (self._folder / "golden.safetensors").write_bytes(content)
        golden = bundles.golden(self._folder, SCHEMA)
        golden.windows.take(np.arange(len(golden.windows)))

    def good(self) -> list[bytes]:
        """An input for each part that is read."""
        made = {
            "manifest.json": (self._folder / manifests.MANIFEST).read_bytes(),
            "signature.json": (self._folder / manifests.SIGNATURE).read_bytes(),
            "bert/model.safetensors": _few_tensors(),
            "trees/trees.txt": tree_text.slim(TREE, NAMES).encode(),
        }
        return [
            name.encode() + b"\n" + (made.get(name) or (BUNDLE / name).read_bytes())
            for name in PARTS
        ]


def _schema(_: Parts, content: bytes) -> None:
    schema = schemas.parse(content.decode("utf-8"))
    assert schemas.parse(schemas.dump(schema)) == schema
    assert schema.row.itemsize % 8 == 0
    assert bool(schema.context) == bool(schema.of_kind("context", "company"))
    assert len(schema.task_of_type) == len(schema.types) + 1


def _calibration(_: Parts, content: bytes) -> None:
    fusion = msgspec.json.decode(content, type=Fusion)
    if wrong := fusion.complaint(("bert",), len(SCHEMA.task_names)):
        raise ValueError(wrong)
    raw = np.linspace(-5, 5, 7, dtype=np.float32)
    final = fusion.final(("bert",))
    found = final.apply(raw, np.arange(7) % len(SCHEMA.task_names))
    assert found.shape == raw.shape
    assert len(final.decision.by_task) == len(SCHEMA.task_names)


def _network(_: Parts, content: bytes) -> None:
    if wrong := misfit(SCHEMA, msgspec.json.decode(content, type=NetworkConfig), WEIGHTS):
        raise ValueError(wrong)


def _trees(_: Parts, content: bytes) -> None:
    tree_text.checked(content.decode("utf-8"), NAMES)


def _tensors(_: Parts, content: bytes) -> None:
    load_tensors(content)


def _typed(kind: Any) -> Callable[[Parts, bytes], None]:
    return lambda _, content: msgspec.json.decode(content, type=kind) and None


PARTS: Final[dict[str, Callable[[Parts, bytes], None]]] = {
    "manifest.json": Parts._manifest,
    "signature.json": Parts._signature,
    "config.json": _typed(bundles.Config),
    "schema.toml": _schema,
    "calibration.json": _calibration,
    "metrics.json": _typed(dict[str, Any]),
    "golden.safetensors": Parts._golden,
    "bert/config.json": _network,
    "bert/statistics.json": _typed(Statistics),
    "bert/model.safetensors": _tensors,
    "trees/trees.txt": _trees,
}


def _few_tensors() -> bytes:
    """A small file of two tensors: the real one would make every mutation slow."""
    import torch
    from safetensors.torch import save

    return save({"a": torch.zeros(2, 3), "b": torch.ones(4, dtype=torch.int8)})
