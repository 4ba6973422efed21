"""When: Airflow DAGs. They name jobs by string and import nothing of ours, no Spark and no torch."""
