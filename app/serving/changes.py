"""Changes of policies that operators ask for: one at a time, and taken back if they cannot be followed.

All workers change the same file. A change is written, followed and perhaps taken back while nobody else changes the
file, so no change is lost in another. Those who edit the file by hand do not wait for their turn: so a change takes
back only what it wrote, and only if that still stands in the file. Once begun, a change goes on to its end, whether or
not the operator still waits for it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec

from app.errors import ArtifactError, Conflict
from app.serving.policies import Policy
from app.serving.service import Service


@dataclass(frozen=True, slots=True)
class Choice:
    """Which versions of a model should serve: the `latest` so many, or the listed `versions`; the other is None."""

    latest: int | None
    versions: list[int] | None

    def stands_in(self, policy: Policy) -> bool:
        """Returns whether a policy makes this choice."""
        return (policy.latest, policy.versions) == (self.latest, self.versions)

    def put_into(self, policy: Policy) -> Policy:
        """Returns the policy with this choice, and with its own labels."""
        return policy.model_copy(update={"latest": self.latest, "versions": self.versions})


P = ParamSpec("P")
Change = Callable[P, Coroutine[Any, Any, None]]

_under_way: set[asyncio.Task[str | None]] = set()


def _to_its_end(change: Change[P]) -> Change[P]:
    """Makes a change go on when its caller is cancelled. Half a change would stay in the file."""

    async def end(*args: P.args, **kwargs: P.kwargs) -> str | None:
        """Returns what a conflict says. The error would be logged where nobody waits, and holds on to versions."""
        try:
            await change(*args, **kwargs)
        except Conflict as conflict:
            return conflict.detail
        return None

    @wraps(change)
    async def go_on(*args: P.args, **kwargs: P.kwargs) -> None:
        changing = asyncio.get_running_loop().create_task(end(*args, **kwargs))
        _under_way.add(changing)
        changing.add_done_callback(_under_way.discard)
        if (conflict := await asyncio.shield(changing)) is not None:
            raise Conflict(conflict)

    return go_on


@_to_its_end
async def choose_versions(service: Service, name: str, choice: Choice) -> None:
    """Chooses the versions of a model that should serve. Labels stay as they are.

    Raises:
        Conflict: None of the versions can serve, or the policies cannot be changed. The choice is as it was.
    """
    async with _turn(service):
        before = await _change(service, name, choice.put_into)
        chosen = choice.versions or []
        reasons = [
            status.reason
            for version, status in sorted(service.repository.statuses.of(name).items())
            if version in chosen
        ]
        if reasons and all(reasons):
            former = Choice(before.latest, before.versions)
            await _change(service, name, lambda now: former.put_into(now) if choice.stands_in(now) else now)
            problem = "The policy stays as it was, for none of these versions can serve"
            raise Conflict(f"{problem}: {' '.join(reasons)}")


@_to_its_end
async def put_label(service: Service, name: str, label: str, version: int) -> None:
    """Puts a label on a version that serves.

    Raises:
        Conflict: The version does not serve, or the policies cannot be changed. The label is as it was.
    """
    async with _turn(service):
        await service.look_now()  # another worker may have been told of other versions
        model = service.catalogue.model(name)
        if model is None or version not in model.versions:
            raise Conflict("A label may stand only for a version that serves; choose it by the policy first.")
        await _change(service, name, lambda policy: policy.with_label(label, version))


@_to_its_end
async def remove_label(service: Service, name: str, label: str) -> None:
    """Removes a label, if there is one.

    Raises:
        Conflict: The policies cannot be changed. The label is as it was.
    """
    async with _turn(service):
        await _change(service, name, lambda policy: policy.without_label(label))


@asynccontextmanager
async def _turn(service: Service) -> AsyncIterator[None]:
    """Waits until nobody else changes the policies, as long as a request may take, and keeps all others waiting."""
    try:
        async with service.repository.policies.locked(service.settings.request_timeout_seconds):
            yield
    except ArtifactError as error:
        raise Conflict(f"The policies cannot be changed: their file {error.problem}.") from None


async def _change(service: Service, name: str, edit: Callable[[Policy], Policy]) -> Policy:
    """Changes a model's policy, and returns the former policy when the new one is followed as far as possible.

    A version that takes longer to load than a request may take is not waited for.
    """
    before = await asyncio.to_thread(service.repository.policies.change, name, edit)
    await service.look_now()
    return before
