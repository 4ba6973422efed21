"""How crowded the graphs of a night are, from the metrics of the job that made them."""

import datetime as dt
from pathlib import Path

import pyarrow as pa

from microrec.pipeline import graph_figures
from microrec.pipeline.night import Night

DAY = dt.date(2026, 1, 5)


def test_crowding_is_the_greatest_in_degree_over_the_mean(place: Path) -> None:
    night = Night.open(DAY, fit="trial")
    assert graph_figures.crowding(night) == {}
    figures = {
        "tags": {"edges": 40.0, "lists": 10.0, "largest_in_degree": 10.0},
        "visual": {"edges": 30.0, "lists": 10.0, "largest_in_degree": 3.0},
        "empty": {"edges": 0.0, "lists": 0.0, "largest_in_degree": 0.0},
    }
    rows = [
        {"name": name, "metric": metric, "slice": "all", "value": value, "n": 10}
        for name, metrics in figures.items()
        for metric, value in metrics.items()
    ]
    schema = night.warehouse.table("metrics").contract.file_schema
    filled = [{column: row.get(column) for column in schema.names} for row in rows]
    night.write("metrics", pa.Table.from_pylist(filled, schema=schema), stage="modality_graph")
    assert graph_figures.crowding(night) == {"tags": 2.5, "visual": 1.0}
