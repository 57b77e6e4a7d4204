"""The compiled part of the module: see `eigenmix` for what is meant to be called."""

import os
from collections.abc import Callable, Sequence
from typing import Any, final

__all__ = [
    "Adapter",
    "Array",
    "Subspace",
    "__version__",
    "basis_start",
    "call",
    "factor_start",
    "main",
    "to_toml",
]

__version__: str

@final
class Array:
    """Values of the engine; ``numpy.asarray`` views them, read-only, without a copy."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...

@final
class Subspace:
    """Bases of both sides of every module."""

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Subspace: ...
    def with_components(self, count: int) -> Subspace: ...
    @property
    def base_model(self) -> str | None: ...
    @property
    def sources(self) -> list[str]: ...
    @property
    def is_flattened(self) -> bool: ...
    @property
    def modules(self) -> list[str]: ...
    def side(self, module: str, is_left: bool) -> Array: ...
    def variance(self, module: str, is_left: bool) -> list[float]: ...
    def mixers(self, adapters: Sequence[str]) -> dict[str, Array]: ...

@final
class Adapter:
    """The factors of every module of an adapter, with their scaling, and its heads."""

    @staticmethod
    def load(location: str) -> Adapter: ...
    @property
    def base_model(self) -> str | None: ...
    @property
    def modules(self) -> list[str]: ...
    def factors(self, module: str) -> tuple[Array, Array, Array | None, float]: ...
    def folded(self, module: str) -> tuple[Array, Array]: ...
    @property
    def heads(self) -> dict[str, Array]: ...
    @property
    def labels(self) -> list[str] | None: ...

def call(command: str, options: str, listener: Callable[[str, Any], None]) -> str:
    """Run a command with options as a JSON object, and return its result as one."""

def main(words: Sequence[str], interpreter: str) -> int:
    """Run the command line and return its exit status."""

def factor_start(
    module: str,
    shape: tuple[int, int],
    *,
    seed: int,
    rank: int,
    scaling: float,
    mixer: str | None = None,
) -> tuple[float, dict[str, Array]]:
    """Where LoRA, or MoSLoRA with a mixer, starts: the scaling, and ``left``, ``right``, ``mixer``."""

def basis_start(
    method: str,
    subspace: Subspace,
    module: str,
    *,
    seed: int,
    rank: int,
    scaling: float,
    random: bool = False,
    start: list[list[float]] | None = None,
) -> tuple[float, dict[str, Array]]:
    """Where coefficients on a basis start: the scaling, and the coefficients by name."""

def to_toml(content: str) -> str:
    """A JSON object as TOML."""
