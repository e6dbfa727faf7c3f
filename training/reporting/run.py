"""What a training run can tell of itself."""

from dataclasses import dataclass

from training.config import TrainingConfig
from training.data.windows import Dataset
from training.fitting.history import History
from training.fitting.learning_rate import Sweep
from training.judging.evaluate import Evaluation


@dataclass(frozen=True, slots=True)
class Run:
    """What a training run can tell beyond its version's manifest."""

    config: TrainingConfig
    dataset: Dataset
    history: History
    evaluation: Evaluation
    """On the test part."""
    sweep: Sweep | None = None
    """Of learning rates, if the run made one."""

    @property
    def first_test_row(self) -> int:
        """Row of the table at which the test part starts."""
        return self.dataset.provenance.rows - self.dataset.provenance.test_rows
