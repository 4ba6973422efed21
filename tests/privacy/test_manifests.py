"""Manifests name the landing files that hold somebody, and nobody."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from microrec.privacy import manifests
from microrec.tables.arrow import Warehouse


def test_manifest_names_files_of_every_format(place: Path) -> None:
    landing = place / "landing"
    day = landing / "raw_interactions" / "day=2026-01-04"
    day.mkdir(parents=True)
    (day / "a.csv").write_text("user_id,video_id\n17,v1\n")
    (day / "b.csv").write_text("user_id,video_id\n170,v17\n")
    with gzip.open(day / "c.jsonl.gz", "wt") as file:
        file.write('{"user_id": "u1"\n')
    pq.write_table(pa.table({"user_id": ["u2", "u1"]}), day / "d.parquet")
    pq.write_table(pa.table({"user_id": ["u2"], "video_id": ["17"]}), day / "e.parquet")
    (day / "f.parquet").write_bytes(b"PAR1 cut off")
    warehouse = Warehouse.open()
    n_files, path = manifests.writer(warehouse, str(landing))("erasure-1", ["u1", "17"])
    listed = json.loads((Path(warehouse.root) / path).read_text())
    inside = "raw_interactions/day=2026-01-04"
    assert listed["files"] == [f"{inside}/{name}" for name in ("a.csv", "c.jsonl.gz", "d.parquet")]
    assert listed["unreadable"] == [f"{inside}/f.parquet"]
    assert n_files == 3
