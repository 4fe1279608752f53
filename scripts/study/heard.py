"""The stack once more, told what encoders say: does what only they see come on top?

    .venv/bin/python -m scripts.study.heard --work data/taobao [--folds all,2] [--seed 0]

Over folds that `taobao.py` has filled. A BERT and a GRU are fitted three times each: to all users,
and to either half of them. Of users that learn, the stack reads what the half says that did not
learn from them; of all later events, what the whole says: the event's own score and those of the
user's earlier events in the window, as a second look reads them. Leaves beside the others, for
`taobao.py` to report (with `--entrants` and `--baselines` of what is there):

    heard                 the stack, with ten columns more
    recipe and stack      the mean of what is there of these two, and
    heard and stack       likewise
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import torch
from msgspec import structs
from numpy.typing import NDArray

from models import calibration as calibrations
from models import schema as schemas
from models.calibration import Line
from models.committee import known_before
from models.dataset import Dataset, lot
from models.inference import run
from models.network import Network
from models.second_look import EARLIER, scaled
from models.training.encoder import fit_encoder
from models.training.material import Material
from models.training.members import halves
from models.training.options import Options
from models.training.processes import Processes
from models.trees import Table
from scripts.study.contest import Entrant, Following, asked, draws, keep
from scripts.study.parts import Kept, Part, Read, load, material
from scripts.study.taobao import folder_of
from stream_app.core.window import Ints

KINDS: Final = ("bert", "gru")
WHOLE: Final = 2  # beside the halves 0 and 1

Judge = tuple[Network, tuple[Line, ...]]


class Hearing(Following):
    """`heard`: further columns, by the identity of a data set."""

    heard: Mapping[int, Table] = {}

    def table(self, data: Dataset) -> Table:
        return np.column_stack([super().table(data), self.heard[id(data)]]).astype(np.float32)


def hear(folder: Path, entrant: Entrant, seed: int, device: str) -> dict[str, Table]:
    """What both kinds say of every event of each part that the stack reads, by the part's name."""
    schema, where = entrant.read_as, torch.device(device)
    known = load(folder, schema, Kept())
    learnt = material(known, seed, entrant.crowds)
    half = halves(learnt.data, seed)
    found: dict[str, list[Table]] = {}
    for number, kind in enumerate(KINDS):
        of = structs.replace(entrant, members=(kind,))
        judges = [
            _fitted(of, learnt, half, which, seed + 1000 * (3 * number + which), where)
            for which in (0, 1, WHOLE)
        ]
        for name, table in _told(judges, known, half, seed, where).items():
            found.setdefault(name, []).append(table)
    return {name: np.column_stack(tables) for name, tables in found.items()}


def _fitted(
    entrant: Entrant, learnt: Material, half: Ints, which: int, seed: int, device: torch.device
) -> Judge:
    """An encoder, and the scale of what it says."""
    data, chosen = learnt.data, learnt.choose_on
    options = Options(
        schema=entrant.schema, members=entrant.members, pretrain_epochs=entrant.pretrain_epochs
    ).but(entrant.options)
    config = options.config(entrant.read_as.window.size)
    own = slice(None) if which == WHOLE else half == which
    of_all = np.arange(len(data))[own]
    recipe = options.recipe(len(learnt.fit_on), config.size.hidden, warm=False)
    network = fit_encoder(
        entrant.read_as,
        data,
        np.intersect1d(learnt.fit_on, of_all),
        chosen,
        config,
        structs.replace(recipe, seed=seed),
        weight=learnt.weight,
        pretrain_on=np.intersect1d(learnt.pretrain_on, of_all),
        processes=Processes(device),
        progress=partial(print, entrant.members[0], "whole" if which == WHOLE else which),
    ).network
    task = data.task[chosen]
    raw = run(network, data.windows.take(chosen), device).logits[np.arange(len(chosen)), task]
    tasks = len(entrant.read_as.task_names)
    return network, calibrations.fit(raw, data.anomalous[chosen], task, tasks).lines


def _told(
    judges: Sequence[Judge], known: Read, half: Ints, seed: int, device: torch.device
) -> dict[str, Table]:
    found = {}
    at = len(known.history.data)
    for number, one in enumerate(known.replicas):
        who = 1 - half[at : at + len(one.data)]
        found[f"train-{number}"] = _by(judges, one.data, np.arange(len(one.data)), who, device)
        at += len(one.data)
    for name, parts in (("valid", known.valid), ("test", known.tests)):
        before = past_of(parts[0], seed)  # the same of all of them
        past = np.arange(len(before))
        first = _by(judges, parts[0].data, past, before, device)
        for number, one in enumerate(parts):
            later = np.arange(len(past), len(one.data))
            who = np.full(len(later), WHOLE)
            said = _by(judges, one.data, later, who, device)
            found[f"{name}-{number}"] = np.concatenate([first, said])
    return found


def past_of(one: Part, seed: int) -> Ints:
    """(events before those that are judged,) which half judges each."""
    data, count = one.data, int(one.events[0])
    learnt = np.array([int(lot(user, seed + 1) < 0.5) for user in data.users])
    return np.asarray(1 - learnt[data.user[:count]], np.int64)


def _by(
    judges: Sequence[Judge], data: Dataset, events: Ints, who: Ints, device: torch.device
) -> Table:
    """(events, 1 + EARLIER) each as its judge has it."""
    found = np.empty((len(events), 1 + len(EARLIER)), np.float32)
    for number, (network, lines) in enumerate(judges):
        own = np.flatnonzero(who == number)
        if not len(own):
            continue
        windows, task = data.windows.take(events[own]), data.task[events[own]]
        raw = torch.from_numpy(run(network, windows, device).logits)
        found[own, 0] = scaled(raw, torch.from_numpy(task), lines).numpy()
        found[own, 1:] = known_before(network, lines, windows, device)
    return found


def stack(folder: Path, heard: Mapping[str, Table], seed: int, threads: int) -> NDArray[np.float32]:
    """(events of the test draws,) as `contest.compete` asks it."""
    memory = Kept()
    known = load(folder, schemas.load("shop"), memory)
    detector = Hearing(memory, seed, threads)
    detector.heard = {
        id(one.data): heard[f"{name}-{number}"]
        for name, parts in (
            ("train", known.replicas),
            ("valid", known.valid),
            ("test", known.tests),
        )
        for number, one in enumerate(parts)
    }
    detector.fit_draws(draws(known))
    return asked(detector, known).astype(np.float32)


def means(folder: Path, recipe: str, seed: int) -> None:
    """Of log-odds, where both are there."""
    for one, other in ((recipe, "stack"), ("heard", "stack")):
        paths = [folder / f"{name}.{seed}.npz" for name in (one, other)]
        if all(path.exists() for path in paths):
            both = np.asarray(np.mean([np.load(path)["all"] for path in paths], 0), np.float32)
            shown = "recipe" if one == recipe else one
            keep(folder / f"{shown} and {other}.{seed}.npz", {"": both})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--folds", default="all,0,1,2,3,4")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of the stack")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--entrants", type=Path, default=Path(__file__).with_name("entrants.json"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    entrant = msgspec.json.decode(given.entrants.read_bytes(), type=list[Entrant])[0]
    for fold in given.folds.split(","):
        folder = folder_of(given.work, fold)
        out = folder / f"heard.{given.seed}.npz"
        if not out.exists():
            heard = hear(folder, entrant, given.seed, given.device)
            keep(out, {"": stack(folder, heard, given.seed, given.threads)})
        means(folder, entrant.name, given.seed)
        print(f"fold {fold}: {out}", flush=True)


if __name__ == "__main__":
    main()
