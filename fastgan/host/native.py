"""The compiled part of csrc/ for Python, `_native`; None where it is not built."""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

_native: Any = None
with contextlib.suppress(ImportError):
    _native = importlib.import_module("fastgan._native")
