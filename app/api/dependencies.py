"""What routes ask for: the running service, names as they stand in paths, and the version that answers."""

from typing import Annotated

from fastapi import Depends, Path, Request

from app.errors import NotFound
from app.serving.catalogue import Catalogue, NoSuchLabel, NoSuchModel, NoSuchVersion, ServedVersion
from app.serving.policies import LABEL_PATTERN
from app.serving.service import Service
from app.version.manifest import NAME_PATTERN

ModelName = Annotated[str, Path(pattern=NAME_PATTERN)]
LabelName = Annotated[str, Path(pattern=LABEL_PATTERN)]
VersionNumber = Annotated[int, Path(ge=1)]


# A coroutine, although it waits for nothing: FastAPI would run a plain function in its thread pool.
async def get_service(request: Request) -> Service:
    """Returns the running service."""
    service: Service = request.app.state.service
    return service


RunningService = Annotated[Service, Depends(get_service)]


def find(
    catalogue: Catalogue, model: str | None, version: int | None = None, label: str | None = None
) -> ServedVersion:
    """Finds the version that answers, with a miss in the words of the native routes and of `/v2`.

    Raises:
        NotFound: No such model, version or label serves.
    """
    try:
        return catalogue.find(model, version, label)
    except NoSuchModel as miss:
        raise NotFound("model", f"GET /models lists the {miss.serving} that serve.") from None
    except NoSuchLabel as miss:
        raise NotFound("label of this model", f"It has {miss.labels}; GET /models/NAME lists them.") from None
    except NoSuchVersion as miss:
        serving = ", ".join(map(str, miss.serving))
        raise NotFound(
            "version of this model", f"{serving} {'serve' if len(miss.serving) > 1 else 'serves'}."
        ) from None
