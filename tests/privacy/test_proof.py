"""The proof finds people wherever they are kept, and takes no part of a number for one."""

import gzip
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from microrec.config.settings import HOME
from microrec.errors import MicrorecError
from microrec.privacy.proof import Scan
from microrec.privacy.quotes import Ids


def hits(root: Path, *ids: str, namesakes: tuple[str, ...] = ()) -> dict[str, int]:
    scan = Scan(Ids(ids), HOME / "schemas", namesakes=namesakes)
    scan.folder(root)
    return dict(scan.hits)


def test_every_kind_of_file_is_decoded(tmp_path: Path) -> None:
    root = tmp_path / "kept"
    root.mkdir()
    (root / "model.json").write_text(json.dumps({"report": {"best": ["x", "u1"]}}))
    (root / "task.log").write_text("line\nuser u1: refused\n")
    with gzip.open(root / "old.log.gz", "wt") as file:
        file.write("user u1 again")
    trees = np.frombuffer(b"tree=0\nleaf u1\n", np.uint8)
    save_file({"trees": trees}, root / "parameters.safetensors", metadata={"of": "u1"})
    with closing(sqlite3.connect(root / "airflow.db")) as database:
        database.execute("CREATE TABLE xcom (key TEXT, value BLOB)")
        database.execute("INSERT INTO xcom VALUES ('u1', ?)", (b'{"user_id": "u1"}',))
        database.commit()
    nested = pa.array([[{"by": "u1"}], [{"by": "u12"}]])
    pq.write_table(pa.table({"notes": nested}), root / "notes.parquet")
    assert hits(root, "u1") == {
        "kept/model.json": 1, "kept/task.log": 1, "kept/old.log.gz": 1, "kept/parameters.safetensors": 2,
        "kept/airflow.db:xcom": 2, "kept/notes.parquet": 1, "kept.notes (footer)": 1,
    }  # fmt: skip
    assert hits(root, "u13", "17") == {}


def test_numbers_and_namesakes_count_where_they_are_people(tmp_path: Path) -> None:
    folder = tmp_path / "warehouse" / "events" / "attempt-1" / "day=2026-01-04"
    folder.mkdir(parents=True)
    rows = pa.table({"user_id": ["17", "v1"], "video_id": ["17", "v1"], "watch_ms": [17, 17]})
    pq.write_table(rows, folder / "part-0.parquet")
    videos = tmp_path / "warehouse" / "videos" / "attempt-1" / "day=2026-01-04"
    videos.mkdir(parents=True)
    said = pa.table({"video_id": ["17"], "tags": [["17", "18"]], "caption": ["17"]})
    pq.write_table(said, videos / "part-0.parquet")
    (tmp_path / "warehouse" / "a.log").write_text("17 rows, version=17, user_id=17\n")
    (tmp_path / "warehouse" / "b.json").write_text('{"rows": 17, "user_id": 17, "video_id": "17"}')
    assert hits(tmp_path / "warehouse", "17") == {
        "events.user_id": 1, "events.user_id (footer)": 1, "warehouse/a.log": 1, "warehouse/b.json": 1,
    }  # fmt: skip
    assert hits(tmp_path / "warehouse", "v1", namesakes=("v1",)) == {
        "events.user_id": 1,
        "events.user_id (footer)": 1,
    }


def test_file_nobody_can_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "half.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(MicrorecError, match=r"half\.parquet cannot be read"):
        hits(tmp_path, "u1")
