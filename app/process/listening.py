"""The sockets that a server listens on."""

import errno
import socket
from typing import Any

from app.errors import AddressError

LACKING = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
"""Errors of an address whose family the machine lacks, as `localhost` has one where there is no IPv6."""


def bind(host: str, port: int) -> list[socket.socket]:
    """Binds every address that a host name stands for. Nobody can connect before a server listens there.

    Args:
        host: A name or an address; empty for all addresses of this machine.
        port: The port, or 0 for a free one.

    Raises:
        AddressError: The name is unknown, an address cannot be used, or another process listens on it.
    """
    sockets: list[socket.socket] = []
    lacking = OSError("the name has no address")
    try:
        for family, kind, protocol, _, address in set(_addresses(host, port)):
            try:
                sockets.append(_bound(family, kind, protocol, address))
            except OSError as error:
                if error.errno not in LACKING:
                    raise
                lacking = error
        if not sockets:
            raise lacking
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise AddressError(host, port, error) from error
    return sockets


def _addresses(host: str, port: int) -> list[Any]:
    return socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)


def _bound(family: int, kind: int, protocol: int, address: Any) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # the addresses of IPv4 have sockets of their own
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
