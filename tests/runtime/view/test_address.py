"""Which Host headers the page answers to, and how an address is told from a source."""

from pathlib import Path

import pytest

from jntrt.runtime.errors import UserError
from jntrt.runtime.view.address import Address, split_address


@pytest.mark.parametrize(
    ("bound", "host", "allowed"),
    [
        ("127.0.0.1", "127.0.0.1:8377", True),
        ("127.0.0.1", "localhost:9000", True),  # ssh -L 9000:…
        ("127.0.0.1", "[::1]:8377", True),
        ("127.0.0.1", "LocalHost", True),
        ("127.0.0.1", "evil.example:8377", False),
        ("127.0.0.1", "localhost.evil.example", False),
        ("127.0.0.1", "192.168.1.5:8377", False),
        ("127.0.0.1", "", False),
        ("::1", "192.168.1.5:8377", False),
        ("192.168.1.5", "192.168.1.5:8377", True),
        ("192.168.1.5", "192.168.1.6:8377", False),
        ("192.168.1.5", "localhost:9000", True),
        ("0.0.0.0", "192.168.1.5:80", True),
        ("0.0.0.0", "evil.example:80", False),
        ("fe80::2", "[fe80::2]:80", True),
    ],
)
def test_hosts(bound: str, host: str, allowed: bool) -> None:
    assert Address(bound, 1).allows(host) is allowed


def test_an_address_among_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert split_address(("a.mp4",)) == (("a.mp4",), Address("127.0.0.1", None))
    assert split_address(("a.mp4", "0.0.0.0:8000")) == (("a.mp4",), Address("0.0.0.0", 8000))
    assert split_address(("[::1]:80", "a.mp4")) == (("a.mp4",), Address("::1", 80))
    assert split_address(("robot.local:80", "0"))[1] == Address("robot.local", 80)
    for clip in ("12:30", "rtsp://10.0.0.1:554", "C:1", "clip.mp4:"):
        assert split_address((clip,)) == ((clip,), Address())
    Path("10.0.0.1:30").touch()
    assert split_address(("10.0.0.1:30",))[0] == ("10.0.0.1:30",)
    with pytest.raises(UserError, match="a port is a number up to 65535"):
        split_address(("0.0.0.0:99999",))
