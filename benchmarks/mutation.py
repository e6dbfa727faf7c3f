"""Turns right requests into odd ones: bytes, values, headers, paths, queries and framings that nobody should send.

Every odd request follows from a seed and its number, so a single one can be made again.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from benchmarks.wire import Case

HEAD_END = b"\r\n\r\n"
FIRST_ERROR = 400
RIGHT_SHARE = 0.8
"""How many of the odd requests are made from a request that would be answered."""
MAX_FLIPS = 8
MAX_RANDOM_BYTES = 64
MAX_REPEATS = 300
METHODS = b"GET HEAD PUT DELETE OPTIONS PATCH TRACE CONNECT get PURGE \xff ".split(b" ")
VERSIONS = b"HTTP/1.0 HTTP/0.9 HTTP/2.0 HTTP/1.2 HTTP/11 http/1.1 ICAP/1.0 ".split(b" ")
VALUES = [
    *rb"""NaN Infinity -Infinity 1e999 -1e-999 1e39 -0 0.0 1_000 0x10 1. .5 null true "1" "" [] {} [[]] [1,"a"] ,
    9223372036854775808 -9223372036854775809 "\ud800" "\u0000" /**/1""".split(),
    *(b"9" * 400, b"1e" + b"9" * 400, b"0." + b"1" * 5000, b'"\xff"', b"[" * 2000, b"1 2"),
]
NAMES = b"window windows records instances inputs outputs parameters data shape ".split(b" ")
PARTS = [*rb"%00 %2e%2e %2F %5c % %zz %ff%fe .. // \ ;a=b %25 * {} :".split(), b"\x00"]
QUERIES = [
    *b"? ?& ?model ?model= ?version=-1 ?version=1e3 ?label=%00 ?model=default&model=flat ?model=%ff".split(),
    *b"?version=1;label=x ?? ?% #x".split(),
    *(b"?version=" + b"9" * 5000, b"?" + b"a=b&" * 1000),
]
HEADERS = [
    *b"""Content-Type: application/x-npy
Content-Type: application/json; charset=utf-16
Content-Type:
Accept: */*;q=
Accept: application/x-npy;q=nan
Accept-Encoding: gzip;q=inf, deflate
Content-Encoding: gzip
Content-Encoding: gzip, gzip
Content-Encoding: deflate
Content-Encoding: \xff
Content-Length: 0
Content-Length: +5
Content-Length: 0x10
Content-Length: 1e3
Content-Length: 99999999999999999999
Transfer-Encoding: chunked
Transfer-Encoding: identity
Transfer-Encoding: gzip, chunked
Transfer-Encoding:\tchunked
Expect: 100-continue
Expect: 200-ok
Upgrade: h2c
Connection: close
Connection: keep-alive, close
Host: \xff
Inference-Header-Content-Length: 5
Inference-Header-Content-Length: -5
Inference-Header-Content-Length: x
Authorization: Bearer \xff
Authorization: Basic Og==
Authorization:
X-Request-Id: a b\tc
If-None-Match: *
Range: bytes=0-
X-Forwarded-For: \xff
 folded: line
No-Colon
: no name
A\x00B: c
A: b\rC: d
\r""".split(b"\n"),
    *(b"Host: a\r\nHost: b", b"Connection: upgrade\r\nUpgrade: websocket", b"Cookie: " + b"a=b;" * 999),
    *(b"Inference-Header-Content-Length: " + b"9" * 5000, b"X-Request-Id: " + b"x" * 5000, b"A: " + b"a" * 70_000),
]
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
NAME = re.compile(rb'"\w+"')


@dataclass(frozen=True, slots=True)
class Parts:
    """A request in parts, or what is left of it."""

    method: bytes
    target: bytes
    version: bytes
    headers: tuple[bytes, ...]
    body: bytes

    @classmethod
    def of(cls, request: bytes) -> "Parts":
        """Takes a request apart that is well formed at least as far as its request line has three parts."""
        head, _, body = request.partition(HEAD_END)
        line, *headers = head.split(b"\r\n")
        method, _, rest = line.partition(b" ")
        target, _, version = rest.partition(b" ")
        return cls(method, target, version, tuple(headers), body)

    def join(self) -> bytes:
        """Puts the request together as it is."""
        return b"\r\n".join([b" ".join([self.method, self.target, self.version]), *self.headers]) + HEAD_END + self.body

    def with_body(self, body: bytes) -> "Parts":
        """Returns the request with another body, whose length is right unless it comes in chunks."""
        headers = tuple(
            b"Content-Length: %d" % len(body) if header.lower().startswith(b"content-length:") else header
            for header in self.headers
        )
        return replace(self, headers=headers, body=body)


@dataclass(frozen=True, slots=True)
class Odd:
    """An odd request.

    Attributes:
        name: From what it was made, and how.
        request: The bytes to be sent.
        number: Its number.
    """

    name: str
    request: bytes
    number: int


def make_odd(cases: Sequence[Case], seed: int, number: int) -> Odd:
    """Makes the odd request of a number."""
    chance = random.Random(f"{seed} {number}")  # noqa: S311 (no secret)
    right = [case for case in cases if case.status < FIRST_ERROR]
    case = chance.choice(right if chance.random() < RIGHT_SHARE else cases)
    ways = chance.sample(list(WAYS), chance.choice((1, 1, 1, 2, 3)))
    request = case.request
    for way in ways:
        request = WAYS[way](chance, request)
    return Odd(f"{case.name}, {' and '.join(ways)}", request, number)


Chance = random.Random


def _flip(chance: Chance, data: bytes) -> bytes:
    """Changes some bytes."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, MAX_FLIPS) if changed else 0):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def _cut(chance: Chance, data: bytes) -> bytes:
    return data[: chance.randint(0, len(data))]


def _drop(chance: Chance, data: bytes) -> bytes:
    """Leaves out a slice."""
    start, end = sorted(chance.randint(0, len(data)) for _ in range(2))
    return data[:start] + data[end:]


def _repeat(chance: Chance, data: bytes) -> bytes:
    """Repeats a short slice."""
    start = chance.randint(0, len(data))
    piece = data[start : start + chance.randint(1, MAX_RANDOM_BYTES)]
    return data[:start] + piece * chance.randint(1, MAX_REPEATS) + data[start:]


def _insert(chance: Chance, data: bytes) -> bytes:
    """Inserts random bytes."""
    start = chance.randint(0, len(data))
    return data[:start] + chance.randbytes(chance.randint(1, MAX_RANDOM_BYTES)) + data[start:]


def _replace_number(chance: Chance, data: bytes) -> bytes:
    return _replace_match(chance, data, NUMBER, chance.choice(VALUES))


def _replace_name(chance: Chance, data: bytes) -> bytes:
    return _replace_match(chance, data, NAME, b'"%b"' % chance.choice(NAMES))


def _replace_match(chance: Chance, data: bytes, pattern: re.Pattern[bytes], value: bytes) -> bytes:
    matches = list(pattern.finditer(data))
    if not matches:
        return data + value
    match = chance.choice(matches)
    return data[: match.start()] + value + data[match.end() :]


def _in_body(way: Callable[[Chance, bytes], bytes]) -> Callable[[Chance, bytes], bytes]:
    """Applies a way to the body alone. The length in the head follows."""

    def apply(chance: Chance, request: bytes) -> bytes:
        parts = Parts.of(request)
        return parts.with_body(way(chance, parts.body)).join()

    return apply


def _change_method(chance: Chance, request: bytes) -> bytes:
    return replace(Parts.of(request), method=chance.choice(METHODS)).join()


def _change_version(chance: Chance, request: bytes) -> bytes:
    return replace(Parts.of(request), version=chance.choice(VERSIONS)).join()


def _mangle_path(chance: Chance, request: bytes) -> bytes:
    parts = Parts.of(request)
    start = chance.randint(0, len(parts.target))
    end = min(len(parts.target), start + chance.randint(0, 4))
    return replace(parts, target=parts.target[:start] + chance.choice(PARTS) + parts.target[end:]).join()


def _quote_path(chance: Chance, request: bytes) -> bytes:
    """Writes some bytes of the path with percent signs, which is the same path."""
    parts = Parts.of(request)
    quoted = b"".join(b"%%%02x" % byte if chance.random() < 0.3 else bytes([byte]) for byte in parts.target)
    return replace(parts, target=quoted).join()


def _add_query(chance: Chance, request: bytes) -> bytes:
    parts = Parts.of(request)
    return replace(parts, target=parts.target + chance.choice(QUERIES)).join()


def _add_header(chance: Chance, request: bytes) -> bytes:
    parts = Parts.of(request)
    place = chance.randint(0, len(parts.headers))
    headers = (*parts.headers[:place], chance.choice(HEADERS), *parts.headers[place:])
    return replace(parts, headers=headers).join()


def _replace_header(chance: Chance, request: bytes) -> bytes:
    """Replaces all headers of a name."""
    parts = Parts.of(request)
    header = chance.choice(HEADERS)
    name = header.partition(b":")[0].lower()
    others = tuple(other for other in parts.headers if other.partition(b":")[0].lower() != name)
    return replace(parts, headers=(*others, header)).join()


def _drop_header(chance: Chance, request: bytes) -> bytes:
    parts = Parts.of(request)
    place = chance.randrange(len(parts.headers)) if parts.headers else 0
    return replace(parts, headers=parts.headers[:place] + parts.headers[place + 1 :]).join()


def _chunk(chance: Chance, request: bytes) -> bytes:
    """Sends the body in chunks, one of which may be odd."""
    parts = Parts.of(request)
    headers = [header for header in parts.headers if not header.lower().startswith(b"content-length:")]
    size = chance.randint(1, 1000)
    chunks = [parts.body[start : start + size] for start in range(0, len(parts.body), size)]
    lines = [b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks] + [b"0\r\n\r\n"]
    if chance.random() < 0.5:
        odd = (
            b"-1\r\n",
            b"fffffffffffffffff\r\n",
            b"5;a=b\r\nabcde\r\n",
            b"zz\r\n",
            b"0\r\nA: b\r\n\r\n",
            b"1\r\nab\r\n",
            b"\r\n",
        )
        lines.insert(chance.randint(0, len(lines)), chance.choice(odd))
    return replace(parts, headers=(*headers, b"Transfer-Encoding: chunked"), body=b"".join(lines)).join()


def _double(_chance: Chance, request: bytes) -> bytes:
    """Sends the request twice without waiting for the first answer."""
    return request + request


def _end_lines_alone(_chance: Chance, request: bytes) -> bytes:
    """Ends the lines of the head with a line feed alone."""
    head, _, body = request.partition(HEAD_END)
    return head.replace(b"\r\n", b"\n") + b"\n\n" + body


WAYS: dict[str, Callable[[Chance, bytes], bytes]] = {
    "flipped": _flip,
    "cut": _cut,
    "in part": _drop,
    "body flipped": _in_body(_flip),
    "body cut": _in_body(_cut),
    "body in part": _in_body(_drop),
    "body repeated": _in_body(_repeat),
    "body with random bytes": _in_body(_insert),
    "another value": _in_body(_replace_number),
    "another name": _in_body(_replace_name),
    "another method": _change_method,
    "another version of HTTP": _change_version,
    "mangled path": _mangle_path,
    "path with percent signs": _quote_path,
    "a query": _add_query,
    "another header": _add_header,
    "a header replaced": _replace_header,
    "a header less": _drop_header,
    "in chunks": _chunk,
    "twice": _double,
    "line feeds": _end_lines_alone,
}
