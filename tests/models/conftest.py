"""The exported networks that the tests of one file share."""

from __future__ import annotations

import pytest

from tests.models.image_models import Loaded
from tests.networks.parity import Exports


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """Each network as a file of each exporter, made when it is first asked for."""
    return Exports(tmp_path_factory.mktemp("families"))


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """The models of `image_models`, each loaded when it is first asked for."""
    return Loaded(tmp_path_factory.mktemp("image-models"))
