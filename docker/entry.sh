#!/bin/sh
# First process of every container below tini: lays down what has to be written before the command starts.
set -eu
# What Spark on Kubernetes tells an image.
[ "${1:-}" != executor ] || set -- spark-node "$@"
# A reader under another user has no scratch folder, and needs none.
[ -w /srv/scratch ] || exec "$@"
# What a killed process left: shuffles, generated files. Nothing of this container runs yet, and nobody else mounts it.
find /srv/scratch -mindepth 1 -delete
(
  umask 077
  mkdir -p "$SPARK_CONF_DIR" "$SPARK_WORKER_DIR" "$XDG_CACHE_HOME"
  cp -r /opt/cache/numba "$NUMBA_CACHE_DIR"
  # A file, as options of Spark stand on its command line, where everybody on the machine can read them.
  if [ -n "${SPARK_AUTH_SECRET:-}" ]; then
    {
      echo spark.authenticate true
      echo spark.network.crypto.enabled true
      printf 'spark.authenticate.secret %s\n' "$SPARK_AUTH_SECRET" | sed 's/\\/\\\\/g'
    } > "$SPARK_CONF_DIR/spark-defaults.conf"
  fi
)
unset SPARK_AUTH_SECRET
exec "$@"
