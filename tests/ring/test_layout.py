"""docs/frames.md, which other languages go by, says what the header does."""

from __future__ import annotations

import re
from pathlib import Path

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
