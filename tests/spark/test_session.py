"""The Spark session: which options it has where, who may change them, and the archive it starts from."""

import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from microrec.config.settings import Settings, settings
from microrec.spark import class_archive, session

CLUSTERS = ["spark://master:7077", "yarn", "k8s://https://host:6443", "local-cluster[2,1,1024]"]


def options(**where: object) -> dict[str, str]:
    """Those of these settings; the tests' own number of partitions apart."""
    return session.options(Settings(**{"spark_shuffle_partitions": None, **where}))  # type: ignore[arg-type]


@pytest.mark.parametrize("machine", [session.LOCAL, session.CLUSTER])
def test_options_each_has_a_reason_and_no_double(machine: session.Options) -> None:
    names = [name for name, _, _ in session.EVERYWHERE + machine]
    assert len(set(names)) == len(names)
    assert all(value and len(reason) > 10 for _, value, reason in session.EVERYWHERE + machine)


@pytest.mark.parametrize("master", CLUSTERS)
def test_options_depend_on_the_master(master: str) -> None:
    laptop, cluster = options(spark_master="local[*]"), options(spark_master=master)
    everywhere = {name: value for name, value, _ in session.EVERYWHERE}
    assert everywhere.items() <= laptop.items() & cluster.items()
    assert laptop["spark.driver.host"] == "127.0.0.1"
    # Executors on other machines could not call back.
    assert "spark.driver.host" not in cluster
    assert cluster["spark.speculation"] == "false"
    assert int(cluster["spark.sql.shuffle.partitions"]) > int(
        laptop["spark.sql.shuffle.partitions"]
    )


def test_options_environment_overrides_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROREC_SPARK_SHUFFLE_PARTITIONS", "7")
    monkeypatch.setenv("MICROREC_SPARK_OPTIONS", '{"spark.ui.enabled": "true", "spark.x": "y"}')
    found = session.options(Settings())
    assert found["spark.sql.shuffle.partitions"] == "7"
    assert (found["spark.ui.enabled"], found["spark.x"]) == ("true", "y")


def test_archive_existing_is_used(tmp_path: Path) -> None:
    place = tmp_path / "with a space.jsa"
    plain = options(spark_archive=place)["spark.driver.extraJavaOptions"]
    assert plain == Settings().spark_java_options
    place.touch()
    archived = options(spark_archive=place)["spark.driver.extraJavaOptions"]
    assert f"-XX:SharedArchiveFile='{place}'" in archived
    assert archived.endswith(plain), "what the operator says comes last and wins"


@pytest.mark.spark
def test_session_has_the_options(spark: SparkSession) -> None:
    wanted = session.options(settings())
    assert {name: spark.conf.get(name) for name in wanted} == wanted


START = "from microrec.spark.session import session; print(session().range(9).count())"


def start(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str, str]:
    """Start a session in a process of its own: what it prints, its log, and where its classes came from."""
    classes = tmp_path / "classes.txt"
    java = f"{Settings().spark_java_options} -Xlog:class+load:file={classes}"
    monkeypatch.setenv("MICROREC_SPARK_JAVA_OPTIONS", java)
    monkeypatch.setenv("MICROREC_SPARK_ARCHIVE", str(place))
    done = subprocess.run(
        [sys.executable, "-c", START], capture_output=True, text=True, check=True, timeout=240
    )
    return done.stdout.strip(), done.stderr, classes.read_text()


@pytest.mark.spark
def test_archive_damaged_is_ignored_silently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "spoilt.jsa"
    place.write_bytes(b"no archive at all" * 1000)
    printed, log, classes = start(tmp_path, place, monkeypatch)
    assert printed == "9"
    assert "archive" not in log
    assert "shared objects file (top)" not in classes


@pytest.mark.slow
@pytest.mark.spark
def test_session_after_warm_loads_archived_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "new" / "spark.jsa"
    assert class_archive.build(Settings(spark_archive=place)) == place
    assert [file.name for file in place.parent.iterdir()] == ["spark.jsa"]
    printed, _, classes = start(tmp_path, place, monkeypatch)
    assert printed == "9"
    ours = [line for line in classes.splitlines() if " org.apache.spark." in line]
    archived = [line for line in ours if "shared objects file (top)" in line]
    assert len(archived) > 0.8 * len([line for line in ours if "Lambda" not in line])
