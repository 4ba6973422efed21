"""Credentials are nowhere but in the environment: not in logs, errors, tables, the JVM's command line or Spark's UI."""

import datetime as dt
import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from microrec.config.settings import HOME, SECRET, Redacted, Settings, redacted, settings
from microrec.errors import BadArgument
from microrec.runner.exit_status import ExitStatus
from microrec.spark import session
from microrec.tables.arrow import Warehouse

DAY = dt.date(2026, 1, 4)
WORDS = ("PLANTEDkeyid", "PLANTEDsecret", "PLANTEDtoken", "PLANTEDjvm", "PLANTEDpseudonyms")
STORAGE = {
    "AWS_ACCESS_KEY_ID": "PLANTEDkeyid",
    "AWS_SECRET_ACCESS_KEY": "PLANTEDsecret",
    "AWS_SESSION_TOKEN": "PLANTEDtoken",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
    "max_retries": "0",
    "connect_timeout": "1s",
}
SPARK = {"spark.hadoop.fs.s3a.secret.key": "PLANTEDjvm", "spark.ui.enabled": "false"}


@pytest.fixture
def planted(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MICROREC_STORAGE_OPTIONS", json.dumps(STORAGE))
    monkeypatch.setenv("MICROREC_SPARK_OPTIONS", json.dumps(SPARK))
    monkeypatch.setenv("MICROREC_PRIVACY_KEY", WORDS[-1])
    settings.cache_clear()
    return place


def clean(text: str) -> bool:
    return bool(text) and not any(word in text for word in WORDS)


def test_settings_with_secrets_show_none(planted: Path) -> None:
    warehouse = Warehouse.open()
    assert warehouse.options == STORAGE
    for thing in (settings(), warehouse, warehouse.table("users"), (warehouse,), {"a": settings()}):
        assert clean(f"{thing!r} {thing}")


def test_log_lines_and_tracebacks_hold_no_secret(
    planted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sorted(settings().secrets) == sorted(WORDS)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(Redacted("%(message)s"))
    try:
        raise OSError(f"PUT http://host/?key={WORDS[1]} refused")
    except OSError:
        record = logging.LogRecord("x", 40, "f", 1, "with %s", (WORDS[0],), sys.exc_info())
    handler.emit(record)
    said = capsys.readouterr().out
    assert "with ***" in said
    assert "OSError: PUT http://host/?key=*** refused" in said
    assert clean(said)
    assert redacted("true 1s us-east-1") == "true 1s us-east-1", "only secrets are taken out"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("STORAGE_OPTIONS", '{"AWS_SECRET_ACCESS_KEY": ["PLANTEDsecret"]}'),
        ("STORAGE_OPTIONS", '{"AWS_SECRET_ACCESS_KEY": PLANTEDsecret'),
        ("WAREHOUSE", "s3://PLANTEDkeyid:PLANTEDsecret@bucket/house"),
        ("ATTEMPT", "PLANTEDsecret"),
    ],
)
def test_settings_unreadable_value_is_named_not_shown(
    place: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(f"MICROREC_{variable}", value)
    settings.cache_clear()
    with pytest.raises(BadArgument, match=f"(?i){variable}|MICROREC_STORAGE_OPTIONS") as refused:
        Warehouse.open()
    error: BaseException | None = refused.value
    while error is not None:
        assert clean(str(error))
        error = error.__cause__ or error.__context__


WRITER = """
from microrec.runner import job
from microrec.tables.arrow import Warehouse

def main(day: job.Day) -> None:
    Warehouse.open().write_empty("suppressed_users", day=day)

job.start(main)
"""


def test_write_that_fails_shows_no_secret(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against an endpoint that nobody answers, by a job as Airflow starts it."""
    monkeypatch.setenv("MICROREC_WAREHOUSE", "s3://bucket/house")
    ended = subprocess.run(
        [sys.executable, "-c", WRITER, "--day", str(DAY)],
        cwd=HOME, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    said = ended.stdout + ended.stderr
    assert ended.returncode not in (0, ExitStatus.DATA_ERROR), "it may be tried again"
    assert "127.0.0.1:9" in said
    assert "Traceback" in said
    assert clean(said)


def test_commits_hold_no_secret(planted: Path) -> None:
    Warehouse.open().write_empty("suppressed_users", day=DAY)
    files = [path for path in (planted / "warehouse").rglob("*") if path.is_file()]
    assert len(files) == 2
    for path in files:
        assert not any(word.encode() in path.read_bytes() for word in WORDS)


def test_secret_names_are_recognised() -> None:
    for name in (
        "spark.hadoop.fs.s3a.secret.key",
        "spark.hadoop.fs.s3a.access.key",
        "spark.hadoop.fs.s3a.session.token",
        "spark.hadoop.fs.azure.account.key.box.dfs.core.windows.net",
        "spark.hadoop.fs.azure.sas.fixed.token.box",
        "spark.hadoop.fs.gs.auth.service.account.private.key",
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN",
        "GOOGLE_SERVICE_ACCOUNT_KEY", "spark.ssl.keyPassword",
    ):  # fmt: skip
        assert re.search(SECRET, name), name
    plain = [name for name, _, _ in session.EVERYWHERE + session.LOCAL + session.CLUSTER]
    assert [name for name in plain if re.search(SECRET, name)] == []
    assert session.options(Settings())["spark.redaction.regex"] == SECRET


STARTED = """
import os, psutil
from microrec.spark.session import session
spark = session()
children = psutil.Process().children(recursive=True)
running = [one for one in children if one.status() != psutil.STATUS_ZOMBIE]
print(" ".join(word for one in running for word in one.cmdline()))
print(spark.sparkContext.getConf().toDebugString())
print(spark.sql("SET").collect())
found = spark.sparkContext._jsc.hadoopConfiguration().get("fs.s3a.secret.key")
print("known to the file system:", found == "PLANTED" + "jvm")
"""


@pytest.mark.spark
def test_jvm_secret_is_on_no_command_line_or_listing(planted: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", STARTED],
        cwd=HOME, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert ended.returncode == 0, redacted(ended.stderr[-2000:])
    assert "spark.redaction.regex" in ended.stdout
    assert "org.apache.spark.deploy.SparkSubmit" in ended.stdout
    assert "known to the file system: True" in ended.stdout
    assert clean(ended.stdout + ended.stderr)
