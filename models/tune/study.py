"""A study in a file: what was tried, by optuna's journal. It goes on only with what began it.

Every trial is a function of the seed and of the trials before it, so a study that was broken off
goes on to the same trials.
"""

from __future__ import annotations

import fcntl
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from models.extra import missing
from models.training.session import different
from models.tune.space import Settings, Space, suggest
from stream_app.core.errors import Misconfigured

_NAME: Final = "shopsentry"
_ASKED: Final = "asked"
_BEGINNING: Final = b'{"op_code":'  # of a line of the journal
_UNPRUNED: Final = 4  # trials that are fitted to their end in any case
_WARM_UP: Final = 1  # epochs before any trial is cut short


class Tried(Struct, frozen=True, kw_only=True):
    """A trial that is done. Average precisions; NaN where there is none."""

    number: int
    settings: Settings
    pruned: bool
    chosen_by: float
    kept_aside: float
    seconds: float


class Study:
    """In an open file; see `opened`."""

    def __init__(self, study: Any, seed: int) -> None:
        self._study, self._seed = study, seed

    def tried(self) -> list[Tried]:
        """In their order."""
        found: list[Tried] = []
        for trial in self._study.get_trials(deepcopy=False):
            pruned = trial.state.name == "PRUNED"
            if not pruned and trial.state.name != "COMPLETE":
                continue
            told = trial.user_attrs
            found.append(
                Tried(
                    number=len(found) + 1,
                    settings=dict(trial.params),
                    pruned=pruned,
                    chosen_by=math.nan if pruned else trial.value,
                    kept_aside=told.get("kept aside", math.nan),
                    seconds=told.get("seconds", math.nan),
                )
            )
        return found

    def ask(self, space: Space, usual: Settings) -> tuple[Any, Settings]:
        """The next trial of optuna's and its settings: `usual` ones first."""
        import optuna

        done = len(self.tried())
        if done == 0 and not self._in_state("WAITING"):
            self._study.enqueue_trial(dict(usual))
        seed = (1_000_003 * self._seed + done) % 2**32
        self._study.sampler = optuna.samplers.TPESampler(seed=seed)
        trial = self._study.ask()
        return trial, suggest(trial, space)

    def tell(self, trial: Any, chosen_by: float, kept_aside: float, seconds: float) -> None:
        trial.set_user_attr("kept aside", kept_aside)
        trial.set_user_attr("seconds", seconds)
        self._study.tell(trial, chosen_by)

    def cut_short(self, trial: Any, seconds: float) -> None:
        """It was worse than half of those before it."""
        trial.set_user_attr("seconds", seconds)
        self._study.tell(trial, state=_state("PRUNED"))

    def forget(self) -> None:
        """What was begun and is not done: it will be tried again."""
        for trial in self._in_state("RUNNING"):
            self._study.tell(trial.number, state=_state("FAIL"))

    def accept(self, asked: Mapping[str, Any], path: Path) -> None:
        """Raises Misconfigured if something else began it."""
        if not self.tried():
            self._study.set_user_attr(_ASKED, msgspec.to_builtins(asked))
        elif told := different(self._study.user_attrs.get(_ASKED, {}), dict(asked)):
            raise Misconfigured(
                f"{path} is a study of something else (other: {told}). Ask the same to go on with "
                "it, or name another file with --study."
            )

    def _in_state(self, name: str) -> list[Any]:
        return [t for t in self._study.get_trials(deepcopy=False) if t.state.name == name]


@contextmanager
def opened(path: Path, asked: Mapping[str, Any], seed: int) -> Iterator[Study]:
    """The study in `path`, new if there is none; nobody else can go on with it meanwhile.

    Raises Misconfigured if that is impossible, or if it is of something else than `asked`.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise missing("tuning", "optuna") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab+")
    except OSError as error:
        raise Misconfigured(f"{path} cannot be written: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Misconfigured(f"somebody else is at work on the study {path}") from error
        _mend(file, path)
        try:
            storage = JournalStorage(JournalFileBackend(str(path), _Held()))  # type: ignore[arg-type]
            found = optuna.create_study(
                study_name=_NAME,
                storage=storage,
                direction="maximize",
                pruner=optuna.pruners.MedianPruner(_UNPRUNED, _WARM_UP),
                load_if_exists=True,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise Misconfigured(f"{path} is damaged: name another file with --study") from error
        study = Study(found, seed)
        study.accept(asked, path)
        study.forget()
        yield study


class _Held:
    """The journal's lock: the whole file is ours already, and no kill leaves that behind."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def _mend(file: Any, path: Path) -> None:
    """Take away a last line that a kill left unfinished. Raises Misconfigured if it is no study."""
    file.seek(0)
    held = file.read()
    if held and not held.startswith(_BEGINNING):
        raise Misconfigured(f"{path} is there and is no study: name another file with --study")
    if not held.endswith(b"\n"):
        file.truncate(held.rfind(b"\n") + 1)


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]
