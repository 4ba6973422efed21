"""Golden folders: `tests/golden/<job>/<case>/` holds what a Spark job reads and what it must write.

params.yaml            day, and the sections of the recipe that differ from the defaults
landing/<table>/...    landing files, as they are
warehouse/<table>.yaml rows committed before the job runs (partition columns included, nulls omitted)
expect/<table>.yaml    every row of the table afterwards, in any order (nulls omitted, floats to 1e-6);
                       of metrics the rows of the stages that the file names
"""

import datetime as dt
import importlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import tomli_w
import yaml

from microrec.config.settings import settings
from microrec.tables.arrow import Warehouse

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.parent for path in GOLDEN.glob("*/*/params.yaml"))


def test_golden_every_spark_job_has_a_folder() -> None:
    jobs = Path(__file__).parent.parent / "jobs"
    spark_jobs = {
        path.stem
        for path in jobs.glob("*.py")
        if re.search(r"microrec.tables(.spark import| import .*spark)", path.read_text())
    }
    assert spark_jobs
    assert spark_jobs == {case.parent.name for case in CASES}


@pytest.mark.spark
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}/{case.name}")
def test_golden_rows_equal_expected(
    case: Path, place: Path, spark: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = yaml.safe_load((case / "params.yaml").read_text())
    _arrange(case, params, place, monkeypatch)
    importlib.import_module(f"jobs.{case.parent.name}").main(day=params["day"])
    for expected in sorted((case / "expect").glob("*.yaml")):
        wanted = yaml.safe_load(expected.read_text()) or []
        found = _rows_of(expected.stem)
        if expected.stem == "metrics":
            stages = {row["stage"] for row in wanted}
            found = [row for row in found if row["stage"] in stages]
        assert _canonical(found) == _canonical(wanted), expected.stem


def _arrange(
    case: Path, params: dict[str, Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = place / "recipe.toml"
    recipe.write_text(tomli_w.dumps(params.get("recipe", {})))
    monkeypatch.setenv("MICROREC_RECIPE", str(recipe))
    settings.cache_clear()
    if (case / "landing").is_dir():
        shutil.copytree(case / "landing", place / "landing")
    warehouse = Warehouse.open()
    for file in sorted((case / "warehouse").glob("*.yaml")):
        contract = warehouse.table(file.stem).contract
        rows = yaml.safe_load(file.read_text()) or []
        complete = [{name: row.get(name) for name in contract.schema.names} for row in rows]
        table = pa.Table.from_pylist(
            [_typed(row) for row in complete], schema=_nullable(contract.schema)
        )
        scopes = {tuple((name, row[name]) for name in contract.partition) for row in complete}
        warehouse.write(
            file.stem, table, replace=[dict(scope) for scope in sorted(scopes, key=str)]
        )


def _nullable(schema: pa.Schema) -> pa.Schema:
    return pa.schema([pa.field(field.name, field.type) for field in schema])


def _typed(row: Any) -> Any:
    """YAML's plain text timestamps (ISO-8601 with Z) become instants."""
    if isinstance(row, dict):
        return {key: _typed(value) for key, value in row.items()}
    if isinstance(row, list):
        return [_typed(value) for value in row]
    if isinstance(row, str) and len(row) >= 20 and row.endswith("Z") and row[10] == "T":
        return dt.datetime.fromisoformat(row.replace("Z", "+00:00"))
    return row


def _rows_of(table: str) -> list[dict[str, Any]]:
    warehouse = Warehouse.open()
    rows = warehouse.read(table).to_pylist() if warehouse.partitions(table) else []
    return rows


def _canonical(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(_plain(_typed(row)), sort_keys=True) for row in rows)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return round(value, 6) + 0.0
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat()
    return value.isoformat() if isinstance(value, dt.date) else value
