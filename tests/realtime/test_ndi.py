"""Frames over NDI, received by another process; where cyndilib is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

pytest.importorskip("cyndilib", reason="no cyndilib, and with it NDI: pip install cyndilib")

#: Nothing is to wait for longer than this; other work may stop the processes.
SECONDS = 240

SENDS = """
import sys, time
import torch
from fastgan.realtime.outputs.senders import NdiSender
name, source = sys.argv[1:]
pictures = torch.load(source)
with NdiSender(name, 30) as sender:
    index = 0
    print("open", flush=True)
    import select
    shown = 0
    while True:
        if select.select([sys.stdin], [], [], 1 / 30)[0]:
            line = sys.stdin.readline().strip()
            if not line.isdigit():
                break
            shown = int(line)
        sender.write(pictures[shown], index, 0)
        index += 1
"""

RECEIVES = """
import sys, time
import numpy as np
from cyndilib.finder import Finder
from cyndilib.receiver import Receiver
from cyndilib.video_frame import VideoFrameSync
from cyndilib.wrapper.ndi_recv import RecvBandwidth, RecvColorFormat
name, target = sys.argv[1:3]
height, width = map(int, sys.argv[3:])
limit = time.monotonic() + 120
finder = Finder()
finder.open()
found = []
while not found and time.monotonic() < limit:
    finder.wait_for_sources(0.2)
    found = [one for one in finder.get_source_names() if name in one]
if not found:
    sys.exit("not found")
receiver = Receiver(color_format=RecvColorFormat.RGBX_RGBA, bandwidth=RecvBandwidth.highest)
frame = VideoFrameSync()
receiver.frame_sync.set_video_frame(frame)
receiver.set_source(finder.get_source(found[0]))
while frame.get_resolution() != (width, height) and time.monotonic() < limit:
    time.sleep(0.02)
    receiver.frame_sync.capture_video()
np.save(target, np.array(frame.get_array()).reshape(height, -1, 4)[:, :width])
finder.close()
"""


def test_a_receiver_gets_the_pixels(tmp_path: Path) -> None:
    import torch

    # Smooth, since NDI halves the colour's resolution, and no colours that its range cuts off;
    # other in each channel and corner.
    y, x = torch.meshgrid(torch.arange(96), torch.arange(128), indexing="ij")
    colour = torch.stack([64 + x, 64 + y, 220 - (x + y) // 2], 2).to(torch.uint8)
    grey = (16 + x + y)[:64, :96, None].to(torch.uint8)
    torch.save([colour, grey], tmp_path / "pictures.pt")
    # Found at this address, since announcements need a daemon (Avahi).
    (tmp_path / "ndi-config.v1.json").write_text(
        json.dumps({"ndi": {"networks": {"ips": "127.0.0.1", "discovery": ""}}})
    )
    environment = {**os.environ, "NDI_CONFIG_DIR": str(tmp_path)}
    name = f"fastgan-{uuid4().hex[:8]}"
    sender = subprocess.Popen(
        [sys.executable, "-c", SENDS, name, str(tmp_path / "pictures.pt")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert sender.stdin is not None
    assert sender.stdout is not None
    try:
        assert sender.stdout.readline() == "open\n"
        for shown, picture in enumerate((colour, grey)):
            sender.stdin.write(f"{shown}\n")
            sender.stdin.flush()
            target, (height, width) = tmp_path / f"{shown}.npy", picture.shape[:2]
            command = [sys.executable, "-c", RECEIVES, name, str(target), str(height), str(width)]
            done = subprocess.run(
                command, env=environment, timeout=SECONDS, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            received = np.load(target)
            assert received.shape == (height, width, 4)
            assert (received[..., 3] == 255).all()
            off = received[..., :3].astype(int) - picture.numpy().astype(int)
            # NDI's own conversion to YUV and back is off by up to 6 in blue; a channel or a side
            # in another's place would be by 40 and more.
            assert np.abs(off.mean((0, 1))).max() < 8
            assert np.abs(off).max() < 24
    finally:
        sender.communicate("end\n", timeout=SECONDS)
    assert sender.returncode == 0
