"""Where to run: everything the environment may say, read in this one place.

What to run with (models, thresholds, hyper-parameters) is the recipe's business, not the environment's.
"""

from functools import lru_cache
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

HOME = Path(__file__).resolve().parent.parent
"""The checkout: schemas/, dags/ and microrec.toml lie here."""


class Settings(BaseSettings):
    """`MICROREC_*` environment variables, with the embedded defaults."""

    model_config = SettingsConfigDict(env_prefix="MICROREC_", frozen=True)

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
    spark_java_options: str = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
    """JVM options of the driver. The default halves start-up and suits days of up to some million rows on one machine;
    say `-XX:+UseParallelGC` for larger ones, whose long jobs repay the full compiler."""
    spark_driver_memory: str = "4g"
    """Heap of the driver, which is also the executor of `local[*]`."""
    spark_shuffle_partitions: int | None = Field(default=None, ge=1)
    """Upper bound of shuffle partitions; what suits the master (tables/session.py) if left out."""
    spark_options: dict[str, str] = {}
    """Spark options (JSON) that stand above those of tables/session.py."""
    spark_archive: Path | None = None
    """Where `microrec warm` keeps the JVM's classes, loaded once; beside the environment's packages if left out."""
    device: str = "cpu"
    """Where models that train in epochs are trained, as torch names it: `cpu`, `cuda`, `cuda:1`."""
    train_processes: int = Field(default=1, ge=1)
    """Processes such a training is shared by, started through Spark (microrec/distribute.py): the same model up to
    rounding. More than one pays where a step takes far longer than sending all parameters around."""
    rank_tasks: int = Field(default=1, ge=1)
    """Spark tasks that share the ranking of all users (microrec/shards.py); 1 = this process, without Spark. More pay
    on a cluster, or where users are millions."""
    run_id: str = "manual"
    """Run that writes, kept in every commit."""
    attempt: int = Field(default=1, ge=1)
    """Try number within the run; a late earlier attempt may not commit over a newer one."""
    storage_options: dict[str, str] = {}
    """Credentials and endpoints for an object store, as deltalake takes them."""


@lru_cache
def settings() -> Settings:
    """The settings of this process (tests call `settings.cache_clear()` after changing the environment)."""
    return Settings()
