"""The causes of "loss: nan" as code: what to look at before a fit, when it fails, and after it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in the data, the configuration or the model that may spoil a forecast."""

    cause: str
    """In two or three words."""
    sentence: str
    """What was found where, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Incident:
    """A loss or a gradient that was not a finite number, and what was done about it."""

    epoch: int
    """The pass it happened in, from 1."""
    batch: int | None
    """The batch of that pass, from 1; None where it was the validation loss."""
    rows: str
    """Which windows and rows were seen, for example `windows 96 to 127, rows 96 to 163`."""
    cause: str
    """Why, as a clause."""
    remedy: str
    """What was done, as a clause."""

    @property
    def sentence(self) -> str:
        """The incident in words."""
        batch = f", batch {self.batch}" if self.batch else ", validation"
        return f"epoch {self.epoch}{batch} ({self.rows}): {self.cause}; {self.remedy}"
