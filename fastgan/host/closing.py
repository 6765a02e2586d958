"""What the end of a `with` closes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

_Own = TypeVar("_Own", bound="Closing")


class Closing(ABC):
    """Whoever has a `close` that ends all it does; also to be used in a `with`."""

    @abstractmethod
    def close(self) -> None:
        """End it; a second time is nothing."""

    def __enter__(self: _Own) -> _Own:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
