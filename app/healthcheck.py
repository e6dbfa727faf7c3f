"""`python -m app.healthcheck`: exit code 0 if the service in this container is ready, for a container's HEALTHCHECK."""

import http.client
import os
import sys

TIMEOUT_SECONDS = 4


def main() -> None:
    """Asks /readyz on the loopback address. No proxy of the environment can redirect the plain connection.

    Exit codes:
        0: the service is ready
        1: the service is not ready, or does not answer
    """
    port = int(os.environ.get("WINDOWCAST_PORT", "8000"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/readyz")
        sys.exit(0 if connection.getresponse().status == http.client.OK else 1)
    except OSError:
        sys.exit(1)


if __name__ == "__main__":
    main()
