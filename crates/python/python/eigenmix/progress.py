"""Progress of long calls: to a callback, or to tqdm where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Union

__all__ = ["Progress", "ProgressOption"]


@dataclass(frozen=True)
class Progress:
    """How far a long step is.

    Attributes
    ----------
    number : int
        Which step of the call it is, from 0: several may run, one inside the other.
    action : str
        What is done, such as ``"merging"``.
    position, total : int
        How many units are done, and how many there are (perhaps a guess).
    unit : str
        What is counted, such as ``"modules"``.
    message : str
        A detail such as the loss.
    is_over : bool
        Whether this is the last report of the step.
    """

    number: int
    action: str
    position: int
    total: int
    unit: str
    message: str
    is_over: bool


#: ``None`` shows bars if tqdm is installed, ``False`` shows nothing, and a function is called on the
#: caller's thread, at most some twenty times a second. If it raises, the call stops and raises that.
ProgressOption = Union[None, bool, Callable[[Progress], None]]


class Bars:
    """Shows steps with tqdm, in a notebook as its widgets."""

    def __init__(self, bar_type: Any) -> None:
        self._bar_type = bar_type
        self._bars: dict[int, Any] = {}

    def __call__(self, progress: Progress) -> None:
        bar = self._bars.get(progress.number)
        if bar is None:
            bar = self._bar_type(
                total=progress.total, desc=progress.action, unit=f" {progress.unit}", leave=False
            )
            self._bars[progress.number] = bar
        # A total may have been a guess.
        bar.total = max(bar.total, progress.position)
        if progress.message:
            bar.set_postfix_str(progress.message, refresh=False)
        bar.update(progress.position - bar.n)
        if progress.is_over:
            self._bars.pop(progress.number).close()

    def close(self) -> None:
        """Removes what is left of a call that failed."""
        for bar in self._bars.values():
            bar.close()
        self._bars.clear()


def shown(option: ProgressOption) -> Callable[[Progress], None]:
    """The function that shows progress."""
    if callable(option):
        return option
    if option is not False:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            pass
        else:
            return Bars(tqdm)
    return lambda _: None
