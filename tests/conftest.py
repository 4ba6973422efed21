"""Fixtures all tests share: a place of their own, one lazy Spark session, the real data where it is."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from microrec.config.settings import HOME, settings

# Small data: few partitions, and no more than the two cores there are.
os.environ.update(
    MICROREC_SPARK_MASTER="local[2]",
    MICROREC_SPARK_DRIVER_MEMORY="2g",
    MICROREC_SPARK_SHUFFLE_PARTITIONS="1",
    MICROREC_PRIVACY_KEY="a key that tests share",
)

# A test is not wrong because the machine is busy.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


TESTS = Path(__file__).parent
HEAVY = {
    "candidates/ranking/test_learned_blend.py",
    "cli/test_airflow_records.py",
    "cli/test_airflow_server.py",
    "cli/test_app.py",
    "cli/test_home_lock.py",
    "cli/test_local_airflow.py",
    "cli/test_night.py",
    "cli/test_releases.py",
    "core/test_arguments.py",
    "core/test_code_digest.py",
    "dags",
    "evaluation/test_quality_harness.py",
    "graphs/similarity/test_cells.py",
    "insights",
    "jobs",
    "landing/importers/test_kuairand.py",
    "landing/test_hostile_files.py",
    "models/clip",
    "models/graph/test_fitting.py",
    "models/sequence/test_exposures.py",
    "models/sequence/test_multi_trend.py",
    "models/sequence/test_sasrec.py",
    "models/test_added_model.py",
    "models/test_model_contract.py",
    "models/test_network_contract.py",
    "models/test_registry.py",
    "models/test_sequence_contract.py",
    "models/training/test_checkpoint.py",
    "models/training/test_parallel.py",
    "models/training/test_warm_start.py",
    "release/test_night_end.py",
    "runner/test_job.py",
    "runner/test_processes.py",
    "runner/test_shards.py",
    "synth/test_viewings.py",
    "synth/test_world.py",
    "tables/test_commit.py",
    "tables/test_expectations.py",
    "tables/test_layout.py",
    "tables/test_object_store.py",
    "test_benchmarks_smoke.py",
    "test_oracle.py",
    "test_packaging.py",
    "test_real_sample.py",
    "test_secrets.py",
}
"""Files and folders that `make test-fast` leaves out: trainings, servers, processes of their own."""
LONG = ("jobs/test_validate_events.py",)
"""Files beside the nights that take minutes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files and whole nights first, since a worker that begins one late is waited for; mark what is heavy."""
    items.sort(
        key=lambda item: item.path.parent != TESTS and not item.path.as_posix().endswith(LONG)
    )
    for item in items:
        path = item.path.relative_to(TESTS)
        if {path.as_posix(), *(parent.as_posix() for parent in path.parents)} & HEAVY:
            item.add_marker(pytest.mark.heavy)


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    """What a benchmark or a job says about logging holds for its test alone."""
    loggers = [logging.getLogger(name) for name in ("", "microrec", "jobs")]
    kept = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, kept, strict=True):
        logger.setLevel(level)


@pytest.fixture(autouse=True)
def permissions() -> Iterator[None]:
    """Commands that a test runs in its own process make files private: so are no other test's."""
    mask = os.umask(0o022)
    os.umask(mask)
    yield
    os.umask(mask)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty warehouse and landing zone that jobs called in this test will use."""
    monkeypatch.setenv("MICROREC_WAREHOUSE", str(tmp_path / "warehouse"))
    monkeypatch.setenv("MICROREC_LANDING", str(tmp_path / "landing"))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


@pytest.fixture(scope="session")
def spark() -> Iterator[object]:
    """The session of the jobs themselves, started only if a test asks for it."""
    settings.cache_clear()
    from microrec.tables.spark import session

    started = session()
    yield started
    started.stop()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real logs, or a skip that says where it was looked for."""
    folder = Path(os.environ.get("MICROREC_REAL_DATA", HOME.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (set MICROREC_REAL_DATA)")
    return folder
