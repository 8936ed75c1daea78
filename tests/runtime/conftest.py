"""Bundles that several test modules share."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from jntrt.runtime.bundle import Bundle, open_bundle

NETWORKS = {"ostrack": "ostrack256_ce", "jn": "jn256_ce"}


@pytest.fixture(scope="session", params=NETWORKS)
def golden_loop_bundle(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Bundle]:
    """A golden loop's name and the bundle of its network."""
    from golden_bundles import export_golden  # needs torch, which most tests of the runtime do without

    network = NETWORKS[request.param]
    return request.param, export_golden(network, tmp_path_factory.mktemp("bundles") / network)


@pytest.fixture(scope="session")
def small_bundle() -> Path:
    """A small JN bundle for one target: the packaged jn-nano."""
    return open_bundle("jn-nano").path


@pytest.fixture(scope="session")
def pair_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small JN bundle for two targets."""
    from golden_bundles import export_golden

    return export_golden("jn256_ce", tmp_path_factory.mktemp("bundles") / "pair", batch=2).path
