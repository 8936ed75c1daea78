"""A small network's bundle, as export-jn writes it."""

from pathlib import Path

import pytest

from .export_jn import TINY, TINY_YAML, export_jn


@pytest.fixture(scope="module")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    assert export_jn(TINY, "-o", folder, "--config", TINY_YAML) == 0
    return folder
