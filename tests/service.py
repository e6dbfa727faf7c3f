"""The service as most tests run it: `python -m tests.service` in place of `python -m app`.

The service does not wait for folders to settle, and a test can hold loads and forecasts: see `tests.holding`.
"""

from pathlib import Path

import app.serving.service
from app.__main__ import main
from app.serving.loading import LoadVersion, loader_of
from app.settings import Settings
from app.version import folders
from tests.holding import holdable


def holdable_loader_of(settings: Settings) -> LoadVersion:
    """Returns the loader of the service, which meets the test in the folder where it runs."""
    return holdable(loader_of(settings), Path())


# Workers import this module too, before they make the application.
if __name__ in {"__main__", "__mp_main__"}:
    app.serving.service.loader_of = holdable_loader_of  # type: ignore[attr-defined]
    folders.SETTLING_SECONDS = 0
if __name__ == "__main__":
    main()
