"""What a search found: the best config, all trials as JSON, plots of history and importance."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aecodec.figures import COLOURS, new_figure, save, tidy
from aecodec.jsontext import as_json
from aecodec.output import write_text
from aecodec.train.config import TrainConfig
from aecodec.tune_space import Parameter, apply
from aecodec.tune_study import best_trial

if TYPE_CHECKING:
    import optuna
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

BEST, LIST, HISTORY, IMPORTANCE = "best.toml", "trials.json", "history.png", "importance.png"
FORMAT = "aecodec-tuning"
VERSION = 1

_LABELS = {"psnr": "PSNR (dB)", "loss": "loss", "mse": "MSE", "l1": "MAE"}


def write_report(
    study: optuna.Study,
    config: TrainConfig,
    space: Sequence[Parameter],
    metric: str,
    out: Path,
) -> None:
    """Write what is known by now; each file whole or not at all.

    Raises:
        OutputError: a file cannot be written.
    """
    best = best_trial(study)
    if best is not None:
        text = f"# trial {best.number} of a search: {metric} {best.value:.6g}\n"
        found = apply(config, _values(best, space))
        write_text(out / BEST, text + found.to_toml(), overwrite=True)
    importance = importances(study)
    listed = numbers(study, space, metric, importance)
    write_text(out / LIST, as_json(listed), overwrite=True)
    if study.trials:
        save(history(study, metric), out / HISTORY)
    if importance:
        save(importance_plot(study, importance, metric), out / IMPORTANCE)


def _values(trial: optuna.trial.FrozenTrial, space: Sequence[Parameter]) -> dict[str, Any]:
    return {one.key: one.value(trial.params[one.key]) for one in space if one.key in trial.params}


def importances(study: optuna.Study) -> dict[str, float]:
    """How much each key matters, with a sum of 1 (PED-ANOVA: Watanabe et al. 2023).

    Empty where the trials do not say: fewer than two complete ones, or all alike.
    """
    import optuna

    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if len({trial.value for trial in complete}) < 2:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    try:
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    except (ValueError, RuntimeError) as error:
        log.warning("importances are not known: %s", error)
        return {}
    return {key: float(value) for key, value in found.items()}


def numbers(
    study: optuna.Study, space: Sequence[Parameter], metric: str, importance: dict[str, float]
) -> dict[str, Any]:
    """Everything about the search, for JSON."""
    best = best_trial(study)
    return {
        "format": FORMAT,
        "format_version": VERSION,
        "metric": metric,
        "direction": study.direction.name.lower(),
        "best_trial": None if best is None else best.number,
        "importance": importance,
        "trials": [_trial(trial, space) for trial in study.trials],
    }


def _trial(trial: optuna.trial.FrozenTrial, space: Sequence[Parameter]) -> dict[str, Any]:
    ended = "its process ended" if trial.state.name == "FAIL" else None
    seconds = None if trial.duration is None else trial.duration.total_seconds()
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "value": trial.value if trial.state.name == "COMPLETE" else None,
        "values": _values(trial, space),
        "cause": trial.user_attrs.get("cause", ended),
        "started": None if trial.datetime_start is None else trial.datetime_start.isoformat(),
        "seconds": seconds,
        "validations": {str(step): v for step, v in sorted(trial.intermediate_values.items())},
    }


def history(study: optuna.Study, metric: str) -> Figure:
    """Each trial's value with the best so far, and below the validations of all trials."""
    title = f"Search over {len(study.trials)} trials"
    figure = new_figure(10, 7.2, title)
    panels: Any = figure.subplots(2, 1)
    _outcomes(panels[0], study, metric)
    _courses(panels[1], study, metric)
    return figure


def _outcomes(axes: Axes, study: optuna.Study, metric: str) -> None:
    groups: dict[str, list[tuple[int, float]]] = {"COMPLETE": [], "PRUNED": []}
    for trial in study.trials:
        # of a pruned trial Optuna's value is its last validation
        if trial.state.name in groups and trial.value is not None:
            groups[trial.state.name].append((trial.number, trial.value))
    looks: dict[str, dict[str, Any]] = {
        "COMPLETE": {"c": COLOURS[0], "marker": "o", "label": "completed"},
        "PRUNED": {"c": "#777777", "marker": "x", "label": "pruned (its last validation)"},
    }
    for state, points in groups.items():
        if points:
            axes.scatter(*zip(*points, strict=True), zorder=3, **looks[state])
    failed = [trial.number for trial in study.trials if trial.state.name == "FAIL"]
    if failed:
        axes.plot(
            failed,
            [0.02] * len(failed),
            "v",
            color=COLOURS[1],
            transform=axes.get_xaxis_transform(),
            label="failed",
        )
    _best_line(axes, groups["COMPLETE"], study)
    axes.set(xlabel="trial", ylabel=_LABELS.get(metric, metric), title="best value of each trial")
    locator: Any = axes.xaxis.get_major_locator()
    locator.set_params(integer=True)
    _legend(axes)


def _best_line(axes: Axes, points: list[tuple[int, float]], study: optuna.Study) -> None:
    choose = max if study.direction.name == "MAXIMIZE" else min
    best: list[float] = []
    for _, value in points:
        best.append(choose(value, best[-1]) if best else value)
    if points:
        numbers = [number for number, _ in points]
        axes.step(
            [*numbers, len(study.trials) - 1],
            [*best, best[-1]],
            where="post",
            color=COLOURS[2],
            label="best so far",
        )


def _courses(axes: Axes, study: optuna.Study, metric: str) -> None:
    """Validations by step; the best trial stands out."""
    best = best_trial(study)
    labels: set[str] = set()
    for trial in study.trials:
        points = sorted(trial.intermediate_values.items())
        if not points:
            continue
        first = best is not None and trial.number == best.number
        pruned = trial.state.name == "PRUNED"
        label = f"trial {trial.number}, the best" if first else "pruned" if pruned else "others"
        axes.plot(
            *zip(*points, strict=True),
            color=COLOURS[2] if first else "#777777" if pruned else COLOURS[0],
            linestyle="dotted" if pruned else "solid",
            linewidth=2.4 if first else 1,
            alpha=1 if first else 0.6,
            marker="o" if first or len(points) == 1 else None,
            markersize=4,
            zorder=4 if first else 3,
            label=None if label in labels else label,
        )
        labels.add(label)
    values = [v for t in study.trials for v in t.intermediate_values.values()]
    if values and min(values) > 0 and max(values) > 20 * min(values):
        axes.set_yscale("log")
    axes.set(xlabel="step", ylabel=_LABELS.get(metric, metric), title="validations")
    _legend(axes)


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    tidy(axes)


def importance_plot(study: optuna.Study, importance: dict[str, float], metric: str) -> Figure:
    """How much each key matters, and what its values gave."""
    keys = list(importance)
    columns = min(3, len(keys))
    rows = -(-len(keys) // columns)
    count = sum(trial.state.name == "COMPLETE" for trial in study.trials)
    title = f"How much each key matters, by {count} completed trials"
    figure = new_figure(9.5, 1.2 + 0.35 * len(keys) + 2.6 * rows, title)
    parts: Any = figure.subfigures(2, 1, height_ratios=[0.6 + 0.35 * len(keys), 2.6 * rows])
    axes = parts[0].subplots()
    axes.barh(keys[::-1], [importance[key] for key in keys[::-1]], color=COLOURS[0])
    axes.set(xlabel="share of the importance (PED-ANOVA)", xlim=(0, 1))
    tidy(axes)
    panels: Any = parts[1].subplots(rows, columns, squeeze=False, sharey=True)
    for panel in panels.flat[len(keys) :]:
        panel.set_axis_off()
    for panel, key in zip(panels.flat, keys, strict=False):
        _slice(panel, study, key)
    for row in panels:
        row[0].set_ylabel(_LABELS.get(metric, metric))
    return figure


def _slice(axes: Axes, study: optuna.Study, key: str) -> None:
    """The values of one key against what completed trials came to."""
    trials = [t for t in study.trials if t.state.name == "COMPLETE" and key in t.params]
    spread: Any = trials[0].distributions[key]
    values = [trial.params[key] for trial in trials]
    if hasattr(spread, "choices"):
        values = [str(value) for value in values]
        axes.margins(x=0.3)
    outcomes: Any = [trial.value for trial in trials]
    axes.scatter(values, outcomes, color=COLOURS[0], s=22, alpha=0.8)
    if getattr(spread, "log", False):
        axes.set_xscale("log")
    axes.set_xlabel(key + (", logarithmic" if getattr(spread, "log", False) else ""))
    tidy(axes)
