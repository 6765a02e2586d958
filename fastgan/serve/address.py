"""The address that the service listens at, taken before anything heavy is imported."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from fastgan.errors import ArgumentError


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """A port that is ours for as long as the block takes.

    Raises:
        ArgumentError: it is taken, or the host is none of this machine.
    """
    try:
        made = socket.create_server((host, port), backlog=1024)
        # Its connections have it too: an answer's second packet else waits for the client to
        # acknowledge the first, for 40 ms on Linux.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        raise taken("--http", host, port) from None
    with made:
        yield made


def taken(option: str, host: str, port: int) -> ArgumentError:
    """What is said of an address that is not to be had."""
    found = f"{host}:{port}, where nothing can be bound"
    return ArgumentError(option, found, "an address of this machine and a port that is free")
