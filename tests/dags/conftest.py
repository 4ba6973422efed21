"""Airflow in a folder of its own, set up before anything imports it."""

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from microrec.cli.local_airflow import airflow_environment
from microrec.config.settings import HOME

_AIRFLOW = tempfile.mkdtemp(prefix="microrec-airflow-")
os.environ.update(airflow_environment(Path(_AIRFLOW)))


@pytest.fixture(scope="session")
def dags() -> dict[str, Any]:
    """The DAGs as Airflow loads them."""
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.utils.db import initdb

    initdb()
    folder = HOME / "dags"
    bag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")
    assert not bag.import_errors
    return dict(bag.dags)


@pytest.fixture(scope="session")
def nightly(dags: dict[str, Any]) -> Any:
    """The night."""
    return dags["nightly"]
