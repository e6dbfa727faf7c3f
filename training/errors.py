"""The mistakes that a user of `training` can make, each told in one sentence.

TrainingError
├── DataError      the table
├── ConfigError    the configuration
├── ShapeError     an array or a layer
├── ExportError    publishing
└── FusionError    making a fused twin
"""

from pathlib import Path


class TrainingError(Exception):
    """The data, the configuration or a folder stops a run. The message says what, where and the remedy."""


class DataError(TrainingError):
    """The table cannot be trained on as it is."""


class ConfigError(TrainingError):
    """The configuration cannot be used."""


class ShapeError(TrainingError):
    """An array or a layer has the wrong shape.

    Args:
        what: Name of the array or the layer.
        expected: Shape that is expected, in words.
        came: Shape that came.
        remedy: What to do about it, with the line of code that does it.
    """

    def __init__(self, what: str, expected: str, came: object, remedy: str) -> None:
        super().__init__(f"{what}: expected {expected}, got {came}; {remedy}")


class ExportError(TrainingError):
    """A version could not be published. Nothing of it is left."""


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
