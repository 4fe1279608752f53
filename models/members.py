"""Who scores in a bundle: encoders, and trees beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from models.network import Network
from models.schema import Schema
from models.second_look import SecondLook
from models.trees import Trees
from stream_app.core.errors import Misconfigured

AT_MOST: Final = 6  # each set of members has a calibration of its own
LEAD: Final = "bert"  # what the first encoder is called, unless somebody says otherwise
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,30}")


class Members(Struct, frozen=True):
    """By name, in order. The first encoder leads: it always runs, for surprise and reasons are its
    own. So does one that a second look hears.
    """

    encoders: Mapping[str, Network]
    trees: Mapping[str, Trees | SecondLook] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.encoders, *self.trees)

    @property
    def lead(self) -> Network:
        return next(iter(self.encoders.values()))

    @property
    def schema(self) -> Schema:
        return self.lead.schema

    def looks(self, names: Sequence[str]) -> dict[str, SecondLook]:
        """Those of `names` that are a second look."""
        return {k: v for k, v in self.trees.items() if k in names and isinstance(v, SecondLook)}

    def only(self, names: Sequence[str]) -> Members:
        """Those of `names`, and the encoders that they need. Raises Misconfigured for a name that
        none has.
        """
        self.check(names)
        needed = {next(iter(self.encoders)), *names}
        needed |= {look.source for look in self.looks(names).values()}
        kept = {k: v for k, v in self.encoders.items() if k in needed}
        return Members(kept, {k: v for k, v in self.trees.items() if k in names})

    def check(self, names: Sequence[str]) -> None:
        """Raises Misconfigured unless each of `names` is a member, and there is one."""
        unknown = [name for name in names if name not in self.names]
        if unknown or not names:
            asked = repr(unknown[0]) if unknown else "none"
            raise Misconfigured(
                f"the bundle has the members {', '.join(self.names)}; {asked} was asked for"
            )


def complaint(members: Members) -> str | None:
    """What is wrong with these members as those of one bundle."""
    names = members.names
    if not members.encoders:
        return "there is no encoder among its members"
    if len(set(names)) < len(names) or len(names) > AT_MOST:
        return f"it needs 1 to {AT_MOST} members with different names"
    if not all(map(_NAME.fullmatch, names)):
        return f"a member's name is no lower-case word: {', '.join(names)}"
    for name, look in members.looks(names).items():
        source = members.encoders.get(look.source)
        if source is None or source.config.attention != "causal":
            return f"{name} needs the word of a causal encoder among the members"
    return None
