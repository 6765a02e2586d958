"""Generators from features, codes, spectra and noise volumes, held to eager PyTorch."""

from __future__ import annotations

import pytest

from tests.networks.families import FROM_THE_REST
from tests.networks.parity import EXPORTERS, PATHS, Exports, check


@pytest.mark.parametrize("name", FROM_THE_REST)
@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize(("backend", "precision"), PATHS)
def test_family(exports: Exports, name: str, exporter: str, backend: str, precision: str) -> None:
    check(exports.get(name, exporter), backend, precision)
