"""Where the class archive lies: a file per version of Java and Spark.

Apart from `class_archive`, which starts a session to make the archive: `session` only has to know whether there is one.
"""

import os
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

from microrec.config.settings import Settings


def archive_path(here: Settings) -> Path:
    """Return the path of the class archive, of which a change of Java or Spark asks for a new one.

    Args:
        here: settings of this process; `spark_archive` stands above the path in the Python installation.

    Returns:
        A path at which there may be no file.
    """
    name = f"spark-{version('pyspark')}-java-{_java_version()}.jsa"
    return here.spark_archive or Path(sys.prefix) / "share" / "microrec" / name


def _java_version() -> str:
    """Version of the Java that Spark will start, as its `release` file gives it; `unknown` without one."""
    home = os.environ.get("JAVA_HOME")
    java = Path(home, "bin", "java") if home else Path(shutil.which("java") or "")
    release = java.resolve().parent.parent / "release"
    lines = release.read_text().splitlines() if release.is_file() else []
    versions = [
        line.split("=", 1)[1].strip('"') for line in lines if line.startswith("JAVA_VERSION=")
    ]
    return versions[0] if versions else "unknown"
