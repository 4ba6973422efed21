"""The parent of Spark's Python workers: Spark's own, without archives on the import path.

Before every task a worker asks Python to forget what it knows of import paths (`importlib.invalidate_caches`). Of a zip
or a jar Python then reads the whole directory again, once for each package in it: 66 ms before each task. Spark puts
three of them first on the workers' path. Where pyspark is installed as a package, as it is with microrec, they are not
needed.
"""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import PathFinder


def folders(path: Sequence[str]) -> list[str]:
    """Return the import path without archives if Spark's Python can be found without them; else as it is."""
    kept = [entry for entry in path if not os.path.isfile(entry)]
    installed = all(PathFinder.find_spec(name, kept) for name in ("pyspark", "py4j"))
    return kept if installed else list(path)


if __name__ == "__main__":
    sys.path = folders(sys.path)
    # What has been looked up so far, for example this module's package.
    sys.path_importer_cache.clear()
    from pyspark.daemon import manager

    manager()  # type: ignore[no-untyped-call]
