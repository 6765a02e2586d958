"""Each network is planned as its golden file says; `make plans` writes them anew."""

from __future__ import annotations

import difflib

import pytest

from tests.plans import golden


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", golden.NAMES)
def test_the_plan_is_the_golden_one(name: str) -> None:
    file = golden.path(name)
    held, made = file.read_text() if file.exists() else "", golden.plans(name)
    if made != held:
        changes = difflib.unified_diff(
            held.splitlines(), made.splitlines(), f"{file.name}, golden", "made now", lineterm=""
        )
        pytest.fail(
            "\n".join((*changes, "", "if this is what you meant: make plans, and commit them")),
            pytrace=False,
        )


def test_no_golden_plan_is_of_what_is_gone() -> None:
    assert not list(golden.stale())
