"""Where the page is served, and whom a request may come from."""

import ipaddress
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from jntrt.runtime.errors import UserError

DEFAULT_PORT = 8377
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
# A dot, a bracket or localhost is asked for, so that a clip's name such as 12:30 is no address.
_ADDRESS = re.compile(r"(localhost|[\w-]+(?:\.[\w-]+)+|\[[0-9a-fA-F:.]+\]):(\d{1,5})")


@dataclass(frozen=True)
class Address:
    """Host and port to listen on. Port None: `DEFAULT_PORT`, or any free one where that is taken."""

    host: str = "127.0.0.1"
    port: int | None = None

    def allows(self, host: str) -> bool:
        """Whether a request's Host (a name with or without a port) is one that this server answers to.

        Names of the loopback always, on every port, since a tunnel changes it. A name that points here only
        because its owner's DNS says so never: that is how a web page would reach a local server.
        """
        name = re.sub(r":\d*$", "", host.lower())
        if name in _LOOPBACK:
            return True
        if self.is_loopback:
            return False
        if name == _bracketed(self.host) or name in (socket.gethostname().lower(), socket.getfqdn().lower()):
            return True
        return self._is_everywhere and _is_ip(name.strip("[]"))

    @property
    def is_loopback(self) -> bool:
        return self.host == "localhost" or (_is_ip(self.host) and ipaddress.ip_address(self.host).is_loopback)

    @property
    def shown(self) -> str:
        """The host as a browser is told it."""
        return socket.gethostname() if self._is_everywhere else _bracketed(self.host)

    @property
    def _is_everywhere(self) -> bool:
        return _is_ip(self.host) and ipaddress.ip_address(self.host).is_unspecified


def split_address(words: tuple[str, ...]) -> tuple[tuple[str, ...], Address]:
    """`trtrun clip.mp4 --view 0.0.0.0:8000`: the sources, and the address among them where there is one.

    A name that exists is a source. UserError for a port that there is not.
    """
    sources, address = [], Address()
    for word in words:
        match = None if Path(word).exists() else _ADDRESS.fullmatch(word)
        if match is None:
            sources.append(word)
        elif int(match[2]) > 65535:
            raise UserError(f"--view {word}: a port is a number up to 65535")
        else:
            address = Address(match[1].strip("[]").lower(), int(match[2]))
    return tuple(sources), address


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
