"""A Panda3D scene whose materials a generator paints, live, from another process.

    fastgan stream texture-gravel --size 64x64 --shm /gravel   # in one terminal
    python examples/panda3d_scene.py --shm /gravel     # in another: pip install 'fastgan[examples]'

Left walks backwards, right twice as fast, up as before; space pauses, R takes another seed, escape
ends it. The
producer may be killed and started again meanwhile: the scene goes on with its last frame.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

import numpy as np
from direct.gui.OnscreenText import OnscreenText
from direct.showbase.ShowBase import ShowBase
from panda3d.core import (
    AmbientLight,
    CardMaker,
    DirectionalLight,
    Geom,
    GeomNode,
    GeomTriangles,
    GeomVertexData,
    GeomVertexFormat,
    GeomVertexWriter,
    NodePath,
    PNMImage,
    Point2,
    Point3,
    SamplerState,
    TextNode,
    Texture,
    TextureStage,
    loadPrcFileData,
)

from fastgan import FastganError
from fastgan.realtime import RingFrame, RingReader

#: Axes of a cube's faces: (right, up); out of the face points their cross product.
FACES = [
    ((1, 0, 0), (0, 0, 1)),
    ((-1, 0, 0), (0, 0, 1)),
    ((0, 1, 0), (0, 0, 1)),
    ((0, -1, 0), (0, 0, 1)),
    ((1, 0, 0), (0, 1, 0)),
    ((1, 0, 0), (0, -1, 0)),
]


class LiveTexture:
    """A texture that shows the newest frame of a ring."""

    def __init__(self, reader: RingReader) -> None:
        height, width, channels = reader.shape.sizes
        formats = {1: Texture.F_luminance, 3: Texture.F_rgb, 4: Texture.F_rgba}
        if reader.shape.format != "uint8" or channels not in formats:
            sys.exit(f"the scene shows grey, RGB and RGBA in uint8, not {reader.shape}")
        self.reader = reader
        self.frame: RingFrame | None = None
        self.texture = Texture("live")
        self.texture.setup_2d_texture(width, height, Texture.T_unsigned_byte, formats[channels])
        self.texture.set_magfilter(SamplerState.FT_nearest)
        self.texture.set_minfilter(SamplerState.FT_linear)

    def update(self) -> None:
        """Take the newest frame, if there is a new one; never waits."""
        frame = self.reader.next(timeout=0)
        if frame is not None:
            pixels = frame.pixels[::-1]  # Panda3D's rows go up, and its colours are BGR
            order = [0] if pixels.shape[2] == 1 else [2, 1, 0, 3][: pixels.shape[2]]
            self.texture.set_ram_image(np.ascontiguousarray(pixels[:, :, order]).data)
            self.frame = frame


class Scene(ShowBase):
    """A picture on a wall, two cubes and a floor, all of the one living material."""

    def __init__(self, live: LiveTexture, offscreen: bool) -> None:
        super().__init__(windowType="offscreen" if offscreen else "onscreen")
        self.live, self.frames, self.began = live, 0, 0.0
        self.set_background_color(0.05, 0.05, 0.07)
        self.disable_mouse()
        self.camera.set_pos(0, -6, 1.2)
        self.picture = self.card(1.0, Point3(0, 1, 1.2))
        floor = self.card(4.0, Point3(0, 2, -0.6))
        floor.set_p(-90)
        floor.set_tex_scale(TextureStage.get_default(), 8, 8)
        self.cubes = [cube(self.render) for _ in range(2)]
        for node, x in zip(self.cubes, (-1.65, 1.65), strict=True):
            node.set_pos(x, 0.6, 0.9)
            node.set_scale(0.42)
        for light, strength in ((AmbientLight("all"), 0.35), (DirectionalLight("sun"), 0.9)):
            light.set_color((strength, strength, strength, 1))
            path = self.render.attach_new_node(light)
            path.set_hpr(20, -40, 0)
            for node in self.cubes:
                node.set_light(path)
        for node in (self.picture, floor, *self.cubes):
            node.set_texture(live.texture)
        place = {"pos": (-1.28, 0.9), "scale": 0.06, "fg": (1, 1, 1, 1)}
        self.text = OnscreenText(text="", align=TextNode.A_left, mayChange=True, **place)
        self.task_mgr.add(self.tick, "tick", sort=-1)
        for key, speed in (("arrow_left", -1.0), ("arrow_up", 1.0), ("arrow_right", 2.0)):
            self.accept(key, self.ask_speed, [speed])
        self.accept("r", lambda: self.live.reader.ask(seed=random.getrandbits(32)))
        self.paused = False
        self.accept("space", self.pause)
        self.accept("escape", sys.exit)

    def card(self, half: float, at: Point3) -> NodePath:
        maker = CardMaker("card")
        maker.set_frame(-half, half, -half, half)
        node = self.render.attach_new_node(maker.generate())
        node.set_pos(at)
        return node

    def ask_speed(self, speed: float) -> None:
        self.live.reader.ask(speed=speed)

    def pause(self) -> None:
        self.paused = not self.paused
        self.live.reader.ask(paused=self.paused)

    def tick(self, task):
        self.live.update()
        if self.frames == 0:
            self.began, self.first = time.monotonic(), self.live.frame
        self.frames += 1
        for node, turn in zip(self.cubes, (20, -20), strict=True):
            node.set_hpr(turn * task.time, turn * task.time * 0.7, 0)
        self.text.text = "scene {:.0f} fps, generator {:.0f} fps".format(*self.rates())
        return task.cont

    def rates(self) -> tuple[float, float]:
        """Frames per second of the scene, and of the generator."""
        scene = self.frames / max(1e-9, time.monotonic() - self.began)
        first, last = self.first, self.live.frame
        if first is None or last is None or last.published_ns == first.published_ns:
            return scene, 0.0
        seconds = (last.published_ns - first.published_ns) / 1e9
        return scene, (last.sequence - first.sequence) / seconds

    def corner(self, x: float, z: float) -> Point2:
        """Where on the screen, in pixels from the top left, a point of the picture is."""
        seen, at = Point2(), self.cam.get_relative_point(self.picture, Point3(x, 0, z))
        self.camLens.project(at, seen)
        width, height = self.win.get_x_size(), self.win.get_y_size()
        return Point2((seen.x + 1) / 2 * width, (1 - seen.y) / 2 * height)


def cube(parent: NodePath) -> NodePath:
    data = GeomVertexData("cube", GeomVertexFormat.get_v3n3t2(), Geom.UH_static)
    vertex, normal, uv = (GeomVertexWriter(data, n) for n in ("vertex", "normal", "texcoord"))
    triangles = GeomTriangles(Geom.UH_static)
    for number, (right, up) in enumerate(np.array(FACES)):
        out = np.cross(right, up)
        for u, v in ((0, 0), (1, 0), (1, 1), (0, 1)):
            vertex.add_data3(*(out + (2 * u - 1) * right + (2 * v - 1) * up).tolist())
            normal.add_data3(*out.tolist())
            uv.add_data2(u, v)
        for corners in ((0, 1, 2), (0, 2, 3)):
            triangles.add_vertices(*(4 * number + corner for corner in corners))
    geom = Geom(data)
    geom.add_primitive(triangles)
    node = GeomNode("cube")
    node.add_geom(geom)
    return parent.attach_new_node(node)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shm", default="/gravel", metavar="/NAME", help="the ring")
    parser.add_argument("--offscreen", action="store_true", help="no window, software rendering")
    parser.add_argument("--screenshot", metavar="FILE", help="save one in the end")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="how long")
    options = parser.parse_args()
    try:
        reader = RingReader(options.shm, control=True, timeout=30)
    except FastganError as error:
        sys.exit(str(error))
    settings = "window-title fastgan\nwin-size 960 720\naudio-library-name null\n"
    settings += "notify-level-device fatal\n"
    if options.offscreen:
        settings += "load-display p3tinydisplay\n"
    loadPrcFileData("", settings)
    scene = Scene(LiveTexture(reader), options.offscreen)
    end = time.monotonic() + options.seconds
    while time.monotonic() < end or not scene.rates()[1]:
        scene.task_mgr.step()
    print("scene {:.1f} fps, generator {:.1f} fps".format(*scene.rates()))
    if options.screenshot:
        image = PNMImage()
        scene.win.get_screenshot(image)
        image.remove_alpha()
        image.write(options.screenshot)
        top, bottom = scene.corner(-1, 1), scene.corner(1, -1)
        print(f"frame {scene.live.frame.index}")
        print(f"picture {top.x:.3f} {top.y:.3f} {bottom.x:.3f} {bottom.y:.3f}")


if __name__ == "__main__":
    main()
