"""Airflow in a folder of its own, set up before anything imports it."""

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from microrec.night import airflow_environment
from microrec.settings import HOME

_AIRFLOW = tempfile.mkdtemp(prefix="microrec-airflow-")
os.environ.update(airflow_environment(Path(_AIRFLOW)))


@pytest.fixture(scope="session")
def nightly() -> Any:
    """The DAG as Airflow loads it."""
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.utils.db import initdb

    initdb()
    dags = HOME / "dags"
    bag = BundleDagBag(dag_folder=dags, bundle_path=dags, bundle_name="dags-folder")
    assert not bag.import_errors
    assert list(bag.dags) == ["nightly"]
    return bag.dags["nightly"]
