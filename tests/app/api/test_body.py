"""Bodies that are too large, too slow, or not what they say, over bare connections."""

import asyncio
import gzip
import os
import socket
import zlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect

from app.api.body import PIECE_BYTES, BodyLimit, content_encoding, declared_type, inflate, read_body
from app.errors import BodyTimeout, BodyTooLarge, MalformedBody, UnsupportedEncoding, UnsupportedMediaType
from app.payloads.sizes import NO_WINDOWS, Extent, Largest
from app.serving.room import Room
from tests.app.in_process import Application
from tests.loops import HeldLoop, run_in_held_loop
from tests.servers import connect, is_closed, read_answer

HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


@pytest.mark.parametrize("length", [4097, 10**12, 2**63 - 1])
def test_a_declared_length_beyond_the_limit_is_refused_before_the_body_is_sent(length: int, strict_port: int) -> None:
    with connect(strict_port) as sock:
        sock.sendall(HEAD + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % length)
        assert sock.recv(12, 2) == b"HTTP/1.1 413", "not 100 Continue"
        answer = read_answer(sock)
        problem = orjson.loads(answer.read())
    assert answer.status == 413
    assert problem["detail"] == "The body is larger than the 4096 bytes this service takes; send fewer windows."
    assert answer.getheader("X-Windowcast-Model") == "default"


FORECASTS = ["/predict", "/predict/batch", "/v1/models/default:predict", "/v2/models/default/infer"]


@pytest.mark.parametrize("path", FORECASTS)
@pytest.mark.parametrize("media_type", [b"json", b"x-npy"])
def test_a_body_beyond_what_the_model_can_need_is_refused_before_it_is_sent(
    path: str, media_type: bytes, port: int
) -> None:
    """The model needs a few hundred bytes of the 16 MiB that the service takes."""
    head = HEAD.replace(b"/predict", path.encode()).replace(b"json", media_type)
    with connect(port) as sock:
        sock.sendall(head + b"Content-Length: 100000\r\nExpect: 100-continue\r\n\r\n")
        assert sock.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 413", "not 100 Continue"
        assert b"bytes of the largest request here: " in read_answer(sock).read()


@pytest.mark.parametrize("path", FORECASTS)
def test_a_body_in_chunks_beyond_what_the_model_can_need_is_refused_when_it_is_that_large(path: str, port: int) -> None:
    with connect(port) as sock:
        sock.sendall(HEAD.replace(b"/predict", path.encode()) + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(2):
            sock.sendall(chunk(b" " * 50_000))
        assert read_answer(sock).status == 413, "although more might follow"


def test_a_client_that_asks_first_is_told_to_go_on(port: int) -> None:
    body = b'{"window": [[1, 0], [2, 0], [3, 0], [6, 0]]}'
    with connect(port) as sock:
        sock.sendall(HEAD + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(body))
        assert sock.recv(12, 2) == b"HTTP/1.1 100"
        sock.sendall(body)
        assert read_answer(sock).status == 200


def test_an_undeclared_length_beyond_the_limit_is_refused_when_it_is_reached(strict_port: int) -> None:
    with connect(strict_port) as sock:
        sock.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(5):
            sock.sendall(chunk(b" " * 1000))
        assert read_answer(sock).status == 413


def test_a_chunked_body_is_taken(port: int) -> None:
    with connect(port) as sock:
        sock.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        sock.sendall(chunk(b'{"window": [[1, 0], [2, 0],') + chunk(b"[3, 0], [6, 0]]}") + b"0\r\n\r\n")
        assert read_answer(sock).status == 200


@pytest.mark.parametrize(
    ("framing", "start"),
    [(b"Content-Length: 100\r\n", b"{"), (b"Transfer-Encoding: chunked\r\n", chunk(b"{"))],
)
def test_a_body_that_does_not_end_in_time_is_refused_and_its_connection_closed_at_once(
    framing: bytes, start: bytes, strict_service: Application, strict_port: int
) -> None:
    with connect(strict_port) as sock:
        sock.sendall(HEAD + framing + b"Expect: 100-continue\r\n\r\n")
        assert sock.recv(len(CONTINUE), socket.MSG_WAITALL) == CONTINUE, "the body is being waited for"
        sock.sendall(start)
        strict_service.loop.advance()
        answer = read_answer(sock)
        problem = orjson.loads(answer.read())
        assert (answer.status, problem["detail"]) == (408, "The body did not arrive within 10000 seconds.")
        assert is_closed(sock)


def test_a_body_that_trickles_is_refused() -> None:
    async def read_slowly(loop: HeldLoop) -> bytes:
        async def receive() -> dict[str, Any]:
            received.append(b" ")
            await loop.skip(4)
            return {"type": "http.request", "body": b" ", "more_body": True}

        return await read_body({}, receive, BodyLimit(1000, lambda: NO_WINDOWS), Room(1000), 10)

    received: list[bytes] = []
    with pytest.raises(BodyTimeout):
        run_in_held_loop(read_slowly)
    assert len(received) == 3


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: 1e3\r\n\r\n",
        b"Content-Length: 99999999999999999999999\r\n\r\n",
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n",
    ],
)
def test_framing_that_could_be_read_in_two_ways_is_refused(framing: bytes, port: int) -> None:
    with connect(port) as sock:
        sock.sendall(HEAD + framing)
        assert read_answer(sock).status == 400


def read(*messages: dict[str, Any], headers: dict[bytes, bytes] | None = None) -> bytes:
    """Reads a body of ASGI messages, of at most 10 bytes."""

    async def receive() -> dict[str, Any]:
        return next(remaining)

    remaining = iter(messages)
    return asyncio.run(read_body(headers or {}, receive, BodyLimit(10, lambda: NO_WINDOWS), Room(10), 60))


def test_pieces_are_joined() -> None:
    assert (
        read({"type": "http.request", "body": b"[1,", "more_body": True}, {"type": "http.request", "body": b"2]"})
        == b"[1,2]"
    )


def test_the_limit_itself_is_taken_and_a_byte_more_is_not() -> None:
    assert len(read({"type": "http.request", "body": b"x" * 10})) == 10
    with pytest.raises(BodyTooLarge):
        read({"type": "http.request", "body": b"x" * 11})
    with pytest.raises(BodyTooLarge):
        read(headers={b"content-length": b"11"})


def test_the_headers_are_judged_before_a_byte_is_read() -> None:
    with pytest.raises(UnsupportedMediaType):
        declared_type({b"content-type": b"text/csv"})


def test_a_client_that_leaves_is_noticed() -> None:
    with pytest.raises(ClientDisconnect):
        read({"type": "http.request", "body": b"[", "more_body": True}, {"type": "http.disconnect"})


PLAIN = b"the body " * 100

ENCODINGS = st.sampled_from(["gzip", "deflate"])


@pytest.mark.parametrize(
    ("encoding", "encoded"),
    [
        (b"gzip", gzip.compress(PLAIN, mtime=0)),
        (b"x-gzip", gzip.compress(PLAIN, mtime=0)),
        (b"GZIP ", gzip.compress(PLAIN[:9], mtime=0) + gzip.compress(PLAIN[9:], mtime=0)),
        (b"deflate", zlib.compress(PLAIN)),
        (b"identity", PLAIN),
        (b"", PLAIN),
        (None, PLAIN),
    ],
)
def test_an_encoded_body_is_read_as_it_was(encoding: bytes | None, encoded: bytes) -> None:
    declared = content_encoding({} if encoding is None else {b"content-encoding": encoding})
    assert (encoded if declared is None else inflate(declared, encoded, len(PLAIN))) == PLAIN


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_streams_of_any_size_are_read_one_after_another(compress: Callable[[bytes], bytes]) -> None:
    noise = np.random.default_rng(0).bytes(3 * PIECE_BYTES)
    cuts = [0, 0, 1, PIECE_BYTES - 40, PIECE_BYTES, 2 * PIECE_BYTES + 1, len(noise)]
    encoded = b"".join(compress(noise[start:end]) for start, end in pairwise(cuts))
    assert inflate("gzip" if compress is gzip.compress else "deflate", encoded, len(noise)) == noise


@pytest.mark.parametrize("encoding", [b"br", b"gzip, deflate", b"identity, identity", b"zstd"])
def test_other_encodings_are_refused(encoding: bytes) -> None:
    with pytest.raises(UnsupportedEncoding):
        content_encoding({b"content-encoding": encoding})


@pytest.mark.parametrize(
    ("encoding", "encoded"),
    [
        ("gzip", PLAIN),
        ("gzip", zlib.compress(PLAIN)),
        ("gzip", gzip.compress(PLAIN, mtime=0)[:-1]),
        ("gzip", gzip.compress(PLAIN, mtime=0) + b"x"),
        ("gzip", gzip.compress(PLAIN, mtime=0)[:-8] + bytes(8)),
        ("deflate", gzip.compress(PLAIN, mtime=0)),
        ("deflate", zlib.compress(PLAIN)[:-4]),
        ("gzip", b""),
    ],
)
def test_a_body_that_is_not_encoded_as_it_says_is_malformed(encoding: str, encoded: bytes) -> None:
    with pytest.raises(MalformedBody):
        inflate(encoding, encoded, 1000)


@given(content=st.binary(max_size=200), garbled=st.binary(max_size=9), place=st.integers(0, 200), encoding=ENCODINGS)
@settings(max_examples=500)
def test_whatever_comes_encoded_is_read_or_refused(content: bytes, garbled: bytes, place: int, encoding: str) -> None:
    encoded = gzip.compress(content) if encoding == "gzip" else zlib.compress(content)
    for body in (content, encoded, encoded[:place] + garbled + encoded[place + len(garbled) :]):
        try:
            inflated = inflate(encoding, body, 1000)
        except MalformedBody:
            inflated = None
        assert inflated is None or len(inflated) <= 1000


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_body_of_thousands_of_streams_is_refused_after_the_first_ones(
    encoding: str, compress: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every stream costs a call, and a copy of what follows: a body of empty ones once took minutes."""

    def count(window_bits: int) -> Any:
        streams.append(window_bits)
        return inflater_of(window_bits)

    streams: list[int] = []
    inflater_of = zlib.decompressobj
    monkeypatch.setattr(zlib, "decompressobj", count)
    assert inflate(encoding, compress(b"") * 255 + compress(PLAIN), 1000) == PLAIN
    streams.clear()
    with pytest.raises(MalformedBody, match="of at most 256 streams"):
        inflate(encoding, compress(b"") * 50_000, 1000)
    assert len(streams) == 256


def test_a_body_is_inflated_in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each piece zlib copies what follows a stream."""

    class Noted:
        def __init__(self, window_bits: int) -> None:
            self._inflater = inflater_of(window_bits)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inflater, name)

        def decompress(self, piece: bytes, max_bytes: int) -> bytes:
            sizes.append(len(piece))
            inflated: bytes = self._inflater.decompress(piece, max_bytes)
            return inflated

    sizes: list[int] = []
    inflater_of: Any = zlib.decompressobj
    monkeypatch.setattr(zlib, "decompressobj", Noted)
    plain = os.urandom(1_000_000)
    assert inflate("gzip", gzip.compress(plain), len(plain)) == plain
    assert max(sizes) == 64 * 1024


@pytest.mark.parametrize("streams", [1, 2, 100])
def test_a_small_body_that_becomes_too_large_is_refused(streams: int) -> None:
    bomb = gzip.compress(bytes(10_000_000 // streams)) * streams
    assert inflate("gzip", bomb, 999_999) is None


def test_a_body_is_bounded_by_the_service_and_by_the_largest_request() -> None:
    largest = Largest("1 window of 8 numbers", Extent(bytes=100))
    for service_bytes, limit, text in (
        (4096, 4096, "The body is larger than the 4096 bytes this service takes; send fewer windows."),
        (10**6, 65636, "The body is larger than the 65636 bytes of the largest request here: 1 window of 8 numbers."),
    ):
        bound = BodyLimit(service_bytes, lambda: largest)
        assert bound.max_bytes == limit
        bound.check(limit)
        for size in (limit + 1, 10**12):
            with pytest.raises(BodyTooLarge) as refused:
                bound.check(size)
            assert refused.value.detail == text


def test_the_largest_request_is_worked_out_for_large_bodies_only() -> None:
    def work_out() -> Largest:
        raise AssertionError

    BodyLimit(10**6, work_out).check(64 * 1024)
    with pytest.raises(AssertionError):
        BodyLimit(10**6, work_out).check(64 * 1024 + 1)
