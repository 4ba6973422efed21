"""No secret of the environment is in what Airflow keeps and shows of a DAG: its code, parameters and templates."""

import re
from typing import Any

import pytest

from microrec.config.settings import HOME

PLANTED = "PLANTEDsecret"
SECRETS = ("MICROREC_STORAGE_OPTIONS", "MICROREC_SPARK_OPTIONS", "MICROREC_ALERT_URL")


def test_dag_as_stored_has_no_secret(dags: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.serialization.serialized_objects import DagSerialization

    for name in SECRETS:
        monkeypatch.setenv(name, f'{{"secret": "{PLANTED}"}}')
    folder = HOME / "dags"
    bag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")
    assert set(bag.dags) == set(dags)
    for dag in bag.dags.values():
        stored = repr(DagSerialization.to_dict(dag))
        assert dag.dag_id in stored
        assert PLANTED not in stored


def test_templates_are_made_of_days_fits_models_and_parameters(dags: dict[str, Any]) -> None:
    """What is rendered is stored and shown: no environment, no variable, no connection."""
    seen = set()
    for dag in dags.values():
        for task in dag.tasks:
            fields = set(task.template_fields)
            assert not {"env", "environment"} & fields
            seen |= fields
        source = (HOME / "dags").rglob("*.py")
        words = re.findall(r"\{\{.*?\}\}", "".join(path.read_text() for path in source))
        assert words
        assert not [word for word in words if re.search(r"\b(var|conn|environ|env)\b", word)]
        assert all(param not in ("password", "token", "secret", "key") for param in dag.params)
    assert {"day", "fit", "model", "words"} <= seen
