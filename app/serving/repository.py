"""Decides which versions serve: follows folders and policies, loads versions, swaps them in, and releases them.

Three things decide what serves: the folders, the policies, and what is loaded already. Where a version cannot be
loaded, the next lower version takes its place, so a model serves as long as one of its versions is sound. A deleted
folder changes nothing. A change of policy leads back to a lower version.

One thread, the loader's, loads and swaps versions. Other threads look them up in the catalogue.
"""

import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from app.errors import ArtifactError, VersionError, printable
from app.payloads.sizes import request_windows
from app.serving.batching import Batcher
from app.serving.catalogue import Catalogue, ServedVersion
from app.serving.loading import LoadedVersion, LoadVersion
from app.serving.policies import Policy, PolicyFile
from app.serving.states import State, Status, Statuses
from app.settings import Settings
from app.telemetry.exposition import remove_ended_series
from app.telemetry.logs import get_logger
from app.telemetry.metrics import LOAD_FAILURES, LOAD_SECONDS, LOADS
from app.version.folders import GRAPH_FILE, Stamp, check_whole, is_still, model_names, stamp_of, versions
from app.version.manifest import MANIFEST_FILE, Manifest

log = get_logger()

LOAD_ATTEMPTS = 3
"""How often a version is tried before its folder has to change."""

START_PATIENCE_SECONDS = 10.0
"""Longest wait at the start for folders into which somebody still writes."""

START_POLL_SECONDS = 0.1
MAX_NAMES_SHOWN = 8

MAX_CANDIDATES = 256
"""Most versions of a model, the highest, among which sound ones are looked for. Each look asks for all of them."""

MAX_TROUBLE_TOLD = 20
"""Most sentences of trouble that are told at once."""


class Repository:
    """The models under `models_dir`.

    Args:
        settings: The service's settings.
        make_batcher: Makes the queue for a version that is about to serve.
        load_version: Makes of a version's folder something that can forecast.
    """

    def __init__(
        self, settings: Settings, make_batcher: Callable[[LoadedVersion], Batcher], load_version: LoadVersion
    ) -> None:
        self._settings = settings
        self._make_batcher = make_batcher
        self._load_version = load_version
        self.catalogue = Catalogue(settings.model)
        self.statuses = Statuses()
        self._ended: deque[tuple[str, int]] = deque()
        """Versions that are gone, but not noted as ended."""
        self.policies = PolicyFile(settings.policies_file)
        self.has_garbage = False
        """Whether versions are gone whose memory may need to be collected."""
        self.trouble: list[str] = []
        """Why the models or their policies cannot be looked at. What serves goes on serving."""

    def load(self) -> None:
        """Loads what the policies say. Blocks until everything is loaded.

        Raises:
            ArtifactError: The default model cannot be served, or the policies cannot be read.
            EngineNotInstalled: The engine of the default model is not installed.
        """
        self.policies.refresh(at_once=True)
        end = time.monotonic() + START_PATIENCE_SECONDS
        while True:
            self._wait_for_writers(end)
            self.trouble = self._refresh_models()
            if not self._has_passed_over_fresh_ones() or time.monotonic() >= end:
                break
        if self.catalogue.model(self._settings.model) is None:
            raise self._why_not(self._settings.model)

    def refresh(self, *, at_once: bool = False) -> None:
        """Looks at policies and folders again, loads what is new, and releases what is not wanted any more.

        Args:
            at_once: Whether to follow the policies even if somebody may be writing them.
        """
        trouble = []
        self.note_endings()
        try:
            self.policies.refresh(at_once=at_once)
        except ArtifactError as error:
            trouble.append(self._shown(error))
        try:
            trouble += self._refresh_models()
        except ArtifactError as error:
            trouble.append(self._shown(error))
        if trouble and trouble != self.trouble:
            log.warning("models or policies need attention", reason=" ".join(trouble))
        self.trouble = trouble
        self.note_endings()
        remove_ended_series()

    def _wait_for_writers(self, end: float) -> None:
        """Waits until nobody seems to write into a version's folder, at most until `end`."""
        while time.monotonic() < end and any(self._is_written(name) for name in model_names(self._settings.models_dir)):
            time.sleep(START_POLL_SECONDS)

    def _is_written(self, name: str) -> bool:
        model_dir = self._settings.models_dir / name
        try:
            return not all(is_still(stamp_of(model_dir / str(version))) for version in versions(model_dir))
        except ArtifactError:  # told when the model is looked at
            return False

    def _has_passed_over_fresh_ones(self) -> bool:
        """Whether a version was written while others were loaded."""
        everything = (status for statuses in self.statuses.all().values() for status in statuses.values())
        return any(status.state is State.PENDING and status.error is None for status in everything)

    def _why_not(self, name: str) -> VersionError:
        """Returns what keeps a model from being served: the policy, or the failure of its highest version."""
        statuses, chosen = self.statuses.of(name), self.policies.of(name).versions
        if not statuses and chosen is None:
            return no_version(self._settings.models_dir, name)
        error = statuses[max(statuses)].error if statuses else None
        if chosen is not None:
            listed = ", ".join(map(str, chosen)) or "none"
            because = f": {self._shown(error).removesuffix('.')}" if error else ""
            problem = f"lets no version of {name} serve but {listed}{because}"
            return ArtifactError(self.policies.path, problem, "choose another there")
        folder = self._folder(name, max(statuses))
        return error or ArtifactError(folder, "could not be loaded", "the log says why; export the version again")

    def _refresh_models(self) -> list[str]:
        """Looks at every model. The failure of one model does not touch the others.

        Returns:
            Why a model could not be looked at, and what an operator may not have meant.

        Raises:
            ArtifactError: The folder of all models cannot be listed.
        """
        default, trouble = self._settings.model, []
        names = {default, *model_names(self._settings.models_dir), *self.catalogue.models()}
        trouble += [
            f"{self.policies.path.name}: there is no model {name}." for name in sorted(self.policies.names() - names)
        ]
        names |= self.statuses.all().keys()  # of models whose folder is gone
        for name in sorted(names, key=lambda name: (name != default, name)):
            try:
                trouble += self._refresh_model(name)
            except ArtifactError as error:
                trouble.append(self._shown(error))
            except Exception as error:
                log.exception("model not looked at", model=name)
                trouble.append(f"{name}: could not be looked at ({type(error).__name__}).")
        more = len(trouble) - MAX_TROUBLE_TOLD
        return trouble if more <= 0 else [*trouble[:MAX_TROUBLE_TOLD], f"And {more} more."]

    def _refresh_model(self, name: str) -> list[str]:
        model = self.catalogue.model(name)
        serving = dict(model.versions) if model else {}
        policy = self.policies.of(name)
        wanted = self._load_wanted(name, policy, serving)
        if not wanted and policy.versions != []:
            wanted = serving  # nothing better can be loaded
        labels = _labels(policy, wanted, model.labels if model else {})
        self._publish(name, wanted, labels)
        for version in serving.keys() - wanted.keys():
            self._release(serving[version])
        return [
            *(
                f"{name}/{version} serves, but its folder is gone: it could not be loaded again."
                for version in wanted
                if not self._folder(name, version).is_dir()
            ),
            *(
                f"{name}: the label {label} waits for version {version}, which does not serve."
                for label, version in policy.labels.items()
                if version not in wanted
            ),
        ]

    def _load_wanted(self, name: str, policy: Policy, serving: Mapping[int, ServedVersion]) -> dict[int, ServedVersion]:
        """Returns the versions that the policy wants and that serve or can be loaded."""
        there = {*versions(self._settings.models_dir / name)[-MAX_CANDIDATES:], *serving}
        if policy.versions is None:
            candidates, count = sorted(there, reverse=True), policy.latest or 1
        else:
            candidates, count = sorted(set(policy.versions), reverse=True), len(policy.versions)
        wanted: dict[int, ServedVersion] = {}
        for version in candidates:
            if len(wanted) == count:
                break
            served = self._serve(name, version, serving.get(version))
            if served is not None:
                wanted[version] = served
        self.statuses.keep(name, {*candidates, *there})
        return dict(sorted(wanted.items()))

    def _serve(self, name: str, version: int, served: ServedVersion | None) -> ServedVersion | None:
        """Returns the version that serves already, or loads it; None if it cannot be loaded."""
        if served is not None and not self._has_become_ours(served):
            return served
        return self._load(name, version) or served

    def _has_become_ours(self, served: ServedVersion) -> bool:
        """Whether a foreign version has a manifest by now: it was loaded before it was copied whole."""
        return served.loaded.is_foreign and (self._folder(served.name, served.version) / MANIFEST_FILE).exists()

    def _load(self, name: str, version: int) -> ServedVersion | None:
        folder = self._folder(name, version)
        before = self.statuses.of(name).get(version, Status(State.PENDING))
        try:
            stamp = stamp_of(folder)
            if stamp == before.stamp and before.attempts >= LOAD_ATTEMPTS:
                return None
            if stamp and not is_still(stamp):
                self.statuses.note(name, version, Status(State.PENDING, "somebody writes into its folder"))
                return None
            manifest = check_whole(folder)
        except ArtifactError as obstacle:
            self._wait(name, version, obstacle, before)
            return None
        attempts, reason = (before.attempts, before.reason) if stamp == before.stamp else (0, "")
        self.statuses.note(name, version, Status(State.LOADING, reason))
        LOADS.labels(name).inc()
        try:
            return self._try_to_load(folder, manifest)
        except Exception as error:  # noqa: BLE001 (whatever it is, it must not disturb what serves)
            self._fail(name, version, error, attempts + 1, stamp)
            return None

    def _try_to_load(self, folder: Path, manifest: Manifest | None) -> ServedVersion:
        loaded = self._load_version(folder, manifest)
        max_windows = request_windows(loaded.contract, self._settings.max_batch_windows)
        served = ServedVersion(loaded, self._make_batcher(loaded), max_windows)
        LOAD_SECONDS.labels(loaded.name).observe(loaded.load_seconds)
        log.info(
            "model loaded",
            model=loaded.name,
            version=loaded.version,
            engine=loaded.engine.name,
            remark=loaded.engine.remark,
            seconds=round(loaded.load_seconds, 2),
        )
        return served

    def _wait(self, name: str, version: int, obstacle: ArtifactError, before: Status) -> None:
        status = Status(State.PENDING, self._shown(obstacle), error=without_trace(obstacle))
        if status.reason != before.reason:
            log.warning("version not served", reason=str(obstacle), model=name, version=version)
            self.statuses.note(name, version, status)

    def _fail(self, name: str, version: int, error: Exception, attempts: int, stamp: Stamp) -> None:
        expected = error if isinstance(error, VersionError) else None
        reason = self._shown(error) if expected else f"it could not be loaded ({type(error).__name__})"
        log.warning(
            "version not served",
            reason=str(error) if expected else type(error).__name__,
            model=name,
            version=version,
            attempt=f"{attempts} of {LOAD_ATTEMPTS}",
            exc_info=expected is None,
        )
        LOAD_FAILURES.labels(name).inc()
        kept = without_trace(expected) if expected else None
        self.statuses.note(name, version, Status(State.FAILED, reason, attempts, stamp, kept))

    def _shown(self, error: Exception) -> str:
        """Returns the error's text without folders of this machine, for answers over HTTP."""
        text = str(error)
        for folder in (self._settings.models_dir, self.policies.path.parent):
            text = text.replace(f"{printable(folder)}/", "")
        return text

    def _publish(self, name: str, versions: Mapping[int, ServedVersion], labels: Mapping[str, int]) -> None:
        self.catalogue.put(name, versions, labels)
        for version in versions:
            if self.statuses.of(name)[version].state is State.LOADING:
                self.statuses.note(name, version, Status(State.AVAILABLE))

    def _release(self, served: ServedVersion) -> None:
        """Forgets a version. Its memory is free after its last request."""
        name, version = served.name, served.version
        self.statuses.note(name, version, Status(State.UNLOADING))
        # A finalizer may interrupt anything, in any thread: it must not log, count or lock.
        weakref.finalize(served.loaded.engine, self._ended.append, (name, version)).atexit = False

    def note_endings(self) -> None:
        """Notes the versions whose last request has been answered."""
        while self._ended:
            name, version = self._ended.popleft()
            self.has_garbage = True
            if self.statuses.end(name, version):
                log.info("version released", model=name, version=version)

    def _folder(self, name: str, version: int) -> Path:
        return self._settings.models_dir / name / str(version)


def without_trace(error: VersionError) -> VersionError:
    """Returns the error without its frames, which would keep engines and versions in memory."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def no_version(models_dir: Path, name: str) -> ArtifactError:
    """Returns the error for a model without a version. Perhaps the settings point beside the models."""
    others = [other for other in model_names(models_dir) if other != name]
    if any((models_dir / other / GRAPH_FILE).is_file() for other in others):
        return ArtifactError(models_dir, "looks like a model itself", f"set WINDOWCAST_MODELS_DIR={models_dir.parent}")
    remedy = (
        f"train one with `python -m training train --name {name}` or set WINDOWCAST_MODELS_DIR and WINDOWCAST_MODEL"
    )
    if others:
        remedy += f"; the folder has {', '.join(others[:MAX_NAMES_SHOWN])}"
    return ArtifactError(models_dir / name, "holds no version of a model", remedy)


def _labels(policy: Policy, wanted: Mapping[int, ServedVersion], before: Mapping[str, int]) -> dict[str, int]:
    """Returns the labels whose versions serve. A label whose version does not serve keeps its former version."""
    labels = {}
    for label, version in policy.labels.items():
        if version in wanted:
            labels[label] = version
        elif before.get(label) in wanted:
            labels[label] = before[label]
    return labels
