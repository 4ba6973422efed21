"""A job as a process: options, logs, exit status; one computation shared by several processes or Spark tasks."""
