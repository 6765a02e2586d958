"""docs/frames.md, which other languages go by, says what the header does."""

from __future__ import annotations

import mmap
import re
import time
from pathlib import Path
from uuid import uuid4

import numpy as np

from fastgan.realtime import RingWriter
from tests import drawing
from tests.ring.conftest import ROOT, Compile

ROW = re.compile(r"^\| (\d+) \| (\d+) \| `([\w.]+)` \|", re.MULTILINE)


def test_the_documented_layout_is_the_headers(compile_c: Compile, tmp_path: Path) -> None:
    header, slot = (ROOT / "docs" / "frames.md").read_text().split("| slot field |")
    lines = ['#include "fastgan_frames.h"']
    for text, struct in ((header, "fg_header"), (slot, "fg_slot")):
        rows = ROW.findall(text)
        assert len(rows) >= 6
        for offset, size, field in rows:
            lines.append(f"FG_ASSERT(offsetof({struct}, {field}) == {offset});")
            lines.append(f"FG_ASSERT(sizeof((({struct} *)0)->{field}) == {size});")
    source = tmp_path / "layout.c"
    source.write_text("\n".join([*lines, "int main(void) { return 0; }\n"]))
    compile_c(source)
    everything = (ROOT / "csrc" / "include" / "fastgan_frames.h").read_text()
    named = {field.rpartition(".")[2] for _, _, field in ROW.findall(header + slot)}
    for struct in ("fg_shape", "fg_control", "fg_cuda", "fg_header", "fg_slot"):
        body = re.search(rf"typedef struct {struct} \{{(.*?)\n\}} {struct};", everything, re.DOTALL)
        assert body is not None
        code = re.sub(r"//.*", "", body[1])
        for words in re.findall(r"(?:u?int\d+_t|float) ([^;]+);", code):
            for field in re.split(r",\s*", words):
                field = field.partition("[")[0].strip()
                assert field in named or field.startswith("reserved"), f"{field} is not documented"


def test_a_reader_that_knows_the_documentation_alone() -> None:
    """Written after docs/frames.md, as one in another language would be."""
    header, slot = (ROOT / "docs" / "frames.md").read_text().split("| slot field |")
    places = {name: (int(at), int(size)) for at, size, name in ROW.findall(header)}
    in_slot = {name: (int(at), int(size)) for at, size, name in ROW.findall(slot)}
    name = f"fastgan-test-{uuid4().hex[:12]}"
    rng = drawing.new_numpy()
    with RingWriter(f"/{name}", 9, 14, 3, slots=3, fps=50, seed=77, speed=0.5) as writer:
        with Path("/dev/shm", name).open("rb") as file:
            memory = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)

        def word(where: tuple[int, int], base: int = 0) -> int:
            return int.from_bytes(memory[base + where[0] : base + sum(where)], "little")

        def field(name: str) -> int:
            return word(places[name])

        assert memory[:8] == b"FGFRAMES"
        assert (field("version"), field("segment_bytes")) == (1, len(memory))
        assert len(memory) == field("header_bytes") + field("slots") * field("slot_bytes")
        sizes = tuple(field(f"shape.{key}") for key in ("height", "width", "channels", "type"))
        assert sizes == (9, 14, 3, 1)
        assert field("shape.frame_bytes") == 9 * 14 * 3
        assert field("interval_ns") == 20_000_000
        assert field("state") == 1
        assert np.array(field("control.speed"), np.uint64).view(np.float64) == 0.5
        for sequence in range(1, 8):
            wanted = rng.integers(0, 256, (9, 14, 3), dtype=np.uint8)
            before = time.monotonic_ns()
            writer.write(wanted, 1000 + sequence, before)
            assert field("published") == sequence
            base = field("header_bytes") + (sequence - 1) % field("slots") * field("slot_bytes")
            assert word(in_slot["stamp"], base) == 2 * sequence
            assert word(in_slot["index"], base) == 1000 + sequence
            assert word(in_slot["seed"], base) == 77
            assert word(in_slot["produced_ns"], base) == before
            assert before <= word(in_slot["published_ns"], base) <= time.monotonic_ns()
            pixels = base + field("slot_header_bytes")
            found = np.frombuffer(memory[pixels : pixels + 9 * 14 * 3], np.uint8)
            np.testing.assert_array_equal(found.reshape(9, 14, 3), wanted)
    assert field("state") == 2


def test_the_header_is_where_compilers_are_sent() -> None:
    from fastgan.realtime import include_dir

    assert (include_dir() / "fastgan_frames.h").is_file()
