"""How answers leave the server."""

from __future__ import annotations

import subprocess
import sys

from tests.serve.conftest import LIMIT, require_kserve

_ACCEPTED = """
import socket
from fastgan.serve.server import bound
with bound("127.0.0.1", 0) as listening, socket.create_connection(listening.getsockname()):
    ours, _ = listening.accept()
    print(bool(ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
"""


def test_no_packet_of_an_answer_waits_for_the_client() -> None:
    """An answer in two packets took 44 ms, most of it Linux's delayed acknowledgement."""
    require_kserve()
    command = [sys.executable, "-c", _ACCEPTED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    assert done.stdout == "True\n", done.stderr
