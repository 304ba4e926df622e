"""What a report says about validation: charts with intervals, by kind of image and band of noise; the best round."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from toolkit.output.figures import Thinned, number, whole
from toolkit.report.charts import Chart, chart_of

_DISTANCE = "preserved"  # its figure is a distance to the base model, and no change of an error
_MOST = 20.0  # logarithm of a ratio that is still drawn


def validation_charts(rounds: Mapping[int, Mapping[str, Any]], checkpoints: Sequence[int]) -> list[Chart]:
    """The charts of a run's rounds: what they found with 95 % intervals, and then by band of noise.

    Args:
        rounds: the events of kind `validation`, by step.
        checkpoints: steps to mark.
    """
    kinds = dict.fromkeys(kind for event in rounds.values() for kind in _figures(event))
    changes = {_words(kind): curve for kind in kinds if kind != _DISTANCE and (curve := _curve(rounds, kind))}
    distances = {_words(kind): curve for kind in kinds if kind == _DISTANCE and (curve := _curve(rounds, kind))}
    made = []
    if changes:
        made.append(
            chart_of("Change of the error against the base model, %, with 95 % intervals", changes, checkpoints)
        )
    if distances:
        made.append(chart_of("Distance to the base model without the trigger word, %", distances, checkpoints))
    for kind in kinds:
        bands = dict.fromkeys(band for event in rounds.values() for band in _bands(event, kind))
        curves = {f"noise {band}": curve for band in bands if (curve := _curve(rounds, kind, band))}
        if curves:
            made.append(chart_of(f"{_words(kind).capitalize()}, by noise level, change in %", curves, checkpoints))
    return made


def best_round(rounds: Mapping[int, Mapping[str, Any]]) -> str | None:
    """Which round was the best, in a sentence; None if that is not known."""
    best = rounds[max(rounds)].get("best") if rounds else None
    if not isinstance(best, dict) or (step := whole(best.get("step"))) is None:
        return None
    said = f"Best by {_words(str(best.get('figure')))}: step {step:,}"
    if (mean := number(best.get("mean"))) is not None:
        said += f", error {_percent(mean):+.1f} % against the base model"
    alike = [str(step) for step in best.get("alike", ()) if whole(step) is not None]
    return f"{said}." + (f" Steps not significantly different from it: {', '.join(alike)}." if alike else "")


def round_words(event: Mapping[str, Any]) -> str | None:
    """What one round found, with its intervals, in a sentence or two; None if it says nothing of images."""
    best = event.get("best")
    named = str(best.get("figure")) if isinstance(best, dict) else ""
    figures = {kind: it for kind, it in _figures(event).items() if kind != _DISTANCE}
    kind = named if named in figures else next(iter(figures), None)
    found = None if kind is None else _interval(figures[kind])
    if kind is None or found is None:
        return None
    said = f"{_words(kind).capitalize()}: error {found} against the base model."
    gap = event.get("gap")
    gap_found = _interval(gap) if isinstance(gap, dict) else None
    return said if gap_found is None else f"{said} Over-fit gap: {gap_found}."


def _interval(figure: Mapping[str, Any]) -> str | None:
    mean, half = number(figure.get("mean")), number(figure.get("half"))
    if mean is None:
        return None
    said = f"{_percent(mean):+.1f} %"
    return said if half is None else f"{said} ({_percent(mean - half):+.1f} to {_percent(mean + half):+.1f} %)"


def _curve(rounds: Mapping[int, Mapping[str, Any]], kind: str, band: str | None = None) -> Thinned | None:
    """The figures of a kind of images, or of one band of noise; None without any."""
    shown: Callable[[float], float] = (lambda value: 100 * value) if kind == _DISTANCE else _percent
    found = Thinned([], [], [], [])
    for step, event in sorted(rounds.items()):
        figure = _figures(event).get(kind, {}) if band is None else _bands(event, kind).get(band, {})
        mean = number(figure.get("mean"))
        if mean is None:
            continue
        half = number(figure.get("half")) or 0.0
        for part, value in ((found.low, mean - half), (found.mean, mean), (found.high, mean + half)):
            part.append(shown(value))
        found.steps.append(step)
    return found if found.steps else None


def _figures(event: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    figures = event.get("figures")
    return {kind: it for kind, it in figures.items() if isinstance(it, dict)} if isinstance(figures, dict) else {}


def _bands(event: Mapping[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    bands = _figures(event).get(kind, {}).get("bands")
    return {band: it for band, it in bands.items() if isinstance(it, dict)} if isinstance(bands, dict) else {}


def _words(kind: str) -> str:
    return {"held_out": "held-out images", "train": "training images", "mirrored": "mirrored images"}.get(
        kind, kind.replace("_", " ")
    )


def _percent(logarithm: float) -> float:
    return 100 * math.expm1(min(logarithm, _MOST))
