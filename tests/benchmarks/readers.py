"""Who reads the result tables of a night: `python -m tests.benchmarks.readers --warehouse ROOT --out DIR`.

Every result table of the latest release is read at its pinned version by the code that schemas/README.md gives
consumers, and compared with `release.read`, row by row. DuckDB's `delta` extension (delta kernel) is read in the
process of another Python that has it, by the number of rows.
"""

import argparse
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from microrec.release import reader
from tests.benchmarks import report
from tests.release import readers

KERNEL = """
import json, sys
import duckdb
from duckdb_extensions import import_extension
import_extension("delta")
connection = duckdb.connect()
connection.load_extension("delta")
counts = {}
for table, version in json.loads(sys.argv[2]).items():
    scan = f"delta_scan('{sys.argv[1]}/{table}', version => {version})"
    query = f"SELECT count(*) FROM {scan} WHERE day = DATE '{sys.argv[3]}'"
    counts[table] = connection.sql(query).fetchone()[0]
print(json.dumps(counts))
"""


def run(warehouse: str, *, engines: Sequence[str], kernel: str | None) -> list[report.Row]:
    """Read and compare.

    Args:
        warehouse: its root.
        engines: of `readers.ENGINES`.
        kernel: a Python with duckdb-extension-delta.

    Returns:
        Rows of results: 1 where a reader has the rows of the release.
    """
    release = reader.latest(warehouse)
    counts: dict[str, int] = {}
    if kernel:
        versions = json.dumps({table: pin.version for table, pin in release.tables.items()})
        command = [kernel, "-c", KERNEL, warehouse, versions, str(release.day)]
        counts = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    rows = []
    for table in reader.RESULTS:
        expected = readers.plain(release.read(table).to_pylist())
        equal = {
            engine: readers.plain(readers.read(engine, warehouse, table)) == expected
            for engine in engines
        }
        if kernel:
            equal["delta kernel"] = counts[table] == len(expected)
        rows.append(report.row("readers", table, "rows", "release", len(expected), unit=""))
        for engine, is_equal in equal.items():
            rows.append(report.row("readers", table, engine, "release", float(is_equal), unit=""))
    return rows


def main() -> None:
    """Read, compare and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--warehouse", required=True)
    parser.add_argument("--kernel", help="a Python with duckdb-extension-delta")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    arguments = parser.parse_args()
    rows = run(arguments.warehouse, engines=list(readers.ENGINES), kernel=arguments.kernel)
    report.write(rows, arguments.out)


if __name__ == "__main__":
    main()
