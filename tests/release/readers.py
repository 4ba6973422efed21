"""The readers of other hands: the code that schemas/README.head.md gives consumers to copy, as it stands there."""

import datetime as dt
import re
from pathlib import Path
from typing import Any

import pyarrow as pa

from microrec.config.settings import HOME
from microrec.release import reader
from microrec.tables.arrow import Warehouse
from tests.worlds.releases import UNTIL, filled

PAGE = HOME / "schemas" / "README.head.md"
ENGINES = {
    "polars": "import polars as pl",
    "pandas": "import pandas",
    "duckdb": "import duckdb",
    "spark": "from pyspark.sql import",
}
"""By reader how its code begins."""
FIRST = "from deltalake import DeltaTable"
VALUES: dict[str, dict[str, Any]] = {
    "user_trends": {
        "tags": [["a"]],
        "videos": [["v1", "v2"]],
        "direction": ["rising"],
        "latest_at": [UNTIL - dt.timedelta(days=1)],
    },
    "clip_interest": {"end_ms": [2]},
    "exit_points": {"segment": ["__global__"]},
    "blend_weights": {"method": ["learned"]},
    "metrics": {"stage": ["release"]},
    # A column of whole numbers of which some are missing, which pandas makes fractions if it may.
    "similar_videos": {
        "rank": [1, 2],
        "similar_video_id": ["v1", "v2"],
        "evidence_viewers": [None, 7],
    },
}
"""Of tables whose checks allow few values, some that they allow."""


def publish(warehouse: Warehouse, day: Any) -> None:
    """Write a release of a row or two a result table, and then other rows over it that no release pins."""
    pins = []
    for table in reader.RESULTS:
        columns = VALUES.get(table, {})
        n_rows = len(next(iter(columns.values()), [table]))
        warehouse.write(table, filled(warehouse, table, n_rows, **columns), day=day)
        digest = warehouse.digest(table, day=day)
        pins.append(vars(reader.Pin(table, warehouse.version(table), n_rows, digest)))
    row = filled(warehouse, "releases", 1, tables=[pins], status=[reader.RELEASED])
    warehouse.write("releases", row, day=day)
    for table in reader.RESULTS:
        later = VALUES.get(table, {})
        text = next(
            field.name
            for field in warehouse.table(table).contract.schema
            if pa.types.is_string(field.type)
            and field.name not in {*later, "fit", "severity", "status", "stage", "kind", "segment"}
        )
        n_rows = len(next(iter(later.values()), [table]))
        rows = filled(warehouse, table, n_rows, **later, **{text: ["of no release"] * n_rows})
        warehouse.write(table, rows, day=day)


def block(start: str) -> str:
    """The block of code of the page that begins with some words."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    (code,) = [code for code in blocks if code.startswith(start)]
    return str(code)


def read(engine: str, warehouse: str | Path, table: str) -> list[dict[str, Any]]:
    """Return the rows of a result table of the latest release, as the code of an engine reads them.

    Args:
        engine: one of `ENGINES`.
        warehouse: its root.
        table: name of the table.
    """
    code = block(FIRST).replace('"var/world/warehouse"', repr(str(warehouse)))
    code = code.replace('"recommendations"', repr(table)) + block(ENGINES[engine])
    names: dict[str, Any] = {}
    exec(code, names)
    rows = names["rows"]
    if engine == "polars":
        return list(rows.to_dicts())
    if engine == "pandas":
        return list(pa.Table.from_pandas(rows, preserve_index=False).to_pylist())
    if engine == "duckdb":
        return list(rows.to_arrow_table().to_pylist())
    return [row.asDict(recursive=True) for row in rows.collect()]


def plain(rows: list[dict[str, Any]]) -> list[Any]:
    """Rows whose values are compared whatever type of time and of missing value an engine has."""

    def value(each: Any) -> Any:
        if each is None or each != each:
            return None
        if isinstance(each, dict):
            return sorted((name, value(field)) for name, field in each.items())
        if isinstance(each, list | tuple) or hasattr(each, "tolist"):
            return [value(item) for item in each]
        if hasattr(each, "timestamp"):
            return each.timestamp()
        return str(each) if hasattr(each, "isoformat") else each

    return sorted(repr(sorted((name, value(field)) for name, field in row.items())) for row in rows)
