#!/bin/sh
# A node of a standalone Spark cluster out of the pip wheel: `spark-node master` or `spark-node worker MASTER_URL`.
set -eu
home=$("${PYSPARK_PYTHON:-python3}" -c 'import pathlib, pyspark; print(pathlib.Path(pyspark.__file__).parent)')
role=$1
shift
case "$role" in
  master) exec "$home/bin/spark-class" org.apache.spark.deploy.master.Master --host "${SPARK_HOST:-$(hostname)}" "$@" ;;
  # By its address, which its health check looks for among those the master knows.
  worker) exec "$home/bin/spark-class" org.apache.spark.deploy.worker.Worker --host "${SPARK_HOST:-$(hostname -i)}" "$@" ;;
  *) echo "spark-node: master or worker, not $role" >&2; exit 2 ;;
esac
