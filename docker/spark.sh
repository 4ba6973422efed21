#!/bin/sh
# A node of a Spark cluster out of the pip wheel: of a standalone one `spark-node master` or `spark-node worker MASTER_URL`; on
# Kubernetes `executor`, as Spark calls an image there, with the rest in variables.
set -eu
home=$("${PYSPARK_PYTHON:-python3}" -c 'import pathlib, pyspark; print(pathlib.Path(pyspark.__file__).parent)')
role=$1
shift
case "$role" in
  master) exec "$home/bin/spark-class" org.apache.spark.deploy.master.Master --host "${SPARK_HOST:-$(hostname)}" "$@" ;;
  # By its address, which its health check looks for among those the master knows.
  worker) exec "$home/bin/spark-class" org.apache.spark.deploy.worker.Worker --host "${SPARK_HOST:-$(hostname -i)}" "$@" ;;
  executor)
    set -- -Xms"$SPARK_EXECUTOR_MEMORY" -Xmx"$SPARK_EXECUTOR_MEMORY" -cp "$home/jars/*"
    n=0
    while eval "[ -n \"\${SPARK_JAVA_OPT_$n+set}\" ]"; do
      eval "set -- \"\$SPARK_JAVA_OPT_$n\" \"\$@\""
      n=$((n + 1))
    done
    exec java "$@" org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend \
      --driver-url "$SPARK_DRIVER_URL" --executor-id "$SPARK_EXECUTOR_ID" --cores "$SPARK_EXECUTOR_CORES" \
      --app-id "$SPARK_APPLICATION_ID" --hostname "$SPARK_EXECUTOR_POD_IP" \
      --resourceProfileId "$SPARK_RESOURCE_PROFILE_ID" --podName "$SPARK_EXECUTOR_POD_NAME"
    ;;
  *) echo "spark-node: master, worker or executor, not $role" >&2; exit 2 ;;
esac
