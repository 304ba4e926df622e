"""The curves of a report."""

from __future__ import annotations

import pytest

from toolkit.output.figures import Column, CurveReader
from toolkit.report.charts import HEIGHT, WIDTH, Chart, charts


def column(values: list[float]) -> Column:
    made = Column()
    for step, value in enumerate(values, 1):
        made.add(step, value)
    return made


def chart(values: list[float], name: str = "loss") -> Chart:
    (made,) = charts({name: column(values)}, [])
    return made


def points(text: str) -> list[tuple[float, float]]:
    return [tuple(map(float, pair.split(","))) for pair in text.split()]  # type: ignore[misc]


@pytest.mark.parametrize("values", [[0.5], [0.0], [-1.0, 1.0], [1e-9, 2e-9], [1.0] * 1000, [1e12, 1.0], [3.0, 3.0]])
def test_any_curve_stays_inside_its_chart_and_has_round_ticks(values: list[float]) -> None:
    made = chart(values)
    for line in made.lines:
        for x, y in points(line.points) + points(line.band) + points(line.smoothed):
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT
    assert made.y_ticks
    assert all(len(text) <= 9 for _, text in made.y_ticks)


def test_a_high_figure_is_high_on_the_screen() -> None:
    (line,) = chart([0.0, 1.0], "lr").lines
    (x0, y0), (x1, y1) = points(line.points)
    assert x0 < x1
    assert y0 > y1


def test_a_spike_does_not_flatten_the_loss() -> None:
    made = chart([1.0, *[0.5, 0.6] * 200, 1000.0])
    assert max(float(text) for _, text in made.y_ticks) <= 1


def test_a_smoothed_curve_follows_the_mean() -> None:
    (line,) = chart([0.0, 1.0] * 100).lines
    middle = [y for _, y in points(line.smoothed)][10:-10]
    (low, high) = (points(line.points)[0][1], points(line.points)[1][1])
    assert all(abs(y - (low + high) / 2) < 0.2 * abs(high - low) for y in middle)


def test_curves_that_belong_together_share_a_chart() -> None:
    reader = CurveReader()
    for step in range(1, 4):
        reader.take({"kind": "step", "step": step, "loss": 1.0, "terms": {"a": 0.5, "b": 0.5}, "rates": {"x": 1.0}})
        reader.take({"kind": "memory", "ram_bytes": 2**30, "gpu_bytes": 2**31})
    made = {one.title: [line.name for line in one.lines] for one in charts(reader.columns, [2])}
    assert made == {
        "Loss": ["loss"],
        "Loss, by term": ["a", "b"],
        "Memory, GB": ["RAM", "card, tensors"],
        "Rates": ["x"],
    }
    loss = charts(reader.columns, [2, 99])[0]
    assert [step for _, step in loss.marks] == [2]


def test_losses_by_noise_and_dataset_have_charts_beside_the_loss() -> None:
    reader = CurveReader()
    for step, band in ((1, "0.5-0.75"), (2, "0-0.25"), (3, "0.5-0.75")):
        by_noise = {"loss_by_noise": {band: 1.0}, "grad_by_noise": {band: 2.0}}
        by_dataset = {"loss_by_dataset": {"0 cats": 1.0, "1 dogs": 2.0}}
        reader.take({"kind": "step", "step": step, "loss": 1.0, "grad_norm": 2.0, **by_noise, **by_dataset})
    assert list(reader.columns["loss_by_noise/0.5-0.75"].steps) == [1, 3]
    assert {one.title: [line.name for line in one.lines] for one in charts(reader.columns, [])} == {
        "Loss": ["loss"],
        "Loss, by share of noise": ["0-0.25", "0.5-0.75"],
        "Loss, by dataset": ["0 cats", "1 dogs"],
        "Gradient norm, before clipping": ["grad_norm"],
        "Gradient norm, by share of noise": ["0-0.25", "0.5-0.75"],
    }


def test_steps_that_were_made_again_replace_the_old_ones() -> None:
    reader = CurveReader()
    for step, loss in ((1, 1.0), (2, 2.0), (3, 3.0), (2, 20.0)):
        reader.take({"kind": "step", "step": step, "loss": loss})
    assert list(reader.columns["loss"].steps) == [1, 2]
    assert list(reader.columns["loss"].values) == [1.0, 20.0]


def test_rounds_of_validation_are_curves_by_kind_and_by_band() -> None:
    reader = CurveReader()
    figure = {"mean": -0.1, "half": 0.02, "num": 4}
    figures = {"held_out": figure | {"bands": {"0-0.5": figure | {"mean": -0.3}}}}
    reader.take({"kind": "validation", "step": 5, "figures": figures, "gap": figure | {"mean": 0.2}})
    found = {name: list(column.values) for name, column in reader.columns.items()}
    assert found == {"validation/held_out": [-0.1], "validation/held_out/0-0.5": [-0.3], "validation/gap": [0.2]}
    assert charts(reader.columns, []) == []
