"""The live page of image-to-image models: what the page sent is what was run, pixel by pixel.

With FASTGAN_SCREENSHOTS=docs/pictures the browser's test also writes the documentation's picture.
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fastgan
from fastgan.errors import ArgumentError
from fastgan.realtime.live import images as live_images
from fastgan.realtime.live.images import (
    CAMERA,
    MASK,
    MOST_BYTES,
    PICTURE,
    SENT,
    STYLE,
    LiveImages,
)
from fastgan.realtime.live.page import Serving
from tests import drawing
from tests.realtime.pages import Served, aiohttp, frame, hear, note, open_browser, state

BROWSER_SECONDS = 600  # other work may stop this one for long


@pytest.fixture(scope="module")
def upscaler():
    return fastgan.load("superres-x2", device="cpu", backend="torch")


@pytest.fixture(scope="module")
def inpainter():
    return fastgan.load("inpaint-photos", device="cpu", backend="torch")


def drawn(*shape: int) -> np.ndarray:
    return drawing.new_numpy().integers(0, 256, shape, np.uint8)


def encoded(picture: np.ndarray | Image.Image, format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(file, format, **options)
    return file.getvalue()


def message(kind: int, data: bytes, number: float = 0.0, sent: float = 0.0) -> bytes:
    return SENT.pack(kind, number, sent) + data


def visit(page, act) -> Served:
    async def come(served):
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(served.address + "frames") as socket,
        ):
            await act(socket)

    with Served(page) as served:
        asyncio.run(come(served))
    assert served.error is None
    assert not [t.name for t in threading.enumerate() if t.name.startswith("fastgan")]
    return served


def test_what_is_sent_comes_back_as_the_model_makes_it(upscaler, tmp_path) -> None:
    async def act(socket):
        hello = await hear(socket, note("hello"))
        assert hello["takes"] == {
            "mask": False, "style": False, "seed": False, "bytes": MOST_BYTES, "pixels": 1 << 24,
        }  # fmt: skip
        turned = Image.Exif()
        turned[0x0112] = 6
        grey16 = drawn(9, 12).astype(np.uint16) * 257
        pictures = [
            (PICTURE, encoded(drawn(13, 17, 3))),
            (CAMERA, encoded(drawn(16, 24, 3), "JPEG")),
            (CAMERA, encoded(drawn(16, 24, 3), "WEBP")),
            (PICTURE, encoded(drawn(16, 24))),
            (PICTURE, encoded(grey16)),
            (PICTURE, encoded(drawn(10, 14, 3), "JPEG", exif=turned)),
        ]
        for i, (kind, data) in enumerate(pictures):
            await socket.send_bytes(message(kind, data, 100 + i, 5000 + i))
            wanted = lambda header, _, i=i: header[1:3] == (100 + i, 5000 + i)  # noqa: E731
            header, shown = await hear(socket, frame(wanted))
            made = upscaler(io_picture(data), format="uint8")[0]
            assert torch.equal(shown, made), (i, shown.shape, made.shape)
            assert header[3] > 0
        opaque = drawn(8, 8, 4)
        await socket.send_bytes(message(PICTURE, encoded(opaque), 7))
        _, shown = await hear(socket, frame(lambda header, _: header[1] == 7))
        assert torch.equal(shown, upscaler(opaque[:, :, :3].copy(), format="uint8")[0])
        assert (await hear(socket, note("stats")))["fed"] >= 1

        await socket.send_json({"pause": True})
        await hear(socket, state({"paused": True}))
        await socket.send_bytes(message(CAMERA, encoded(drawn(8, 8, 3)), 8))
        await socket.send_json({"record": True})
        await hear(socket, state({"recording": True}))
        await socket.send_json({"pause": False})
        await hear(socket, frame(lambda header, _: header[1] == 8))
        for i in range(9, 12):
            await socket.send_bytes(message(CAMERA, encoded(drawn(8, 8, 3)), i))
            await hear(socket, frame(lambda header, _, i=i: header[1] == i))
        await socket.send_bytes(message(PICTURE, encoded(drawn(8, 10, 3)), 12))  # ends the video
        recorded = await hear(socket, note("recorded"))
        assert Path(recorded["path"]).read_bytes()[4:8] == b"ftyp"
        await hear(socket, frame(lambda header, _: header[1] == 12))

    visit(LiveImages(upscaler, "superres-x2", Serving("png", folder=tmp_path)), act)
    assert [path.suffix for path in tmp_path.iterdir()] == [".mp4"]


def io_picture(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_what_cannot_be_taken_is_said(upscaler, monkeypatch) -> None:
    async def act(socket):
        await hear(socket, note("hello"))
        large = Image.new("1", (4097, 4096))
        monkeypatch.setattr(live_images, "MOST_BYTES", 1000)
        for data, says in (
            (message(PICTURE, encoded(large)), "4097 x 4096 pixels; needed at most 16.8 million"),
            (message(PICTURE, b"GIF89a nonsense"), "picture"),
            (message(PICTURE, encoded(drawn(8, 8, 3))[:-30]), "picture"),
            (message(PICTURE, b""), "picture"),
            (b"short", "not understood"),
            (message(9, encoded(drawn(8, 8, 3))), "not understood"),
            (message(MASK, encoded(drawn(8, 8))), "mask"),
            (message(STYLE, encoded(drawn(8, 8, 3))), "style"),
            (bytes(SENT.size + MOST_BYTES + 1), f"needed at most {SENT.size + MOST_BYTES}"),
        ):
            await socket.send_bytes(data)
            assert says in await hear(socket, note("error"))
        for asked in ({"seed": -1}, {"drag": [1, 1]}, [1], {"labels": "cat"}):
            await socket.send_json(asked)
            assert "not understood" in await hear(socket, note("error"))
        await socket.send_bytes(message(PICTURE, encoded(drawn(8, 8, 3)), 3))  # it is still there
        await hear(socket, frame(lambda header, _: header[1] == 3))

    visit(LiveImages(upscaler, "superres-x2", Serving("png")), act)


def test_a_result_that_is_too_large_for_its_format_is_said(upscaler) -> None:
    async def act(socket):
        wide = drawn(1, 8200, 3)  # WebP holds 16383 pixels a side
        await socket.send_bytes(message(PICTURE, encoded(wide), 1))
        assert "can't be sent" in await hear(socket, note("error"))
        await socket.send_bytes(message(PICTURE, encoded(wide[:, :8]), 2))
        await hear(socket, frame(lambda header, _: header[1] == 2))

    visit(LiveImages(upscaler, "superres-x2", Serving("webp")), act)


def test_an_error_of_the_model_is_told_and_the_next_picture_runs(upscaler, monkeypatch) -> None:
    calls = []
    real = fastgan.Generator.__call__

    def call(self, images, **options):
        calls.append(images)
        if len(calls) == 20:
            raise RuntimeError("the model broke")
        return real(self, images, **options)

    monkeypatch.setattr(fastgan.Generator, "__call__", call)

    async def act(socket):
        data, number = encoded(drawn(8, 8, 3)), 0
        while True:  # some are made while the stream is prepared, however many that are
            number += 1
            await socket.send_bytes(message(CAMERA, data, number))
            if "the model broke" in (await hear(socket, either)):
                break
        await socket.send_bytes(message(CAMERA, data, 99))
        await hear(socket, frame(lambda header, _: header[1] == 99))

    def either(data):
        return note("error")(data) if isinstance(data, str) else "a frame"

    visit(LiveImages(upscaler, "superres-x2", Serving("png")), act)
    with pytest.raises(ArgumentError, match="budget_ms"):
        upscaler.stream(size=(8, 8, 3), budget_ms=-1)


def test_a_mask_and_a_style_go_with_the_picture(inpainter, tmp_path) -> None:
    picture, mask = drawn(24, 32, 3), np.zeros((24, 32), np.uint8)
    mask[5:15, 8:20] = 255

    async def masked(socket):
        assert (await hear(socket, note("hello")))["takes"]["mask"]
        await socket.send_bytes(message(PICTURE, encoded(picture), 1))
        _, shown = await hear(socket, frame(lambda header, _: header[1] == 1))
        assert np.array_equal(shown.numpy(), picture)  # nothing is to be filled in yet
        for kind, number, sent in ((MASK, 2, mask), (CAMERA, 3, picture[::-1].copy())):
            await socket.send_bytes(message(kind, encoded(sent), number))
            _, shown = await hear(socket, frame(lambda header, _, n=number: header[1] == n))
            given = picture if kind == MASK else sent
            assert torch.equal(shown, inpainter(given, mask=mask, format="uint8")[0])
        await socket.send_bytes(message(MASK, encoded(mask[:8]), 4))
        assert "of the same size" in await hear(socket, note("error"))

    visit(LiveImages(inpainter, "inpaint-photos", Serving("png")), masked)

    import onnx
    from onnx import helper

    shape = [1, 3, "height", "width"]
    ports = [helper.make_tensor_value_info(n, 1, shape) for n in ("image", "style", "output")]
    node = helper.make_node("Mul", ["image", "style"], ["output"])
    graph = helper.make_graph([node], "two", ports[:2], ports[2:])
    onnx.save(helper.make_model(graph), tmp_path / "two.onnx")
    two = fastgan.load(tmp_path / "two.onnx", device="cpu")
    style = drawn(24, 32, 3)

    async def styled(socket):
        assert (await hear(socket, note("hello")))["takes"]["style"]
        await socket.send_bytes(message(PICTURE, encoded(picture), 1))
        await socket.send_bytes(message(STYLE, encoded(style), 2))
        _, shown = await hear(socket, frame())
        assert torch.equal(shown, two(picture, style=style, format="uint8")[0])

    visit(LiveImages(two, "two", Serving("png")), styled)


# In a real browser --------------------------------------------------------------------------------

PIXELS = """
const canvas = document.getElementById(arguments[0]);
const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
return {size: [canvas.height, canvas.width], pixels: [...data.data]};
"""
# What the page sends from now on, by number: [kind, the encoded picture in base 64].
SPY = """
window.sent = new Map();
const send = socket.send.bind(socket);
socket.send = data => {
  if (data instanceof Uint8Array) {
    const view = new DataView(data.buffer), text = [...data.subarray(20)];
    sent.set(view.getFloat64(4, true), [view.getUint32(0, true),
      btoa(text.map(byte => String.fromCharCode(byte)).join(""))]);
  }
  return send(data);
};
"""


@pytest.fixture(scope="module")
def browser():
    opened = open_browser(
        "--use-fake-device-for-media-stream=fps=20", "--use-fake-ui-for-media-stream"
    )
    yield opened
    opened.quit()


def photograph() -> Image.Image:
    """A cat (CC0, Stefan van der Walt), which no model was trained on; noise where it is not."""
    try:
        from skimage.data import chelsea
    except ImportError:
        return Image.fromarray(drawn(180, 240, 3))
    return Image.fromarray(chelsea()[20:260, 110:350])


def test_a_browser_sends_pictures_a_mask_and_its_camera(inpainter, tmp_path, browser) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.wait import WebDriverWait

    photo = photograph()
    photo.save(tmp_path / "photo.png")
    (tmp_path / "text.png").write_text("no picture")
    find = lambda name: browser.find_element(By.ID, name)  # noqa: E731
    said = lambda: find("message").text  # noqa: E731
    wait = WebDriverWait(browser, BROWSER_SECONDS, poll_frequency=0.1).until

    def shown(name="picture") -> np.ndarray:
        seen = browser.execute_script(PIXELS, name)
        return np.array(seen["pixels"], np.uint8).reshape(*seen["size"], 4)[:, :, :3]

    def sent(kind):
        """(number, picture) of the last one of a kind that was sent."""
        found = browser.execute_script("return [...sent]")
        of_kind = [(n, data) for n, (k, data) in found if k == kind]
        return of_kind[-1][0], np.asarray(io_picture(base64.b64decode(of_kind[-1][1])))

    serving = Serving("png", folder=tmp_path / "out")
    with Served(LiveImages(inpainter, "inpaint-photos", serving, fps=20)) as served:
        browser.get(served.address)
        wait(lambda _: find("file").get_attribute("accept") and find("model").text != "fastgan")
        browser.execute_script(SPY)
        find("file").send_keys(str(tmp_path / "text.png"))
        wait(lambda _: "is no picture" in said())
        find("file").send_keys(str(tmp_path / "photo.png"))
        wait(lambda _: np.array_equal(shown(), photo))

        # Two strokes; the model's picture must be what it makes of the mask that was sent.
        paint = find("paint")
        ActionChains(browser).move_to_element_with_offset(paint, -60, -20).click_and_hold() \
            .move_by_offset(70, 30).release().perform()  # fmt: skip
        ActionChains(browser).move_to_element_with_offset(paint, -20, 90).click_and_hold() \
            .move_by_offset(80, -15).release().perform()  # fmt: skip

        def filled(_) -> bool:
            mask = sent(MASK)[1][:, :, 0]
            assert set(np.unique(mask > 127)) <= {False, True}
            made = inpainter(np.asarray(photo), mask=mask, format="uint8")[0]
            return mask.max() == 255 and np.array_equal(shown(), made)

        wait(filled)
        assert not np.array_equal(shown(), photo)
        wait(lambda _: len(browser.find_elements(By.CSS_SELECTOR, "#counts tr")) == 6)
        screenshot = browser.get_screenshot_as_png()
        find("clear").click()
        wait(lambda _: np.array_equal(shown(), photo))

        # The same picture dropped, after a longest side was chosen: the browser scales it.
        browser.execute_script("side.value = 128")
        browser.execute_script(
            """const data = new DataTransfer(), raw = atob(arguments[0]);
            data.items.add(new File([Uint8Array.from(raw, c => c.charCodeAt(0))], "photo.png",
              {type: "image/png"}));
            dispatchEvent(new DragEvent("drop", {dataTransfer: data}));""",
            base64.b64encode((tmp_path / "photo.png").read_bytes()).decode(),
        )
        wait(lambda _: max(shown().shape) == 128)
        assert np.array_equal(shown(), sent(PICTURE)[1][:, :, :3])

        # Its camera: stopped, the last frame sent is the last one shown.
        find("camera").click()
        wait(lambda _: find("camera").get_attribute("aria-pressed") == "true")
        find("record").click()
        wait(lambda _: browser.execute_script("return sent.size") > 20)
        find("record").click()
        find("camera").click()

        def last_frame(_) -> bool:
            number, given = sent(CAMERA)
            if browser.execute_script("return shown.position") != number:
                return False
            made = inpainter(given, mask=np.zeros(given.shape[:2], np.uint8), format="uint8")[0]
            return np.array_equal(shown(), made)

        wait(last_frame)
        wait(lambda _: "live-" in said())
        assert float(find("fps-is").text) > 0
        assert not [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert served.error is None
    assert [path.suffix for path in (tmp_path / "out").iterdir()] == [".mp4"]
    if folder := os.environ.get("FASTGAN_SCREENSHOTS"):
        (Path(folder) / "live-images.png").write_bytes(screenshot)
