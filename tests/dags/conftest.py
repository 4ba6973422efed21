"""Airflow in a folder of its own, set up before anything imports it."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from microrec.night import airflow_environment
from microrec.settings import HOME

_AIRFLOW = tempfile.mkdtemp(prefix="microrec-airflow-")
os.environ.update(airflow_environment(Path(_AIRFLOW)))


@pytest.fixture(scope="session")
def nightly() -> Iterator[Any]:
    """The DAG as Airflow loads it."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.utils.db import initdb

    initdb()
    sys.path.insert(0, str(HOME / "dags"))
    bag = DagBag(str(HOME / "dags"))
    assert not bag.import_errors
    assert list(bag.dags) == ["nightly"]
    yield bag.dags["nightly"]
    sys.path.remove(str(HOME / "dags"))
