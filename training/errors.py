"""The mistakes a user of `training` can make, told in one sentence each."""

from pathlib import Path


class TrainingError(Exception):
    """Something in the data, the configuration or the folder stops the run; says what, where and the remedy."""


class DataError(TrainingError):
    """The table cannot be trained on as it is."""


class ConfigError(TrainingError):
    """The configuration cannot be used."""


class ShapeError(TrainingError):
    """Something has another shape than it needs.

    Args:
        what: The array or the layer.
        expected: The shape that it needs, or takes, in words.
        came: The one that it has, or is given.
        remedy: What to do about it, with the line that does it.
    """

    def __init__(self, what: str, expected: str, came: object, remedy: str) -> None:
        super().__init__(f"{what}: expected {expected}, got {came}; {remedy}")


class ExportError(TrainingError):
    """The version could not be published; nothing is left of it."""


class NotFusable(TrainingError):
    """A model has no fused twin; TensorFlow serves it all the same.

    Args:
        reason: Why, as the end of a sentence.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"The model has no fused twin, because {reason}.")
        self.reason = reason


class FusionError(TrainingError):
    """`fuse` cannot publish a model again.

    Args:
        path: The folder of the model.
        problem: Why.
    """

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}; nothing was published.")
