"""Airflow in a folder of its own, set up before anything imports it."""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from microrec.cli.local_airflow import airflow_environment
from microrec.config.settings import HOME

_AIRFLOW = tempfile.mkdtemp(prefix="microrec-airflow-")
os.environ.update(airflow_environment(Path(_AIRFLOW)))
# Last on the path, as Airflow has it.
sys.path += [str(HOME / "dags"), str(HOME / "dags" / "plugins")]


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


@pytest.fixture
def task_instance() -> Callable[[], Any]:
    """Return a function that makes task instances, each with an id as Airflow gives one and XComs of its own."""
    from airflow.models.taskinstance import uuid7

    def make() -> Any:
        xcoms: dict[str, Any] = {}
        return SimpleNamespace(
            id=uuid7(),
            xcom_push=lambda key, value: xcoms.update({key: value}),
            xcom_pull=lambda task_ids, key: xcoms.get(key),
        )

    return make
