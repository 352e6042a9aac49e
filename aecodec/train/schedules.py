"""How the learning rate goes: a function of how much of the run is done, and of validations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aecodec.train.config import TrainConfig


@dataclass
class Course:
    """What validations have told so far; part of a checkpoint."""

    best: float | None = None  # lowest validation loss
    best_step: int = 0
    waited: int = 0  # validations since the best
    idle: int = 0  # validations since the best or the last cut
    cuts: int = 0  # how often "plateau" has lowered the learning rate

    def judge(self, loss: float, step: int, patience: int) -> bool:
        """Take in a validation; whether it is the best so far.

        Args:
            loss: of this validation.
            step: when it was made.
            patience: validations without improvement after which a plateau is cut.
        """
        if self.best is None or loss < self.best:
            self.best, self.best_step, self.waited, self.idle = loss, step, 0, 0
            return True
        self.waited += 1
        self.idle += 1
        if self.idle >= patience:
            self.cuts, self.idle = self.cuts + 1, 0
        return False


def learning_rate(config: TrainConfig, step: int, progress: float, course: Course) -> float:
    """The learning rate of a step.

    Args:
        config: names the schedule.
        step: steps done.
        progress: how much of the run is done, by steps or by minutes, 0 to 1.
        course: for "plateau".
    """
    low = config.final_learning_rate
    factor = 1.0
    if config.schedule == "cosine":  # Loshchilov and Hutter 2017
        factor = low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress))
    elif config.schedule == "step":
        factor = config.decay ** sum(progress >= at for at in config.milestones)
    elif config.schedule == "plateau":
        factor = max(low, config.decay**course.cuts)
    return config.learning_rate * factor * min(1.0, (step + 1) / max(config.warmup, 1))
