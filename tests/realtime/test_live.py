"""The live page: the generator's own pixels in a real browser, and nobody else's way in.

With FASTGAN_SCREENSHOTS=docs/pictures the browser's test also writes the documentation's picture.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from fastgan.errors import ArgumentError
from fastgan.realtime import Drift, Nudge
from fastgan.realtime.live.page import HEADER, Serving
from fastgan.realtime.live.session import Live
from tests.realtime import pages
from tests.realtime.pages import frame, hear, note, open_browser, state

aiohttp = pytest.importorskip("aiohttp", reason="no aiohttp: pip install 'fastgan[live]'")


class Served(pages.Served):
    """A walk on a page."""

    def __init__(self, generator, folder, stream=None, **serving) -> None:
        self.generator = generator
        self.stream = generator.stream(**{"fps": 30, "latents": Drift(3), **(stream or {})})
        serving = Serving("png", folder=folder, **serving)
        self.live = Live(generator, "dcgan-digits", self.stream, serving)
        super().__init__(self.live)

    def image(self, position, x=0.0, y=0.0, seed=3):
        """What the page should show: uint8 [H, W, C]."""
        walk = Nudge(Drift(seed), x, y)
        z = walk.at(position, 1, self.stream.controls.settings.space)[0]
        (output,) = self.generator.run({self.generator.signature.latent.name: z}).values()
        return ((output + 1) * 127.5).round().clamp(0, 255).byte()[0].permute(1, 2, 0)


def test_pages_see_frames_and_steer(digits, tmp_path) -> None:
    async def visit(served):
        async with aiohttp.ClientSession() as session:
            page = await (await session.get(served.address)).text()
            assert "<title>fastgan live</title>" in page
            async with session.ws_connect(served.address + "frames") as socket:
                hello = await hear(socket, note("hello"))
                assert hello["model"] == "dcgan-digits"
                assert hello["truncates"]
                assert not hello["classes"]
                (_, position, when, compute), image = await hear(socket, frame())
                assert torch.equal(image, served.image(position))
                assert when > 1e12
                assert compute > 0
                stats = await hear(socket, note("stats"))
                assert stats["produced"] >= stats["delivered"] > 0

                await socket.send_json({"pause": True})
                await hear(socket, state({"paused": True}))
                await socket.send_json({"position": 40, "step": 2})
                await hear(socket, frame(lambda header, image: header[1] == 42.0))
                await socket.send_json({"drag": [0.5, -0.25]})
                expected = served.image(42.0, 0.5, -0.25)
                await hear(socket, frame(lambda header, image: torch.equal(image, expected)))
                await socket.send_json({"seed": 11})
                expected = served.image(42.0, seed=11)
                await hear(socket, frame(lambda header, image: torch.equal(image, expected)))
                await socket.send_json({"truncation": 0.5, "speed": 2})
                wanted = {"truncation": 0.5, "speed": 2.0, "seed": 11}
                await hear(socket, state(wanted))

                for wrong in ('{"seed": -1}', '{"labels": 3}', "nonsense", "[1]", '{"step": 1.5}'):
                    await socket.send_str(wrong)
                    assert await hear(socket, note("error"))
                await socket.send_json({"pause": False})
                await hear(socket, frame(lambda header, image: header[1] > 50))

                await socket.send_json({"record": True})
                await hear(socket, state({"recording": True}))
                await hear(socket, frame(lambda header, image: header[1] > 90))
                await socket.send_json({"record": False})
                recorded = await hear(socket, note("recorded"))
            video = await session.get(served.address + f"recordings/{recorded['name']}")
            assert (await video.read())[4:8] == b"ftyp"
            for path in ("recordings/../conftest.py", "recordings/live-none.mp4", "other"):
                assert (await session.get(served.address + path)).status == 404

    with Served(digits, tmp_path) as served:
        asyncio.run(visit(served))
    assert served.error is None
    assert [path.suffix for path in tmp_path.iterdir()] == [".mp4"]
    assert not [t.name for t in threading.enumerate() if t.name.startswith("fastgan")]


def test_no_other_site_gets_in(digits, tmp_path) -> None:
    async def knock(address, **headers):
        async with aiohttp.ClientSession() as session:
            return (await session.get(address, headers=headers)).status

    with Served(digits, tmp_path) as served:
        port = served.live.port
        ask = lambda address, **headers: asyncio.run(knock(address, **headers))  # noqa: E731
        assert ask(served.address) == 200
        assert ask(served.address, Origin=served.address.rstrip("/")) == 200
        assert ask(served.address + "frames", Origin="http://evil.example") == 403
        assert ask(served.address, Origin="null") == 403
        assert ask(served.address, Host=f"evil.example:{port}") == 403  # DNS rebinding
        with pytest.raises(OSError, match="refused"):  # it listens on 127.0.0.1 alone
            socket.create_connection(("127.0.0.2", port), timeout=5)
        second = Live(digits, "again", digits.stream())
        with pytest.raises(ArgumentError, match=rf"port: found {port}, which is in use"):
            second.run(port)
    with Served(digits, tmp_path, host="0.0.0.0") as served:
        assert len(served.live.token) >= 20
        address, _, _ = served.address.partition("?")
        address = address.replace("0.0.0.0", "127.0.0.1")
        assert ask(address) == 403
        assert ask(address + "frames?token=wrong") == 403
        assert ask(address + f"?token={served.live.token}") == 200
        origin = address.rstrip("/")
        assert ask(address + f"?token={served.live.token}", Origin="http://evil.example") == 403
        assert ask(address, Origin=origin, Cookie=f"fastgan={served.live.token}") == 200


def test_an_error_of_the_model_ends_the_page(digits, tmp_path, monkeypatch) -> None:
    with Served(digits, tmp_path) as served:

        def breaks(out) -> None:
            raise RuntimeError("the model broke")

        served.stream._renderer.render = breaks
        served.stream.step()  # nobody looks, so nothing is rendered by itself
        served.thread.join()
    assert "the model broke" in str(served.error)


# In a real browser --------------------------------------------------------------------------------

PIXELS = """
const canvas = document.getElementById("picture");
const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
return {position: shown.position, size: [canvas.height, canvas.width], pixels: [...data.data]};
"""


@pytest.fixture
def browser():
    opened = open_browser()
    yield opened
    opened.quit()


def test_a_browser_shows_the_generators_pixels(digits, tmp_path, browser) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.wait import WebDriverWait

    def matches(x=0.0, y=0.0, seed=3, position=None):
        def test(_) -> bool:
            seen = browser.execute_script(PIXELS)
            if seen["size"] != [32, 32] or position not in (None, seen["position"]):
                return False
            shown = torch.tensor(seen["pixels"]).reshape(32, 32, 4)
            expected = served.image(seen["position"], x, y, seed)
            grey = expected.int().expand(-1, -1, 3)
            return torch.equal(shown[..., :3].int(), grey)

        return test

    # The page must hold still: it is compared with what was rendered for its position.
    with Served(digits, tmp_path, stream={"speed": 0.25}) as served:
        wait = WebDriverWait(browser, 600, poll_frequency=0.2)
        click = lambda name: browser.find_element(By.ID, name).click()  # noqa: E731
        browser.get(served.address)
        wait.until(lambda _: browser.execute_script("return shown.index") > 10)
        wait.until(matches())
        click("record")
        wait.until(lambda _: browser.find_element(By.ID, "record").text == "Stop")
        wait.until(lambda _: len(browser.find_elements(By.CSS_SELECTOR, "#counts tr")) == 5)
        before = browser.execute_script("return shown.index")
        wait.until(lambda _: browser.execute_script("return shown.index") > before + 60)
        screenshot = browser.get_screenshot_as_png()
        click("record")
        wait.until(lambda _: "live-" in browser.find_element(By.ID, "message").text)
        click("pause")
        wait.until(lambda _: browser.find_element(By.ID, "pause").text == "Go on")
        here = served.stream.controls.settings.base[1]
        wait.until(matches(position=here))
        click("step")
        wait.until(matches(position=here + 0.25))

        canvas = browser.find_element(By.ID, "picture")
        ActionChains(browser).drag_and_drop_by_offset(canvas, 120, -60).perform()
        wait.until(lambda _: served.live._nudge.x > 0 > served.live._nudge.y)
        nudge = served.live._nudge
        wait.until(matches(nudge.x, nudge.y))
        seed = browser.find_element(By.ID, "seed")
        seed.clear()
        seed.send_keys("21\t")
        wait.until(matches(seed=21))
        browser.execute_script(
            "const s = document.getElementById('truncation'); s.value = 0.5;"
            "s.dispatchEvent(new Event('input'));"
        )
        wait.until(lambda _: served.stream.controls.settings.space.truncation == 0.5)
        wait.until(matches(seed=21))
        assert not [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert served.error is None
    assert HEADER.size == 32
    (tmp_path / "live.png").write_bytes(screenshot)
    if folder := os.environ.get("FASTGAN_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "live.png").write_bytes(screenshot)


def test_a_visitor_chooses_among_several_models(tmp_path) -> None:
    """The address stays; what the page shows is another model, even of the other kind."""

    async def choose(address, name):
        async with aiohttp.ClientSession() as session, session.ws_connect(address + "frames") as ws:
            hello = await hear(ws, note("hello"))
            await ws.send_json({"model": "none"})
            assert "superres-x2" in await hear(ws, note("error"))
            await ws.send_json({"model": name})
            while (await ws.receive()).type != aiohttp.WSMsgType.CLOSE:
                pass
            return hello

    models = ["dcgan-digits", "superres-x2"]
    command = [sys.executable, "-m", "fastgan", "live", *models, "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        try:
            addresses = []
            for shown, other in (models, models[::-1]):
                name, _, address = process.stdout.readline().strip().partition(": ")
                assert name == shown
                hello = asyncio.run(choose(address, other))
                assert (hello["model"], hello["models"]) == (shown, models)
                assert bool(hello.get("takes")) == (shown == "superres-x2")
                addresses.append(address)
            assert len(set(addresses)) == 1
            assert process.stdout.readline().startswith("dcgan-digits: ")
        finally:
            process.terminate()
        assert process.wait(300) == 0
