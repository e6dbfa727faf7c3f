"""What serves right now, for look-ups by every request.

The loader's thread replaces a model as a whole, and nothing that a look-up returns ever changes afterwards.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from types import MappingProxyType

from app.serving.batching import Batcher
from app.serving.loading import LoadedVersion
from app.version.manifest import Contract


class ServedVersion:
    """A version that serves, and the queue in front of its engine.

    Args:
        loaded: The version.
        batcher: The queue.
        max_windows: Most windows in one request.

    Attributes:
        forecast_numbers: How many numbers a forecast has.
    """

    __slots__ = ("__weakref__", "batcher", "contract", "forecast_numbers", "loaded", "max_windows", "name", "version")

    def __init__(self, loaded: LoadedVersion, batcher: Batcher, max_windows: int) -> None:
        self.loaded = loaded
        self.batcher = batcher
        self.name = loaded.name
        self.version = loaded.version
        self.contract: Contract = loaded.contract
        self.max_windows = max_windows
        self.forecast_numbers = prod(loaded.contract.forecast_shape)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The versions of a model that serve; at least one.

    Attributes:
        versions: By number, ascending.
        labels: The version that each label stands for.
    """

    versions: Mapping[int, ServedVersion]
    labels: Mapping[str, int]

    @property
    def latest(self) -> ServedVersion:
        """The version that answers where a request names none."""
        return self.versions[max(self.versions)]


class Miss(Exception):
    """Nothing serves under this name. Each protocol has its own words for a miss."""


class NoSuchModel(Miss):
    """No model of this name serves.

    Attributes:
        serving: How many models serve.
    """

    def __init__(self, serving: int) -> None:
        super().__init__()
        self.serving = serving


class NoSuchLabel(Miss):
    """The model has no version that serves under this label.

    Attributes:
        labels: How many labels the model has.
    """

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.labels = labels


class NoSuchVersion(Miss):
    """The model serves, but not this version.

    Attributes:
        serving: The versions that serve, ascending.
    """

    def __init__(self, serving: list[int]) -> None:
        super().__init__()
        self.serving = serving


class Catalogue:
    """The models that serve, by name.

    Args:
        default: The model that answers where a request names none.
    """

    def __init__(self, default: str) -> None:
        self.default = default
        self._models: dict[str, ServedModel] = {}

    def find(self, name: str | None = None, version: int | None = None, label: str | None = None) -> ServedVersion:
        """Finds the version that answers for a model.

        Args:
            name: The model; None for the default one.
            version: The version; None for the latest that serves.
            label: The label, in place of a version.

        Raises:
            NoSuchModel: No such model serves.
            NoSuchLabel: No version of the model serves under the label.
            NoSuchVersion: The version does not serve.
        """
        model = self._models.get(name or self.default)
        if model is None:
            raise NoSuchModel(len(self._models))
        if label is not None:
            version = model.labels.get(label)
            if version is None:
                raise NoSuchLabel(len(model.labels))
        if version is None:
            return model.latest
        served = model.versions.get(version)
        if served is None:
            raise NoSuchVersion(list(model.versions))
        return served

    def model(self, name: str) -> ServedModel | None:
        """Returns a model that serves, or None."""
        return self._models.get(name)

    def models(self) -> dict[str, ServedModel]:
        """Returns the models that serve by name, the default one first."""
        return dict(sorted(self._models.copy().items(), key=lambda item: (item[0] != self.default, item[0])))

    def put(self, name: str, versions: Mapping[int, ServedVersion], labels: Mapping[str, int]) -> None:
        """Replaces what serves of a model; without versions the model is gone."""
        if versions:
            self._models[name] = ServedModel(MappingProxyType(dict(versions)), MappingProxyType(dict(labels)))
        else:
            self._models.pop(name, None)
