"""An OpenGL context without a window."""

from __future__ import annotations

from typing import Any

import pytest

moderngl = pytest.importorskip("moderngl", reason="moderngl is not installed")


def opened() -> Any:
    """A context by EGL, in software or on a GPU; compute cards without a display may have it."""
    try:
        return moderngl.create_context(standalone=True, backend="egl")
    except Exception as error:
        pytest.skip(f"no OpenGL without a window: {error} (apt install libegl1 libgl1-mesa-dri)")
