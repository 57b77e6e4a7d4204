"""What goes wrong: one exception, and one category of warnings."""

from __future__ import annotations

__all__ = ["EigenmixError", "EigenmixWarning"]


class EigenmixError(Exception):
    """A call failed.

    The message says what is wrong and what to do about it, as the command line does.

    Attributes
    ----------
    message : str
        What a person reads.
    status : int
        The exit status of the command line: 2 for wrong usage or bad input, which the caller can
        change; 1 for everything else, such as a full disk.
    """

    message: str
    status: int

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.message = message
        self.status = status

    @property
    def is_bad_input(self) -> bool:
        """Whether the input has to change, not the machine."""
        return self.status == 2

    def __reduce__(self) -> tuple[type[EigenmixError], tuple[str, int]]:
        return (type(self), (self.message, self.status))


class EigenmixWarning(UserWarning):
    """A result may not be what is expected."""
