"""Bundles that several test modules share."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from golden_bundles import export_golden
from jntrt.runtime.bundle import Bundle

NETWORKS = {"ostrack": "ostrack256_ce", "jn": "jn256_ce"}


@pytest.fixture(scope="session", params=NETWORKS)
def golden_loop_bundle(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Bundle]:
    """A golden loop's name and the bundle of its network."""
    network = NETWORKS[request.param]
    return request.param, export_golden(network, tmp_path_factory.mktemp("bundles") / network)
