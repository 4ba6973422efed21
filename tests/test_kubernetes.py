"""docker/kubernetes: values for Airflow's chart, as far as they can be held without a cluster, Helm or the chart.

Names are those of docker/compose.yaml, so that a variable added there is not forgotten here; the image takes the words
that Spark says to it in its pods.
"""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pyspark
import pytest
import yaml

from dags.processes import passed_on
from microrec.config.settings import HOME, Settings

DOCKER = HOME / "docker"
VALUES: dict[str, Any] = yaml.safe_load((DOCKER / "kubernetes" / "values.yaml").read_text())
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
OF_THE_CHART = {
    "AIRFLOW__CORE__EXECUTOR",
    "AIRFLOW__CORE__EXECUTION_API_SERVER_URL",
    "AIRFLOW__CORE__FERNET_KEY",
    "AIRFLOW__API__SECRET_KEY",
    "AIRFLOW__API_AUTH__JWT_SECRET",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
    "PGPASSWORD",
    "SPARK_AUTH_SECRET",
}
"""What the chart sets by itself or reads from its Secret; Spark on Kubernetes makes a secret for each application."""
KEYS = {
    *("images", "airflowVersion", "airflowHome", "uid", "gid", "executor", "allowPodLaunching"),
    *("data", "fernetKeySecretName", "apiSecretKeySecretName", "jwtSecretName", "secret", "env"),
    *("extraEnv", "volumes", "volumeMounts", "extraConfigMaps", "scheduler", "logs", "triggerer"),
    *("redis", "statsd", "postgresql"),
}
"""Top-level keys of the chart that we use, looked up by hand in its values.yaml and in files of people who run it: a
misspelt one would be ignored."""


def extra() -> dict[str, Any]:
    return {each["name"]: each for each in yaml.safe_load(VALUES["extraEnv"])}


def plain() -> dict[str, str]:
    return {each["name"]: each["value"] for each in VALUES["env"]}


def test_values_use_keys_of_the_chart() -> None:
    assert set(VALUES) == KEYS
    assert VALUES["airflowVersion"] in (HOME / "constraints.txt").read_text().replace(
        "apache-airflow==", "\n"
    ).split("\n")
    assert all(isinstance(value, str) for value in plain().values()), "the chart takes text alone"


def test_variables_are_those_of_the_stack_with_the_same_values() -> None:
    stack = COMPOSE["x-airflow"]["environment"]
    secret = {each["envName"] for each in VALUES["secret"]}
    names = set(plain()) | secret | set(extra())
    assert names - {"POD_IP"} == set(stack) - OF_THE_CHART
    ours = {name for name in names if name.startswith("MICROREC_")}
    of_airflow = {"MICROREC_ALERT_URL", "MICROREC_LINEAGE", "MICROREC_REPORTS_URL"}
    settings = {f"MICROREC_{name.upper()}" for name in Settings.model_fields}
    assert ours - of_airflow <= settings
    for name, value in plain().items():
        default = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(stack[name]))
        assert name == "MICROREC_SPARK_MASTER" or value == default, name


def test_secrets_stand_in_no_value() -> None:
    secret = {each["envName"] for each in VALUES["secret"]}
    assert secret >= {"MICROREC_PRIVACY_KEY", "MICROREC_STORAGE_OPTIONS", "MICROREC_LINEAGE"}
    assert not secret & (set(plain()) | set(extra()))
    named = {
        VALUES["data"]["metadataSecretName"],
        *(each["secretName"] for each in VALUES["secret"]),
    }
    assert named == {VALUES["jwtSecretName"]} == {VALUES["fernetKeySecretName"]} == {"microrec"}


def test_jobs_get_what_they_need_and_the_way_to_the_cluster() -> None:
    everything = {**plain(), **dict.fromkeys(extra(), "x"), "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    everything |= {each["envName"]: "word" for each in VALUES["secret"]}
    jobs = set(COMPOSE["x-jobs-environment"]) - OF_THE_CHART
    passed = set(passed_on(everything))
    assert jobs | {"KUBERNETES_SERVICE_HOST"} <= passed
    assert not passed & {"MICROREC_ALERT_URL", "MICROREC_LINEAGE"}


def test_spark_options_are_json_and_name_what_is_mounted() -> None:
    assert list(extra()) == ["POD_IP", "MICROREC_SPARK_OPTIONS"], "a variable stands before its use"
    options = json.loads(extra()["MICROREC_SPARK_OPTIONS"]["value"])
    assert all(isinstance(value, str) for value in options.values())
    assert options["spark.driver.host"] == "$(POD_IP)"
    image = VALUES["images"]["airflow"]["repository"]
    assert options["spark.kubernetes.container.image"] == f"{image}:spark"
    folder, _, file = options["spark.kubernetes.executor.podTemplateFile"].rpartition("/")
    mounts = {mount["mountPath"]: mount["name"] for mount in VALUES["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in VALUES["volumes"]}
    assert set(mounts.values()) == set(volumes)
    kept = volumes[mounts[folder]]["configMap"]["name"]
    template = yaml.safe_load(yaml.safe_load(VALUES["extraConfigMaps"][kept]["data"])[file])
    executor = template["spec"]["containers"][0]
    for place in ("/srv/landing", "/srv/warehouse", "/srv/scratch"):
        assert place in mounts
        assert place in {mount["mountPath"] for mount in executor["volumeMounts"]}
    read_only = {mount["name"] for mount in executor["volumeMounts"] if mount.get("readOnly")}
    assert read_only == {"landing"}
    assert template["spec"]["securityContext"]["runAsUser"] == VALUES["uid"] == 50000
    stack = [volume.split(":")[-2:] for volume in COMPOSE["x-airflow"]["volumes"]]
    folders = {part for parts in stack for part in parts if part.startswith("/srv/")}
    assert folders - {"/srv/airflow/logs"} == {path for path in mounts if path.startswith("/srv/")}


def test_image_runs_an_executor_as_spark_on_kubernetes_calls_it(tmp_path: Path) -> None:
    """`executor`, and the rest in variables: Spark's own image has a script for it, which the pip wheel lacks."""
    if os.path.exists("/srv/scratch"):
        pytest.skip("this machine has the folder that containers empty at their start")
    jars = Path(pyspark.__file__).parent / "jars"
    (jar,) = jars.glob("spark-kubernetes_*.jar")
    backend = "org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend"
    assert f"{backend.replace('.', '/')}.class" in zipfile.ZipFile(jar).namelist()
    java = tmp_path / "java"
    java.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    java.chmod(0o755)
    (tmp_path / "spark-node").symlink_to(DOCKER / "spark.sh")
    options = {f"SPARK_JAVA_OPT_{n}": f'-Dopt.{n}="a b"' for n in range(11)}
    told = {
        "SPARK_DRIVER_URL": "spark://CoarseGrainedScheduler@10.0.0.7:7078",
        "SPARK_EXECUTOR_ID": "1",
        "SPARK_EXECUTOR_CORES": "2",
        "SPARK_EXECUTOR_MEMORY": "4g",
        "SPARK_APPLICATION_ID": "spark-1",
        "SPARK_EXECUTOR_POD_IP": "10.0.0.8",
        "SPARK_RESOURCE_PROFILE_ID": "0",
        "SPARK_EXECUTOR_POD_NAME": "exec-1",
    }
    ended = subprocess.run(
        ["sh", str(DOCKER / "entry.sh"), "executor"],
        env={
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PYSPARK_PYTHON": sys.executable,
            **told,
            **options,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    words = ended.stdout.splitlines()
    assert words.index(backend) > words.index("-Xmx4g")
    assert set(options.values()) <= set(words[: words.index(backend)])
    assert f"{jars}/*" in words
    given = dict(
        zip(words[words.index(backend) + 1 :: 2], words[words.index(backend) + 2 :: 2], strict=True)
    )
    assert set(given.values()) == set(told.values()) - {"4g"}
