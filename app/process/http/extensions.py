"""What our server offers to the application beyond ASGI: functions under `extensions` in the scope of a request."""

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

TAKE_BODY = "windowcast.take_body"
"""Returns the body without a wait. The function is there once the whole body is."""

SEND_WHOLE = "windowcast.send_whole"
"""Sends an answer at once, given the status, the headers and the body. Returns False, and sends nothing, where the
answer must take the usual way."""


def take_body(cycle: RequestResponseCycle) -> bytes:
    """Returns the body of a request, which has come as a whole. The application receives nothing more."""
    body, cycle.body = bytes(cycle.body), bytearray()
    return body
