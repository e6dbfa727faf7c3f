"""Requests that offer another protocol are answered in HTTP/1.1, as RFC 9110 (section 7.8) allows."""

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class UpgradelessProtocol(HttpToolsProtocol):
    """Parses a head that offers an upgrade (`curl --http2`) again without the offer.

    The parser takes a head with an upgrade for a whole message and stops behind it, so the body would be lost.
    """

    _upgrade_head: bytes | None = None
    """A head to be parsed again."""

    def sets_upgrade_aside(self) -> bool:
        """Sets the head aside if it offers an upgrade, and tells whether it does. Called when a head is complete."""
        if not self.parser.should_upgrade() or self.parser.get_method() == b"CONNECT":
            return False
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + self.parser.get_http_version().encode()]
        lines += [name + b": " + value for name, value in self.headers if name.lower() != b"upgrade"]
        self._upgrade_head = b"\r\n".join(lines) + b"\r\n\r\n"
        return True

    @property
    def is_set_aside(self) -> bool:
        """Whether the head waits to be parsed again."""
        return self._upgrade_head is not None

    def parse(self, data: bytes) -> None:
        """Parses bytes of a connection.

        Raises:
            httptools.HttpParserError: The bytes are not HTTP.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            self._parse_again(memoryview(data)[stop.args[0] :])

    def _parse_again(self, rest: memoryview) -> None:
        """Parses the head without its upgrade, then the bytes behind it, which may hold another upgrade.

        A head that closes the connection has closed the parser. So every head gets a new parser.
        """
        while self._upgrade_head is not None:
            head, self._upgrade_head = self._upgrade_head, None
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn sets its own
            self.parser.feed_data(head)
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as stop:
                rest = rest[stop.args[0] :]
