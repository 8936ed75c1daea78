"""A tiny bundle and sequences for the calibration's tests."""

import shutil
from pathlib import Path

import pytest

from jntrt.runtime.bundle import Bundle

from .tiny_tracker import tiny_recipe, write_sequences, write_tiny


@pytest.fixture(scope="session")
def sequences(tmp_path_factory) -> Path:
    return write_sequences(tmp_path_factory.mktemp("sequences"))


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory) -> Bundle:
    """Leave it as it is."""
    return write_tiny(tmp_path_factory.mktemp("bundle") / "tiny", tiny_recipe())


@pytest.fixture
def bundle(tiny_bundle, tmp_path) -> Bundle:
    """A copy to change."""
    shutil.copytree(tiny_bundle.path, tmp_path / "bundle")
    return Bundle.open(tmp_path / "bundle")
