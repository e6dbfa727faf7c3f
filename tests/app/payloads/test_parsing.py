"""Parsing of JSON: what is taken, and the collector of cycles meanwhile."""

import gc
import json
from collections.abc import Callable, Iterator
from math import isnan
from typing import Any

import pytest

from app.errors import MalformedBody
from app.payloads.parsing import CollectorPaused, parse_json, parse_strict_json

Parse = Callable[[bytes], Any]


@pytest.fixture(autouse=True)
def collector_is_on() -> Iterator[None]:
    """Sees that every test leaves the collector on."""
    yield
    assert gc.isenabled()


@pytest.mark.parametrize("parse", [parse_json, parse_strict_json])
def test_json_is_parsed(parse: Parse) -> None:
    assert parse('{"a": [1, 2.5, null, true, "\u00e4"]}'.encode()) == {"a": [1, 2.5, None, True, "\u00e4"]}


@pytest.mark.parametrize("parse", [parse_json, parse_strict_json])
@pytest.mark.parametrize("body", [b"", b"{", b"[1,]", b"[01]", b"\xff", b"\xef\xbb\xbf{}", b"[" * 100_000, b"{} {}"])
def test_anything_else_is_malformed(parse: Parse, body: bytes) -> None:
    with pytest.raises(MalformedBody):
        parse(body)


def test_only_strict_json_has_no_nan() -> None:
    assert isnan(parse_json(b"[NaN]")[0])  # type: ignore[index]
    with pytest.raises(MalformedBody, match="no NaN"):
        parse_strict_json(b"[NaN]")


@pytest.mark.parametrize("parse", [parse_json, parse_strict_json])
def test_the_collector_does_not_go_through_what_is_being_parsed(parse: Parse) -> None:
    phases: list[str] = []
    gc.callbacks.append(note := lambda phase, _: phases.append(phase))
    try:
        parse(b"[" + b"[]," * 100_000 + b"[]]")
    finally:
        gc.callbacks.remove(note)
    assert phases in ([], ["start", "stop"]), "once at most, when the collector is on again"


def test_the_collector_is_on_again_after_parsing_whether_it_went_well_or_not() -> None:
    with CollectorPaused():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError, match="Expecting"), CollectorPaused():
        json.loads("[")
    assert gc.isenabled()
