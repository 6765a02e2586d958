"""What a visitor's address must contain; light, so that a command refuses a wrong one at once."""

from __future__ import annotations

from fastgan.errors import ArgumentError


def check(token: str | None) -> None:
    """Refuse an empty token: an unset variable in a script must not open the page to everybody.

    Raises:
        ArgumentError: it is empty, or blank.
    """
    if token is not None and not token.strip():
        raise ArgumentError("token", repr(token), "a text, or none given: one is made")
