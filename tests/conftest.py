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
)

# A test is not wrong because the machine is busy.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole nights first: a worker that begins one late is waited for."""
    items.sort(key=lambda item: item.path.parent != Path(__file__).parent)


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    """What a benchmark or a job says about logging holds for its test alone."""
    loggers = [logging.getLogger(name) for name in ("", "microrec", "jobs")]
    kept = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, kept, strict=True):
        logger.setLevel(level)


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
