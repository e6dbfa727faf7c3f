"""Errors as problem details."""

from http import HTTPStatus

import orjson
import pytest

from app import errors
from app.api.problems import MAX_BYTES, problem_answer
from app.errors import InvalidRequest, LocatedError, QueueFull, ServiceError


def concrete_errors() -> list[type[ServiceError]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ServiceError)][1:]


@pytest.mark.parametrize("kind", concrete_errors())
def test_every_error_has_a_status_of_its_kind_and_a_place_in_the_overview(kind: type[ServiceError]) -> None:
    assert isinstance(kind.status, HTTPStatus)
    assert f"── {kind.__name__} " in (errors.__doc__ or "")
    assert f" {kind.status.value} " in (errors.__doc__ or "").split(f"── {kind.__name__} ")[1].splitlines()[0] + " "


def test_a_refusal_for_now_says_when_to_come_back() -> None:
    assert problem_answer(QueueFull(1), "id").headers.count((b"retry-after", b"1")) == 1


def test_a_caller_learns_what_is_wrong_but_no_request_id() -> None:
    problem = orjson.loads(problem_answer(QueueFull(1), "id").body)
    assert problem == {
        "type": "urn:windowcast:queue-full",
        "title": "Queue full",
        "status": 503,
        "detail": "The queue of this model is full. Try again in 1 s, or send fewer windows at once.",
    }


def test_as_many_located_errors_are_told_as_fit() -> None:
    located = [LocatedError(f"/windows/{index}", "ä" * 1000) for index in range(50)]
    body = problem_answer(InvalidRequest(located), "id").body
    assert len(body) <= MAX_BYTES
    told = orjson.loads(body)["errors"]
    assert [error["pointer"] for error in told] == [f"/windows/{index}" for index in range(len(told))]
    assert len(told) > 1
