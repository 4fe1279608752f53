"""What a person sees of a training: a line for each epoch, a bar on a terminal, curves.

Curves are TensorBoard's. Knows nothing of what is trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from models.extra import HOW
from models.training.recipe import Progress
from models.writing import check_folder, writing


class Watch:
    """Lines go to `say`. A bar is drawn if asked for, curves are kept if a folder is given.

    Raises Misconfigured if that cannot be written.
    """

    def __init__(
        self, say: Progress = lambda _: None, log_dir: Path | None = None, bar: bool = False
    ) -> None:
        self.say = say
        self._writer = _writer(log_dir, say)
        self._bar = _bar() if bar else None
        self._task: Any = None
        self._member = ""

    def follow(self, member: str) -> None:
        """The curves from here on are this member's."""
        self._member = member

    @property
    def curves(self) -> bool:
        return self._writer is not None

    def step(self, what: str, done: int, of: int) -> None:
        """A step of `what` is done."""
        if self._bar is None:
            return
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task(what, total=of)
        self._bar.update(self._task, description=what, completed=done, total=of)

    def end(self) -> None:
        """The bar is not needed for now."""
        if self._bar is not None and self._task is not None:
            self._bar.remove_task(self._task)
            self._bar.stop()
            self._task = None

    def curve(self, name: str, value: float, at: int) -> None:
        if self._writer is not None:
            self._writer.add_scalar(f"{self._member}/{name}", value, at)

    def close(self) -> None:
        self.end()
        if self._writer is not None:
            self._writer.close()


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} steps"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


def _writer(log_dir: Path | None, say: Progress) -> Any:
    if log_dir is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        say(f"no curves: TensorBoard is not installed ({HOW})")
        return None
    check_folder(log_dir)
    with writing(log_dir):
        return SummaryWriter(str(log_dir))
