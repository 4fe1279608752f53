"""Who is learnt from and who judges, in several draws over the same users.

A user is in one part, in every draw; so is a campaign. An attack within an honest account goes with
its campaign, but is not fitted to if that account is kept aside.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.dataset import Dataset, lot

SHARES: Final = (0.7, 0.15, 0.15)
FIT, CHOOSE, CALIBRATE, NOBODY = 0, 1, 2, -1

Parts = NDArray[np.int8]  # (events,) FIT, CHOOSE, CALIBRATE or NOBODY


def by_lot(
    data: Dataset, of_user: dict[str, int], campaigns: tuple[float, ...], seed: int
) -> Parts:
    """Users go where they are in `of_user`, or by lot; events of a campaign by the campaign's lot,
    with these shares.
    """

    def drawn(name: str, shares: tuple[float, ...]) -> int:
        return int(np.searchsorted(np.cumsum(shares[:-1]), lot(name, seed), side="right"))

    user_part = np.array([of_user.get(u, drawn(u, SHARES)) for u in data.users], np.int8)
    known = np.array([u in of_user for u in data.users], bool)
    part: Parts = user_part[data.user]
    lots: dict[str, int] = {}
    for at, campaign in enumerate(data.of("campaign")):
        if campaign:
            if campaign not in lots:
                lots[campaign] = drawn(campaign, campaigns)
            user = data.user[at]
            aside = known[user] and user_part[user] != FIT and lots[campaign] == FIT
            part[at] = NOBODY if aside else lots[campaign]
    return part
