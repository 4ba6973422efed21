"""Where to run: everything the environment may say, read in this one place.

What to run with (models, thresholds, hyper-parameters) is the recipe's business, not the environment's.
"""

import logging
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from microrec.core import messages
from microrec.errors import BadArgument

CODE = Path(__file__).resolve().parents[2]
"""Folder of the packages `microrec` and `jobs`: the checkout, or site-packages."""
SHARE = CODE / "microrec" / "share"
"""What a wheel carries of the checkout beside the code (setup.py); absent from a checkout."""
HOME = SHARE if SHARE.is_dir() else CODE
"""Folder of schemas/, dags/ and microrec.toml: the checkout, or that part of the wheel."""
STATE = (CODE if HOME == CODE else Path.cwd()) / "var"
"""Folder of what runs leave behind: in the checkout, or in the current folder."""


SECRET = r"(?i)secret|passw|token|access.?key|account.?key|private.?key|credential|signature|sas"
"""What the name of an option has that holds a secret; Spark's own word for it is shorter (spark.redaction.regex)."""


class Settings(BaseSettings):
    """`MICROREC_*` environment variables, with the embedded defaults."""

    # What was wrong with a setting is said without its value, which may be a secret.
    model_config = SettingsConfigDict(
        env_prefix="MICROREC_", frozen=True, hide_input_in_errors=True
    )

    warehouse: str = "var/warehouse"
    """Root of the tables: a folder or an object-store URI."""
    landing: str = "var/landing"
    """Root of the producers' raw files."""
    recipe: Path = HOME / "microrec.toml"
    """The recipe file."""
    schemas: Path = HOME / "schemas"
    """Folder of the data contracts."""
    spark_master: str = "local[*]"
    """Where Spark runs; the jobs do not change with it."""
    spark_java_options: str = (
        "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:ReservedCodeCacheSize=256m"
    )
    """JVM options of the driver. The default halves start-up and suits days of up to some million rows on one machine;
    say `-XX:+UseParallelGC` for larger ones, whose long jobs repay the full compiler. The quick compiler alone has room
    for 48 MB of code, which the classes Spark generates fill within a few jobs; from then on Java interprets them."""
    spark_driver_memory: str = "4g"
    """Heap of the driver, which is also the executor of `local[*]`."""
    spark_shuffle_partitions: int | None = Field(default=None, ge=1)
    """Upper bound of shuffle partitions; what suits the master (spark/session.py) if left out."""
    spark_options: dict[str, str] = Field(default={}, repr=False)
    """Spark options (JSON) that stand above those of spark/session.py."""
    spark_archive: Path | None = None
    """Where `microrec warm` keeps the JVM's classes, loaded once; beside the environment's packages if left out."""
    device: str = "cpu"
    """Where models that train in epochs are trained, as torch names it: `cpu`, `cuda`, `cuda:1`."""
    train_processes: int = Field(default=1, ge=1)
    """Processes such a training is shared by, started through Spark (runner/processes.py): the same model up to
    rounding. More than one pays where a step takes far longer than sending all parameters around."""
    rank_tasks: int = Field(default=1, ge=1)
    """Spark tasks that share the ranking of all users (runner/shards.py); 1 = this process, without Spark. More pay
    on a cluster, or where users are millions."""
    decode_tasks: int = Field(default=1, ge=1)
    """Spark tasks that share the decoding of films, covers and sound (runner/decoders.py); 1 = processes of this
    machine, without Spark. More pay on a cluster alone."""
    models: list[str] = []
    """Of the recipe's models, those this run makes do with (JSON), `popularity` always among them; all if left out."""
    promote: str | None = None
    """Why this run shall be released though it is not shown to be good enough (evaluation/gate.py)."""
    run_id: str = "manual"
    """Run that writes, kept in every commit."""
    attempt: int = Field(default=1, ge=1)
    """Place among the tries of the run, greater for later ones; a late earlier one may not commit over a newer one."""
    parent: int | None = Field(default=None, ge=1)
    """Process with which a job ends, whatever ended that one (runner/lifeline.py): Airflow's tasks name themselves. A
    job that is started by hand outlives its terminal if left out."""
    storage_options: dict[str, str] = Field(default={}, repr=False)
    """Credentials and endpoints for an object store, as deltalake takes them."""
    job_environment: list[str] = []
    """Further variables of an Airflow worker that jobs get (JSON; `*` stands for any characters). They get their
    settings, paths, locale, threads and cloud credentials anyway, and never Airflow's own (dags/processes.py)."""
    umask: str = Field(default="077", pattern="^0?[0-7]{3}$")
    """Permissions that the files and folders of jobs and of `microrec` do not have. The default leaves the warehouse to
    the user who runs them; `027` lets the group read it: consumers under another user."""
    metrics_file: Path | None = None
    """File that `microrec watch` writes its figures to, in the text format of Prometheus (report/prometheus.py); in a
    folder that node_exporter's textfile collector reads. None are written if left out."""
    task_record: Path | None = None
    """File in which a job leaves the tables it read and wrote; the operator that sends OpenLineage events sets it."""
    export_to: str | None = Field(default=None, repr=False)
    """Store that `microrec export` hands releases to (export/stores.py); it may hold a password."""
    privacy_key: str | None = Field(default=None, repr=False)
    """Secret under which people's ids become pseudonyms (privacy/subjects.py); if left out, it is drawn once and kept
    in the folder of the warehouse. Whoever has it and an id can tell that person's requests in the ledger."""

    @property
    def secrets(self) -> list[str]:
        """Values that no log line and no message may have, the longest first."""
        options = [*self.storage_options.items(), *self.spark_options.items()]
        options += [("secret", self.privacy_key)] if self.privacy_key else []
        password = urlsplit(self.export_to or "").password
        options += [("secret", unquote(password)), ("secret", password)] if password else []
        return sorted(
            {value for name, value in options if len(value) > 5 and re.search(SECRET, name)},
            key=len,
        )[::-1]


@lru_cache
def settings() -> Settings:
    """Return the settings of this process (tests call `settings.cache_clear()` after changing the environment).

    Raises:
        BadArgument: a variable cannot be read; the message names it, without its value.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(f"{_variable(fault['loc'])}: {fault['msg']}" for fault in error.errors())
    except SettingsError as error:
        wrong = str(error)
    # Not from the error: its cause has the value.
    raise BadArgument(f"environment: {wrong}")


def blas_threads() -> int:
    """Return the number of threads that numpy's OpenBLAS works with: how it cuts sums, and so how it rounds."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def redacted(text: str) -> str:
    """Return a text without the secrets of the settings."""
    try:
        secrets = settings().secrets
    except BadArgument:
        return text
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


class Redacted(logging.Formatter):
    """Log lines, tracebacks included, without the secrets of the settings.

    A message is one line, whatever is in it, and those of a traceback are indented: none looks like another record.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line of a record's message."""
        return messages.plain(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """Return the indented lines of a traceback."""
        lines = super().formatException(ei).splitlines()
        return "\n".join(f"  {messages.plain(line)}" for line in lines)

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a log record."""
        return redacted(super().format(record))


def _variable(location: tuple[int | str, ...]) -> str:
    return f"MICROREC_{str(location[0]).upper()}" if location else "MICROREC_*"
