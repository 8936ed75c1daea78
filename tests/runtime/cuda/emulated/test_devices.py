"""What `Device` does with a GPU, and what it leaves as it was."""

from typing import Any

import pytest

from jntrt.runtime.cuda.driver import Device


@pytest.mark.parametrize(("integrated", "chosen", "yields"), [("1", "0", 1), ("1", "1", 0), ("0", "0", 0)])
def test_an_integrated_gpu_is_waited_for_by_yielding(
    monkeypatch: pytest.MonkeyPatch, emulated: Any, integrated: str, chosen: str, yields: int
) -> None:
    """Unless somebody chose another way before; a card of its own keeps CUDA's."""
    monkeypatch.setenv("EMULATED_INTEGRATED", integrated)
    monkeypatch.setenv("EMULATED_FLAGS", chosen)
    before = emulated.calls("flags 2")
    Device().close()
    assert emulated.calls("flags 2") - before == yields
