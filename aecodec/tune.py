"""Hyperparameter search: trials of a training config, by Optuna, in a folder to come back to."""

from __future__ import annotations

import gc
import json
import logging
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import AecError, MissingDependencyError, TrainingError
from .train.config import TrainConfig
from .tune_space import Parameter, apply, parameters

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)

STUDY = "aecodec"
STORAGE = "study.db"
TRIALS = "trials"
PRUNERS = ("median", "hyperband", "none")

_STARTUP = 5  # trials before the median is trusted
_HEARTBEAT = 30  # seconds; a trial silent for twice as long belongs to a dead process
_ATTEMPTS = 20  # at opening a storage that another process is just making


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


@contextmanager
def needs_tune() -> Iterator[None]:
    """Around imports: turn a missing package into an error that names the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"tuning needs {error.name}: pip install 'aecodec[tune]'"
        ) from error


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
        metric: a key of `metrics.jsonl`, the best of a run counts. Higher is better for what
            begins with "psnr", lower for all else.
        pruner: what ends poor trials early: "median" (worse than the median of others at the
            same step), "hyperband" (Li et al. 2018) or "none".
        seed: of the search (not of training); several processes need different ones.
        device: "cpu" or "cuda".

    Raises:
        TrainingError: a bad search space, no usable images, a folder with another search, or
            all trials failed.
        MissingDependencyError: the extra `aecodec[tune]` is not installed.
    """
    with needs_tune():
        import optuna
    from .train.files import find_images
    from .tune_report import write_report

    prefix = ""
    if not isinstance(config, TrainConfig):
        prefix = f"{config}: "
        config = TrainConfig.load(Path(config))
    try:
        space = parameters(config)
    except TrainingError as error:
        raise TrainingError(f"{prefix}{error}") from error
    _check(space, trials, metric, pruner)
    find_images(Path(data))  # that there are images at all
    out = Path(out)
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    search = _Search(config, space, Path(data), out, metric, device)
    try:
        study = search.open(pruner, seed)
        try:
            search.run(study, trials, timeout)
        finally:
            write_report(study, config, space, metric, out)
    finally:
        optuna.logging.set_verbosity(before)
    return _result(study, space, metric, out)


def _check(space: tuple[Parameter, ...], trials: int, metric: str, pruner: str) -> None:
    if trials < 1:
        raise TrainingError(f"trials must be at least 1, not {trials}")
    if pruner not in PRUNERS:
        raise TrainingError(f"pruner must be one of {', '.join(PRUNERS)}, not {pruner!r}")
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

    def open(self, pruner: str, seed: int | None) -> optuna.Study:
        """The study in the folder, made if it is not there.

        Raises:
            TrainingError: it belongs to another config or metric, or cannot be used.
        """
        import optuna

        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"{self.out}: cannot be made: {error.strerror}") from error
        study = optuna.create_study(
            storage=_storage(self.out / STORAGE),
            study_name=STUDY,
            sampler=optuna.samplers.TPESampler(seed=seed),
            pruner=self._pruner(pruner),
            direction="maximize" if higher_is_better(self.metric) else "minimize",
            load_if_exists=True,
        )
        searched = {"config": json.loads(self.config.to_json()), "metric": self.metric}
        known = study.user_attrs.get("search", searched)
        if known["metric"] != self.metric or _read(known["config"]) != self.config:
            raise TrainingError(
                f"{self.out}: has a search with another config or metric; use another folder"
            )
        study.set_user_attr("search", searched)
        return study

    def _pruner(self, name: str) -> optuna.pruners.BasePruner:
        import optuna

        config = self.config
        if name == "none":
            return optuna.pruners.NopPruner()
        if name == "median":
            early = 0 if config.minutes else config.steps // 5
            return optuna.pruners.MedianPruner(_STARTUP, n_warmup_steps=early)
        most = "auto" if config.minutes else config.steps
        return optuna.pruners.HyperbandPruner(min(config.validate_every, config.steps), most)

    def run(self, study: optuna.Study, trials: int, timeout: float | None) -> None:
        """One trial after the other, until there are enough or the time is over."""
        import optuna

        end = math.inf if timeout is None else time.monotonic() + 60 * timeout
        while time.monotonic() < end:
            with _quietly():
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
            trial.set_user_attr("cause", " ".join(str(error).split()) or type(error).__name__)
            raise _Failed from error
        if not finished:
            trial.set_user_attr("cause", "interrupted")
            raise KeyboardInterrupt
        if not seen:
            raise _FatalError(f"{self.data}: no validation images, which tuning needs")
        return max(seen) if higher_is_better(self.metric) else min(seen)

    def _train(self, trial: optuna.Trial, validated: Any) -> bool:
        """Train with the values of a trial; gives whether nobody interrupted it."""
        from .train.run import train

        values = {one.key: one.suggest(trial) for one in self.space}
        run = self.out / TRIALS / f"{trial.number:04}"
        config = apply(self.config, values)
        return train(config, self.data, run, device=self.device, on_validation=validated).finished

    def _tell(self, study: optuna.Study) -> None:
        """Say what came of the trial of this process."""
        trial, best = study.trials[self.number], _best(study)
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

        best = _best(study)
        running = optuna.trial.TrialState.RUNNING
        for trial in study.trials:
            if trial.state == running or trial.number == (best.number if best else None):
                continue
            for path in (self.out / TRIALS / f"{trial.number:04}").glob("*.safetensors"):
                path.unlink(missing_ok=True)


def higher_is_better(metric: str) -> bool:
    """Whether a metric of `metrics.jsonl` is to be maximised."""
    return metric.startswith("psnr")


def _storage(path: Path) -> optuna.storages.RDBStorage:
    """Optuna's SQLite storage; waits for a process that is making it.

    Raises:
        TrainingError: it cannot be used.
    """
    import optuna
    from sqlalchemy import URL
    from sqlalchemy.exc import SQLAlchemyError

    url = URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)
    for attempt in range(_ATTEMPTS):
        try:
            with _quietly():
                return optuna.storages.RDBStorage(
                    url,
                    engine_kwargs={"connect_args": {"timeout": 60}},
                    heartbeat_interval=_HEARTBEAT,
                    grace_period=2 * _HEARTBEAT,
                )
        except (SQLAlchemyError, RuntimeError) as error:
            cause = str(getattr(error, "orig", None) or error).splitlines()[0]
            if attempt + 1 == _ATTEMPTS or "not a database" in cause:
                raise TrainingError(f"{path}: cannot be used: {cause}") from error
            time.sleep(0.25)
    raise AssertionError  # the last attempt returned or raised


@contextmanager
def _quietly() -> Iterator[None]:
    """Without Optuna's warnings that heartbeats are experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _read(config: dict[str, Any]) -> TrainConfig | None:
    """A config that an older release may have stored, without keys that came later."""
    try:
        return TrainConfig.from_dict(config)
    except AecError:
        return None


def _count(study: optuna.Study) -> int:
    """Trials that ended or run; those that somebody interrupted do not count."""
    return sum(trial.user_attrs.get("cause") != "interrupted" for trial in study.trials)


def _best(study: optuna.Study) -> optuna.trial.FrozenTrial | None:
    try:
        return study.best_trial
    except ValueError:  # none is complete
        return None


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
    best = _best(study)
    if best is None and counts[2] and sum(counts) == counts[2]:
        cause = study.trials[-1].user_attrs.get("cause", "its process ended")
        raise TrainingError(f"{out}: all {counts[2]} trials failed; the last one: {cause}")
    values = {one.key: one.value(best.params[one.key]) for one in space} if best else {}
    number, value = (best.number, best.value) if best else (None, None)
    return Tuned(out, metric, number, value, values, *counts)
