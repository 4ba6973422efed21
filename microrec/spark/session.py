"""The Spark session: every option we set, where it holds, and why.

One table for everywhere, one for a single machine, one for a cluster; the master of the settings chooses. What is not
here is Spark's default, on purpose. To change or add an option without touching the code: `MICROREC_SPARK_OPTIONS`
(JSON, stands above all), or Spark's own `spark-defaults.conf` for what neither sets.

Skew: the heavy keys are popular videos and busy users. Joins have one row per key on the right: broadcast below 10 MB,
else adaptive execution splits a heavy key's rows over several tasks (`skewJoin`). Group-bys combine before they
shuffle. Graph kernels meet blocks of equally many rows, hubs capped. A large day or fit is cut while it is written
(rebalancing). What nothing splits is a window over one key, such as the latest viewers of a video: one task sorts
them, on disk if they outgrow its memory.
"""

import logging
import os
import re
import shlex
import sys

from pyspark.sql import SparkSession

from microrec.config.settings import SECRET, Settings, settings
from microrec.spark.archive_path import archive_path

Options = tuple[tuple[str, str, str], ...]
"""Option, value, reason."""
HADOOP = "spark.hadoop."

EVERYWHERE: Options = (
    (
        "spark.sql.session.timeZone",
        "UTC",
        "a day is a UTC day, wherever the machine stands",
    ),
    (
        "spark.sql.sources.partitionColumnTypeInference.enabled",
        "false",
        "an id 007 stays 007",
    ),
    (
        "spark.sql.parquet.outputTimestampType",
        "TIMESTAMP_MICROS",
        "Spark's own default is the deprecated INT96, which other readers take for nanoseconds",
    ),
    (
        "spark.sql.parquet.compression.codec",
        "zstd",
        "fewer bytes than snappy; every reader of Delta knows it",
    ),
    (
        "spark.sql.execution.arrow.pyspark.enabled",
        "true",
        "rows cross between Python and the JVM as columns",
    ),
    (
        "spark.sql.execution.arrow.maxBytesPerBatch",
        "16m",
        "what a Python worker holds of a passing stream, however wide its rows",
    ),
    (
        "spark.python.daemon.module",
        "microrec.spark.daemon",
        "Spark's own costs each task of a Python worker 66 ms of reading zips",
    ),
    (
        "spark.python.unix.domain.socket.enabled",
        "true",
        "over TCP a task waits 40 ms for an acknowledgement before its first rows",
    ),
    (
        "spark.sql.adaptive.enabled",
        "true",
        "joins few small partitions, splits skewed ones, sizes the files (tables/layout.py)",
    ),
    (
        "spark.sql.adaptive.advisoryPartitionSizeInBytes",
        "128m",
        "shuffled rows are 2 to 5 times their Parquet: files of 25 to 80 MB once a partition needs several",
    ),
    (
        "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs",
        "false",
        "an attempt's folder is new and read by nobody: the Delta log says what counts",
    ),
    (
        "spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version",
        "2",
        "for the same reason no second rename of every file, a copy on object stores",
    ),
    (
        "spark.python.sql.dataFrameDebugging.enabled",
        "false",
        "it looks up the Python line of each expression, three calls of the JVM for one",
    ),
    ("spark.ui.showConsoleProgress", "false", "logs are read later, not watched"),
    (
        "spark.redaction.regex",
        SECRET,
        "Spark's own pattern would show an Azure account key or a Google private key in its UI",
    ),
)

LOCAL: Options = (
    (
        "spark.driver.bindAddress",
        "127.0.0.1",
        "nobody else talks to this process, and a laptop's own name may not resolve",
    ),
    ("spark.driver.host", "127.0.0.1", "likewise: the address others are told"),
    ("spark.ui.enabled", "false", "a web server nobody opens: a CPU second of every start"),
    ("spark.sql.shuffle.partitions", "4", "each is a task; some more than the cores of a laptop"),
    (
        "spark.buffer.pageSize",
        "2m",
        "every sort and hash map of a task takes a page at once; of Spark's own 64 MB, few rows fill the whole heap",
    ),
)

CLUSTER: Options = (
    (
        "spark.sql.shuffle.partitions",
        "800",
        "more than the cores of a middling cluster; adaptive execution joins what turns out small",
    ),
    (
        "spark.sql.adaptive.skewJoin.enabled",
        "true",
        "a user or video with a large share of all events is split over several tasks",
    ),
    (
        "spark.speculation",
        "false",
        "tasks move their files when they end (committer 2): a second copy of one must not run beside it",
    ),
    (
        "spark.dynamicAllocation.enabled",
        "false",
        "an executor that is sent away takes its shuffle files along, and kernels would run again",
    ),
    (
        "spark.io.compression.codec",
        "zstd",
        "shuffles cross the network: fewer bytes are worth more than the CPU that lz4 saves",
    ),
    (
        "spark.executor.memoryOverheadFactor",
        "0.4",
        "the kernels live in Python workers, outside the heap; YARN's 0.1 would end them",
    ),
)


def options(here: Settings) -> dict[str, str]:
    """Return every option of the session, by name."""
    chosen = EVERYWHERE + (LOCAL if _one_machine(here.spark_master) else CLUSTER)
    values = {name: value for name, value, _ in chosen}
    values["spark.driver.memory"] = here.spark_driver_memory
    # Hadoop's local file system sets permissions itself, whatever the process's mask.
    values["spark.hadoop.fs.permissions.umask-mode"] = here.umask
    values["spark.driver.extraJavaOptions"] = " ".join([*_archived(here), here.spark_java_options])
    if here.spark_shuffle_partitions is not None:
        values["spark.sql.shuffle.partitions"] = str(here.spark_shuffle_partitions)
    return {**values, **here.spark_options}


def session() -> SparkSession:
    """Return the process's Spark session, started at the first call."""
    here = settings()
    # Spark asks the environment for these: workers must be this interpreter, and on one machine ports the loopback's.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    if _one_machine(here.spark_master):
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    builder = SparkSession.builder.appName("microrec").master(here.spark_master)
    chosen = options(here)
    # Options stand on the command line of the JVM, which everybody on the machine can list.
    hidden = {name for name in chosen if name.startswith(HADOOP) and re.search(SECRET, name)}
    for name in chosen.keys() - hidden:
        builder = builder.config(name, chosen[name])
    spark = builder.getOrCreate()
    for name in hidden:
        file_systems = spark.sparkContext._jsc.hadoopConfiguration()
        file_systems.set(name.removeprefix(HADOOP), chosen[name])
    spark.sparkContext.setLogLevel("ERROR")
    logging.getLogger("py4j").setLevel(logging.WARNING)
    return spark


def hadoop(uri: str) -> str:
    """Return a URI as Spark's file systems name it: that of S3 is `s3a`."""
    return re.sub("^s3://", "s3a://", uri)


def literal(path: str) -> str:
    """Return a path with its pattern characters escaped, so that Spark reads it literally."""
    return re.sub(r"([*?\[\]{}\\])", r"\\\1", path)


def _one_machine(master: str) -> bool:
    return master == "local" or master.startswith("local[")


def _archived(here: Settings) -> list[str]:
    """JVM options that map the classes `microrec warm` has loaded; none if there is no archive."""
    path = archive_path(here)
    if not path.is_file():
        return []
    # Without the last one Java warns of an archive it leaves aside.
    return [f"-XX:SharedArchiveFile={shlex.quote(str(path))}", "-Xshare:auto", "-Xlog:cds*=off"]
