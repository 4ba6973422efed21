"""Spark's Python workers start from a parent of ours: what it changes, and that they do start from it."""

import sys
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from microrec.spark import daemon


def test_path_drops_archives_and_keeps_folders(tmp_path: Path) -> None:
    archive = tmp_path / "pyspark.zip"
    zipfile.ZipFile(archive, "w").close()
    places = [str(archive), *sys.path]
    assert daemon.folders(places) == [place for place in sys.path if not Path(place).is_file()]


def test_path_pyspark_only_in_an_archive_is_unchanged(tmp_path: Path) -> None:
    archive = tmp_path / "pyspark.zip"
    zipfile.ZipFile(archive, "w").close()
    assert daemon.folders([str(archive), str(tmp_path)]) == [str(archive), str(tmp_path)]


@pytest.mark.spark
def test_workers_import_pyspark_from_a_folder(spark: SparkSession) -> None:
    def places(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import sys
        import zipimport

        import pyspark

        for _ in batches:
            archives = [
                place
                for place, importer in sys.path_importer_cache.items()
                if isinstance(importer, zipimport.zipimporter)
            ]
            yield pa.RecordBatch.from_pydict({"place": [str(pyspark.__file__), *archives]})

    found = spark.range(1, numPartitions=1).mapInArrow(places, "place string").toArrow()
    (place,) = found["place"].to_pylist()
    assert Path(place).is_file()
