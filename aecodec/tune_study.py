"""The study of a search: Optuna's database in a folder, made, gone on with, or begun anew."""

from __future__ import annotations

import json
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aecodec.errors import AecError, OutputError, TrainingError, cause_of
from aecodec.train.config import TrainConfig

if TYPE_CHECKING:
    import optuna

STUDY = "aecodec"
STORAGE = "study.db"
TRIALS = "trials"
PRUNERS = ("median", "hyperband", "none")

_STARTUP = 5  # trials before the median is trusted
_HEARTBEAT = 30  # seconds; a trial silent for twice as long belongs to a dead process
_ATTEMPTS = 20  # at opening a storage that another process is just making


def open_study(
    config: TrainConfig, metric: str, out: Path, pruner: str, seed: int | None
) -> optuna.Study:
    """The study in a folder, made if it is not there.

    One of another config or metric that came to nothing is forgotten, and its trials with it.

    Args:
        config: with a search space.
        metric: what is optimised.
        out: the folder, made if it is not there.
        pruner: one of `PRUNERS`.
        seed: of the search.

    Raises:
        TrainingError: it belongs to another config or metric, or cannot be used.
        OutputError: the folder cannot be made.
    """
    import optuna

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be made: {cause_of(error)}") from error
    storage = _storage(out / STORAGE)

    def load() -> optuna.Study:
        study = optuna.create_study(
            storage=storage,
            study_name=STUDY,
            pruner=_pruner(pruner, config),
            direction="maximize" if higher_is_better(metric) else "minimize",
            load_if_exists=True,
        )
        # a search that goes on draws other numbers than at its start, and than one beside it
        # with the next seed, which may find one trial less
        mixed = None if seed is None else (seed * 1_000_003 + len(study.trials)) % 2**32
        study.sampler = optuna.samplers.TPESampler(seed=mixed)
        return study

    study = load()
    searched = {"config": json.loads(config.to_json()), "metric": metric}
    known = study.user_attrs.get("search", searched)
    if known["metric"] != metric or _read(known["config"]) != config:
        with quietly():
            optuna.storages.fail_stale_trials(study)
        if any(trial.state.name in ("COMPLETE", "RUNNING") for trial in study.trials):
            raise TrainingError(
                f"{out}: has a search with another config or metric; use another folder"
            )
        _forget(study, storage, out)
        study = load()
    study.set_user_attr("search", searched)
    return study


def _forget(study: optuna.Study, storage: optuna.storages.RDBStorage, out: Path) -> None:
    """Remove a study, which keeps its direction for ever, and the run folders of its trials."""
    import optuna

    for trial in study.trials:
        shutil.rmtree(trial_folder(out, trial.number), ignore_errors=True)
    optuna.delete_study(study_name=STUDY, storage=storage)


def trial_folder(out: Path, number: int) -> Path:
    """The run folder of a trial."""
    return out / TRIALS / f"{number:04}"


def _pruner(name: str, config: TrainConfig) -> optuna.pruners.BasePruner:
    import optuna

    if name == "none":
        return optuna.pruners.NopPruner()
    if name == "median":
        early = 0 if config.minutes else config.steps // 5
        return optuna.pruners.MedianPruner(_STARTUP, n_warmup_steps=early)
    most = "auto" if config.minutes else config.steps
    return optuna.pruners.HyperbandPruner(min(config.validate_every, config.steps), most)


def best_trial(study: optuna.Study) -> optuna.trial.FrozenTrial | None:
    """The best of the completed trials, if there is one."""
    try:
        return study.best_trial
    except ValueError:  # none is complete
        return None


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
            with quietly():
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
def quietly() -> Iterator[None]:
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
