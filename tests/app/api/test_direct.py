"""What stands in front of the web framework: the headers of a request."""

from collections.abc import Iterator

from app.api.direct import Header, by_name


class CountedHeaders(list[Header]):
    """Headers that know how often they were gone through."""

    passes = 0

    def __iter__(self) -> Iterator[Header]:
        self.passes += 1
        return super().__iter__()


def test_headers_are_found_by_name_and_values_of_one_name_are_a_list() -> None:
    headers = [(b"accept", b"text/html"), (b"host", b"here"), (b"accept", b""), (b"accept", b"*/*;q=0.1")]
    assert by_name(headers) == {b"accept": b"text/html, , */*;q=0.1", b"host": b"here"}
    assert by_name(headers[:2]) == dict(headers[:2])


def test_thousands_of_headers_are_gone_through_twice_at_most() -> None:
    headers = CountedHeaders((b"x-%d" % number, b"") for number in range(10_000))
    headers.append(headers[0])
    assert by_name(headers)[b"x-0"] == b", "
    assert headers.passes <= 2
