"""The clients that the kernel has connected, and the server has not accepted yet, at the moment of a stop.

Closing a listener resets them. So the server first has the kernel connect nobody new, then accepts everybody, then
closes.
"""

import ctypes
import socket
import struct
import sys
from contextlib import suppress

HANDSHAKE_SECONDS = 0.1
"""Time for a client that was half connected to finish its handshake."""

_SO_ATTACH_FILTER = 26
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte with TCP's flags
    (0x45, 0, 1, 0x02),  # unless SYN is set, skip the next line
    (0x06, 0, 0, 0),  # drop the packet
    (0x06, 0, 0, 0xFFFFFFFF),  # let it pass
)
"""A classic BPF program: (operation, jump if true, jump if false, operand) a line. Source: Linux' networking/filter."""


def ignore_new_clients(listener: socket.socket) -> None:
    """Makes Linux drop requests for a connection. Their senders ask again within a second, and are refused by then.

    Without the filter the kernel can connect a client after the last `accept`, and the close resets that client.
    """
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(struct.pack("HBBI" * len(_DROP_SYN), *sum(_DROP_SYN, ())))
    option = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(program))
    with suppress(OSError):  # a kernel, or a sandbox in its place, may lack it
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, option)


def close_when_empty(listener: socket.socket) -> list[socket.socket]:
    """Accepts every client that waits, closes the listener, and returns the connections."""
    connections = []
    listener.setblocking(False)
    with listener:
        while True:
            try:
                connections.append(listener.accept()[0])
            except OSError:
                return connections
