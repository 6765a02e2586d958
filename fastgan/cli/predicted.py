"""What `fastgan inspect --gpu` prints."""

from __future__ import annotations

from typing import Any

from fastgan.cli import console


def show(facts: dict[str, Any]) -> None:
    """Print them as a table."""
    out = console.out()
    rate, bandwidth = facts["rate"] / 1e12, facts["bandwidth"] / 1e9
    out.print(
        f"floor on a {facts['gpu']} in {facts['precision']}, batch {facts['batch']}, by published "
        f"figures, not measured: {rate:,.1f} TFLOP/s and {bandwidth:,.0f} GB/s "
        f"({facts['source']}); {facts['launch_seconds'] * 1e6:.1f} us a launch (assumed)",
        soft_wrap=True,
    )
    table = console.table("", "op", "fused", "out", "FLOPs", "us", "share", "bound by", left=4)
    for number, step in enumerate(facts["steps"], 1):
        table.add_row(
            str(number),
            step["op"].removeprefix("fastgan.") + (" e4m3" if step["eight_bits"] else ""),
            step["epilogue"].replace(" + ", "\n"),
            " ".join("x".join(map(str, shape)) for shape in step["outputs"]),
            console.number(step["flops"]),
            f"{step['seconds'] * 1e6:.2f}",
            f"{step['share']:.0%}",
            step["bound"],
        )
    out.print(table)
    waits = {
        name: sum(s["share"] for s in facts["steps"] if s["bound"] == name)
        for name in ("compute", "memory", "launch")
    }
    bounds = ", ".join(f"{share:.0%} {name}" for name, share in waits.items() if share)
    speed = facts["images_per_second"]
    out.print(
        f"{facts['seconds'] * 1e6:,.1f} us at the least ({bounds}), so at most "
        f"{'any number of' if speed is None else f'{speed:,.0f}'} images/s; "
        f"{facts['share_of_roofline']:.0%} of the whole network's roofline",
        soft_wrap=True,
    )
