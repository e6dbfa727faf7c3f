"""Whether any request does worse than be refused: odd requests over all routes, and what is answered to each.

A request is answered with one of `STATUSES`, in the form of its protocol, with an error of 4 KiB at most; or its
connection is closed after the time that a client may take. The service lives on, and answers right requests meanwhile.
"""

import asyncio
import re
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson
import uvloop

from benchmarks.dialects import ask_single, forecasts_in
from benchmarks.environments import python_of
from benchmarks.generator import CONTENT_LENGTH, HEAD_END
from benchmarks.models import ROOT, Model, made_models
from benchmarks.mutation import FIRST_ERROR, Odd, make_odd
from benchmarks.processes import HOST, resident_mib
from benchmarks.servers import Server, errors_logged
from benchmarks.tables import Bar, bars, figure, table
from benchmarks.traffic import cases
from benchmarks.wire import ADMIN_KEY, Case, Subject, asked_program

COUNT = 60_000
CONNECTIONS = 64
RECEIVE_SECONDS = 0.5
"""How long the service waits for the rest of a request. Many odd ones have none."""
PATIENCE_SECONDS = 60
"""How long an answer is waited for."""
CHECK_EVERY = 500
"""After how many odd requests a right one is sent."""
MAX_ERROR_BYTES = 4096
STATUSES = {
    *(100, 200, 204, 304, 307),
    *(400, 401, 404, 405, 408, 409, 411, 413, 415, 422, 431),
    *(501, 505),
}
CLOSED = 0
"""Stands for the status where the connection is closed without an answer."""
CONTINUE, NOT_MODIFIED = 100, 304
RIGHT = "one window, JSON"
FURTHER_SECONDS = 0.002
"""How long after the first answer the service is told that nothing follows."""
READ_LIMIT = 2**20
PLAIN = (b"/v1/", b"/v2/")
NATIVE = (b"/predict", b"/models", b"/admin", b"/livez", b"/metrics", b"/docs")
SHOWN_BYTES = 160
EXAMPLES = 200
"""Most requests that schemathesis makes for a route, in each of its phases."""
JUDGEMENT = ROOT / "benchmarks" / "peers" / "schemathesis.toml"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, as it came over the wire."""

    status: int
    head: bytes
    body: bytes


@dataclass(slots=True)
class Findings:
    """What came of all requests.

    Attributes:
        statuses: How often each status came; `CLOSED` among them.
        faults: What was wrong, with the request.
        seconds: How long it took.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run(peers_dir: Path, seed: int, first: int, count: int) -> Iterator[str]:
    """Yields the tables and the bars.

    Args:
        peers_dir: Where the environment of schemathesis is, which is left out where there is none.
        seed: From which all requests follow.
        first: The number of the first request.
        count: How many requests are sent.
    """
    with made_models(["small", "large"]) as models:
        yield from _attack_service(models["small"], range(first, first + count), seed)
        if (python := python_of(peers_dir, "schemathesis")) is not None:
            # Not the small model, whose windows have 120 bytes: a document of that length is a window to `/v2`.
            yield from _follow_document(models["large"], python.with_name("st"), seed)


def _attack_service(model: Model, numbers: range, seed: int) -> Iterator[str]:
    program = asked_program(model, 1, engine="onnx", receive_timeout_seconds=RECEIVE_SECONDS)
    server = Server(program, model.folder / "fuzz")
    try:
        expected = forecasts_in(server.wait_for(ask_single(model.windows(1))))
        before, _ = resident_mib(server.group.process.pid)
        findings = attack(server.port, cases(Subject.of(model, 1)), numbers, seed)
        after, _ = resident_mib(server.group.process.pid)
        same = forecasts_in(server.wait_for(ask_single(model.windows(1))))
    finally:
        server.group.stop()
    yield f"### {len(numbers)} odd requests, seed {seed}, from number {numbers.start}\n"
    yield f"{figure(findings.seconds)} s, RSS {before:.0f} MiB before and {after:.0f} MiB after\n"
    yield f"{_statuses(findings)}\n"
    yield "".join(f"- {fault}\n" for fault in findings.faults)
    yield f"{bars(_bars(findings, errors_logged(server), is_same=np.array_equal(expected, same)))}\n"


def _follow_document(model: Model, program: Path, seed: int) -> Iterator[str]:
    """Has schemathesis make requests of `/openapi.json`, right ones and wrong ones, and judge the answers."""
    server = Server(asked_program(model, 1, engine="onnx"), model.folder / "schemathesis")
    try:
        server.wait_for(ask_single(model.windows(1)))
        command = [str(program), "--config-file", str(JUDGEMENT), "run", f"{server.url}/openapi.json"]
        command += ["--header", f"Authorization: Bearer {ADMIN_KEY}", "--max-examples", str(EXAMPLES)]
        command += ["--seed", str(seed), "--continue-on-failure", "--generation-database", "none", "--no-color"]
        result = subprocess.run(command, cwd=server.group.output.parent, capture_output=True, text=True, check=False)
    finally:
        server.group.stop()
    made = re.search(r"Test cases:\s+(.*)", result.stdout)
    yield f"### schemathesis, seed {seed}: {made[1] if made else 'no test cases'}\n"
    if result.returncode:
        lines = (result.stdout + result.stderr).splitlines()
        yield "\n".join(["```", *(line[:SHOWN_BYTES] for line in lines), "```"]) + "\n"
    failed = [
        Bar("exit code of schemathesis", result.returncode, "<=", 0),
        Bar("errors in the service's log", errors_logged(server), "<=", 0),
    ]
    yield f"{bars(failed)}\n"


def attack(port: int, known: Sequence[Case], numbers: range, seed: int) -> Findings:
    """Sends odd requests to the service on a port, each on a connection of its own, and judges the answers."""
    return uvloop.run(_attack(port, known, numbers, seed))


async def _attack(port: int, known: Sequence[Case], numbers: range, seed: int) -> Findings:
    findings = Findings()
    right = next(case for case in known if case.name == RIGHT)
    waiting = iter(numbers)
    started = time.perf_counter()

    async def keep_asking() -> None:
        for number in waiting:  # shared by all
            odd = make_odd(known, seed, number)
            _judge(odd, await _ask(port, odd.request), findings)
            if number % CHECK_EVERY == 0:
                answers = await _ask(port, right.request)
                if [answer.status for answer in answers or ()] != [right.status]:
                    findings.faults.append(f"number {number}: a right request behind it was answered with {answers}")

    await asyncio.gather(*(keep_asking() for _ in range(CONNECTIONS)))
    findings.seconds = time.perf_counter() - started
    return findings


async def _ask(port: int, request: bytes) -> list[Answer] | None:
    """Returns all answers to what is sent; None where the connection stays open without an answer."""
    reader, writer = await asyncio.open_connection(HOST, port, limit=READ_LIMIT)
    answers: list[Answer] = []
    try:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            writer.write(request)
            async with asyncio.timeout(PATIENCE_SECONDS):
                async for answer in _answers(reader, is_head=request.startswith(b"HEAD ")):
                    answers.append(answer)
                    if len(answers) == 1 and answer.status != CONTINUE:
                        await asyncio.sleep(FURTHER_SECONDS)
                        if not writer.is_closing():
                            writer.write_eof()
    except TimeoutError:
        return answers or None
    finally:
        writer.close()
    return answers


async def _answers(reader: asyncio.StreamReader, *, is_head: bool) -> AsyncIterator[Answer]:
    """Yields whole answers until the connection ends."""
    while head := await reader.readuntil(HEAD_END):
        status = int(head[9:12])
        length = CONTENT_LENGTH.search(head)
        has_body = length is not None and not is_head and status not in {CONTINUE, NOT_MODIFIED}
        body = await reader.readexactly(int(length[1])) if length is not None and has_body else b""
        yield Answer(status, head, body)


def _judge(odd: Odd, answers: list[Answer] | None, findings: Findings) -> None:
    """Counts the answers to an odd request, and notes what is wrong with them."""
    if answers is None:
        findings.faults.append(_fault(odd, f"no answer in {PATIENCE_SECONDS} s"))
    for place, answer in enumerate(answers or ()):
        findings.statuses[answer.status] += 1
        target = odd.request.partition(b" ")[2] if not place else b""  # what follows may ask for anything
        if problem := _problem(target, answer):
            findings.faults.append(_fault(odd, f"{answer.status}, {problem}: {answer.body[:SHOWN_BYTES]!r}"))
    if not answers:
        findings.statuses[CLOSED] += 1


def _problem(target: bytes, answer: Answer) -> str | None:
    """Returns what is wrong with an answer, if anything is."""
    if answer.status not in STATUSES:
        return "an unexpected status"
    if answer.status < FIRST_ERROR or not answer.body:
        return None
    if len(answer.body) > MAX_ERROR_BYTES:
        return f"an error of {len(answer.body)} bytes"
    is_plain, is_native = _forms(answer)
    if (target.startswith(PLAIN) and not is_plain) or (target.startswith(NATIVE) and not is_native):
        return "an error in the form of another protocol"
    return None if is_plain or is_native else "an error in the form of no protocol"


def _forms(answer: Answer) -> tuple[bool, bool]:
    """Returns whether an error has the form of `/v1` and `/v2`, and whether it has that of the native routes."""
    with suppress(orjson.JSONDecodeError):
        content = orjson.loads(answer.body)
        if isinstance(content, dict):
            is_native = content.keys() >= {"type", "title", "status"} and content["status"] == answer.status
            return content.keys() == {"error"}, is_native
    return False, False


def _fault(odd: Odd, problem: str) -> str:
    return f"number {odd.number} ({odd.name}): {problem}; sent {odd.request[:SHOWN_BYTES]!r}"


def _statuses(findings: Findings) -> str:
    rows = [[str(status or "closed"), str(count)] for status, count in sorted(findings.statuses.items())]
    return table(["status", "answers"], rows)


def _bars(findings: Findings, errors: int, *, is_same: bool) -> Iterator[Bar]:
    yield Bar("answers that are wrong, late or missing", len(findings.faults), "<=", 0)
    yield Bar("errors in the service's log", errors, "<=", 0)
    yield Bar("right forecasts that changed", int(not is_same), "<=", 0)
