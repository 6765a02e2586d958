"""How answers leave the server, and what is said where none can be reached."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from fastgan.errors import ArgumentError
from fastgan.serve.address import bound


def test_no_packet_of_an_answer_waits_for_the_client() -> None:
    """An answer in two packets took 44 ms, most of it Linux's delayed acknowledgement."""
    with bound("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
        ours, _ = listening.accept()
        with ours:
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_port_that_is_taken_is_said_before_anything_is_loaded() -> None:
    with bound("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        with (
            pytest.raises(ArgumentError, match=f"--http: found 127.0.0.1:{port}"),
            bound("127.0.0.1", port),
        ):
            pass
    code = "import sys, fastgan.serve.address; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "kserve", "numpy"} & set(done.stdout.split())
