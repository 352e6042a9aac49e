"""Hyperparameter search: trials of a training config, by Optuna, in a folder to come back to."""

from __future__ import annotations

import difflib
import gc
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aecodec.errors import AecError, MissingDependencyError, TrainingError, needing, one_line
from aecodec.train.config import TrainConfig
from aecodec.tune_space import Parameter, apply, metrics, parameters
from aecodec.tune_study import (
    PRUNERS,
    best_trial,
    higher_is_better,
    open_study,
    quietly,
    trial_folder,
)

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)


class _Failed(Exception):
    """A trial that came to nothing; the study goes on."""


class _FatalError(TrainingError):
    """What would stop every trial."""


@dataclass(frozen=True)
class Tuned:
    """What a search has found so far.

    Attributes:
        out: its folder.
        metric: what was optimised.
        best_trial: number of the best trial; None if none was completed.
        best_value: its metric.
        best_values: its values, by dotted key.
        completed, pruned, failed: numbers of trials.
    """

    out: Path
    metric: str
    best_trial: int | None
    best_value: float | None
    best_values: dict[str, Any]
    completed: int
    pruned: int
    failed: int


def tune(
    config: TrainConfig | Path | str,
    data: Path | str,
    out: Path | str,
    *,
    trials: int = 50,
    timeout: float | None = None,
    metric: str = "loss",
    pruner: str = "median",
    seed: int | None = None,
    device: str = "cpu",
) -> Tuned:
    """Try values of the search space in a config's section [tune]; keep the best.

    Called again it goes on. Several processes may search in one folder at a time.

    Args:
        config: a config with a section [tune], or its file.
        data: folder of images.
        out: folder of the search; gets `study.db` (Optuna's), `trials/NUMBER` (run folders;
            weights of the best alone), `best.toml`, `trials.json`, `history.png` and, of two
            completed trials or more, `importance.png`.
        trials: how many the search has in the end, over all its processes and sessions.
        timeout: minutes after which this process begins no other trial.
        metric: what a validation measures, as in `metrics.jsonl`; the best of a run counts.
            Higher is better for what begins with "psnr", lower for all else.
        pruner: what ends poor trials early: "median" (worse than the median of others at the
            same step), "hyperband" (Li et al. 2018) or "none".
        seed: of the search (not of training); several processes need different ones.
        device: "cpu" or "cuda".

    Raises:
        TrainingError: a bad search space, a metric that there is not, a folder with another
            search, or all trials failed.
        InputError: a config, images or a device that cannot be used.
        OutputError: the folder cannot be written to.
        MissingDependencyError: the extra `aecodec[tune]` is not installed.
    """
    with needing("tune", "tuning"):
        import optuna
    from aecodec.imagefiles import find_images
    from aecodec.model.precision import find_device
    from aecodec.tune_report import write_report

    prefix = ""
    if not isinstance(config, TrainConfig):
        prefix = f"{config}: "
        config = TrainConfig.load(Path(config))
    try:
        space = parameters(config)
    except TrainingError as error:
        raise TrainingError(f"{prefix}{error}") from error
    _check(config, space, trials, metric, pruner)
    find_device(device)  # that every trial can use it
    find_images(Path(data))  # that there are images at all
    out = Path(out)
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search = _Search(config, space, Path(data), out, metric, device)
    try:
        study = open_study(config, metric, out, pruner, seed)
        try:
            search.run(study, trials, timeout)
        finally:
            write_report(study, config, space, metric, out)
    finally:
        optuna.logging.set_verbosity(before)
    return _result(study, space, metric, out)


def _check(
    config: TrainConfig, space: tuple[Parameter, ...], trials: int, metric: str, pruner: str
) -> None:
    """Refuse what would stop every trial, or the last of them, before the first.

    Raises:
        TrainingError: there is such a thing.
    """
    if trials < 1:
        raise TrainingError(f"trials must be at least 1, not {trials}")
    if pruner not in PRUNERS:
        raise TrainingError(f"pruner must be one of {', '.join(PRUNERS)}, not {pruner!r}")
    known = metrics(config, space)
    if metric not in known:
        close = difflib.get_close_matches(metric, known, n=1, cutoff=0)
        raise TrainingError(
            f"unknown metric '{metric}'; did you mean '{close[0]}'? "
            f"Validations measure {', '.join(known)}"
        )
    weights = [
        one.key
        for one in space
        if one.key.startswith(("loss.", "model.lambda_")) and metric == "loss"
    ]
    if weights:
        raise TrainingError(
            f"'{weights[0]}' in [tune] changes what the loss means, so trials cannot be compared "
            "by it: choose another metric, such as psnr or mse"
        )


class _Search:
    """The trials of one process."""

    def __init__(
        self,
        config: TrainConfig,
        space: tuple[Parameter, ...],
        data: Path,
        out: Path,
        metric: str,
        device: str,
    ) -> None:
        self.config, self.space, self.data, self.out = config, space, data, out
        self.metric, self.device = metric, device
        self.number = 0  # of the trial at hand

    def run(self, study: optuna.Study, trials: int, timeout: float | None) -> None:
        """One trial after the other, until there are enough or the time is over."""
        import optuna

        end = math.inf if timeout is None else time.monotonic() + 60 * timeout
        while time.monotonic() < end:
            with quietly():
                optuna.storages.fail_stale_trials(study)
            if _count(study) >= trials:
                return
            study.optimize(self._objective, n_trials=1, catch=(_Failed,))
            self._tell(study)
            self._drop_weights(study)

    def _objective(self, trial: optuna.Trial) -> float:
        import optuna

        seen: list[float] = []
        self.number = trial.number

        def validated(record: dict[str, Any]) -> None:
            if self.metric not in record:
                raise _FatalError(f"no '{self.metric}' among {', '.join(record)}")
            seen.append(float(record[self.metric]))
            trial.report(seen[-1], int(record["step"]))
            if trial.should_prune():
                raise optuna.TrialPruned

        try:
            finished = self._train(trial, validated)
        except (_FatalError, MissingDependencyError):
            raise
        except (AecError, RuntimeError, MemoryError) as error:  # torch: out of memory
            _collect()
            trial.set_user_attr("cause", one_line(error))
            raise _Failed from error
        if not finished:
            trial.set_user_attr("cause", "interrupted")
            raise KeyboardInterrupt
        if not seen:
            raise _FatalError(f"{self.data}: no validation images, which tuning needs")
        return max(seen) if higher_is_better(self.metric) else min(seen)

    def _train(self, trial: optuna.Trial, validated: Any) -> bool:
        """Train with the values of a trial; gives whether nobody interrupted it."""
        from aecodec.train.run import train

        values = {one.key: one.suggest(trial) for one in self.space}
        run = trial_folder(self.out, trial.number)
        config = apply(self.config, values)
        return train(config, self.data, run, device=self.device, on_validation=validated).finished

    def _tell(self, study: optuna.Study) -> None:
        """Say what came of the trial of this process."""
        trial, best = study.trials[self.number], best_trial(study)
        outcome = trial.state.name.lower()
        if trial.state.name == "COMPLETE":
            outcome = f"{self.metric} {trial.value:.5g}"
        elif "cause" in trial.user_attrs:
            outcome += f": {trial.user_attrs['cause']}"
        known = "" if best is None else f"; best {best.value:.5g}, trial {best.number}"
        log.info("trial %d: %s%s", trial.number, outcome, known)

    def _drop_weights(self, study: optuna.Study) -> None:
        """Keep the weights of the best trial alone, and of those that run."""
        import optuna

        best = best_trial(study)
        running = optuna.trial.TrialState.RUNNING
        for trial in study.trials:
            if trial.state == running or trial.number == (best.number if best else None):
                continue
            for path in trial_folder(self.out, trial.number).glob("*.safetensors"):
                path.unlink(missing_ok=True)


def _count(study: optuna.Study) -> int:
    """Trials that ended or run; those that somebody interrupted do not count."""
    return sum(trial.user_attrs.get("cause") != "interrupted" for trial in study.trials)


def _collect() -> None:
    """Free what a trial held that may have run out of memory."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _result(study: optuna.Study, space: tuple[Parameter, ...], metric: str, out: Path) -> Tuned:
    """The outcome of a search.

    Raises:
        TrainingError: all trials failed.
    """
    from optuna.trial import TrialState

    states = [trial.state for trial in study.trials]
    counts = [states.count(s) for s in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)]
    best = best_trial(study)
    if best is None and counts[2] and sum(counts) == counts[2]:
        cause = study.trials[-1].user_attrs.get("cause", "its process ended")
        raise TrainingError(f"{out}: all {counts[2]} trials failed; the last one: {cause}")
    values = {one.key: one.value(best.params[one.key]) for one in space} if best else {}
    number, value = (best.number, best.value) if best else (None, None)
    return Tuned(out, metric, number, value, values, *counts)
