"""A live page on a thread of its own, and what its WebSocket says."""

from __future__ import annotations

import io
import json
import shutil
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from fastgan.realtime.live.page import HEADER, LivePage

aiohttp = pytest.importorskip("aiohttp", reason="no aiohttp: pip install 'fastgan[live]'")


class Served:
    """Serves a page while it is open."""

    def __init__(self, page: LivePage) -> None:
        self.page = page
        self.started = threading.Event()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        try:
            self.page.run(0, self.ready)
        except BaseException as error:
            self.error = error
            self.started.set()

    def ready(self, address: str) -> None:
        self.address = address
        self.started.set()

    def __enter__(self) -> Served:
        self.thread.start()
        self.started.wait()
        return self

    def __exit__(self, *error: object) -> None:
        if self.thread.is_alive():
            self.page.stop()
        self.thread.join()


async def hear(socket, wanted):
    """Messages until `wanted` takes one: what it returns."""
    while True:
        message = await socket.receive()
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        found = wanted(message.data)
        if found is not None:
            return found


def note(name):
    return lambda data: json.loads(data).get(name) if isinstance(data, str) else None


def state(values):
    def wanted(data):
        found = note("state")(data)
        return found if found and found.items() >= values.items() else None

    return wanted


def frame(test=lambda header, image: True):
    def wanted(data):
        if isinstance(data, str):
            return None
        header, image = picture_of(data)
        return (header, image) if test(header, image) else None

    return wanted


def picture_of(data: bytes) -> tuple[tuple[int, float, float, float], torch.Tensor]:
    """A message of the WebSocket as its header's values and the picture, uint8 [H, W, C]."""
    array = np.array(Image.open(io.BytesIO(data[HEADER.size :])))
    values = HEADER.unpack(data[: HEADER.size])
    return values, torch.from_numpy(array[:, :, None] if array.ndim == 2 else array)


def open_browser(*arguments: str):
    """A headless browser; the test is skipped where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium with chromedriver: apt-get install chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    fixed = ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1180,900")
    for argument in (*fixed, "--disable-dev-shm-usage", "--force-color-profile=srgb", *arguments):
        options.add_argument(argument)
    return webdriver.Chrome(options, webdriver.ChromeService(driver))
