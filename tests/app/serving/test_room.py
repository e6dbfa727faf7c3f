"""Memory that all requests share."""

import pytest

from app.errors import TooManyLargeBodies
from app.serving.room import Room


def test_a_request_alone_may_keep_any_size_and_keeps_out_all_others() -> None:
    room = Room(100)
    room.take(80)
    room.take(80, own=80)
    with pytest.raises(TooManyLargeBodies):
        room.take(1)
    room.give_back(160)
    room.take(1)


def test_what_is_refused_is_not_counted() -> None:
    room = Room(100)
    room.take(60)
    for _ in range(3):
        with pytest.raises(TooManyLargeBodies):
            room.take(50, own=20)
    room.take(40)
