"""Makes `fastgan` and `fastgan.kernels` importable from a checkout that is not installed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

#: What a process of the evidence ends with whose GPU has failed: another one goes on.
LOST = 70

ROOT = Path(__file__).resolve().parents[2]


def arrange() -> None:
    """Does nothing where fastgan is installed."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    import fastgan

    if importlib.util.find_spec("fastgan.kernels") is not None:
        return
    folder = ROOT / "kernels"
    spec = importlib.util.spec_from_file_location(
        "fastgan.kernels", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fastgan.kernels"] = module
    spec.loader.exec_module(module)
    fastgan.kernels = module  # type: ignore[attr-defined]
