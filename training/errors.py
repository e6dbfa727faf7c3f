"""The mistakes a user of `training` can make, told in one sentence each."""


class TrainingError(Exception):
    """Something in the data, the configuration or the folder stops the run; says what, where and the remedy."""


class DataError(TrainingError):
    """The table cannot be trained on as it is."""


class ConfigError(TrainingError):
    """The configuration cannot be used."""


class ExportError(TrainingError):
    """The version could not be published; nothing is left of it."""
