"""Airflow DAGs: when jobs run, and in which order. README.md is the runbook.

They name jobs by string and import no module of microrec or jobs, no Spark and no torch. Airflow imports the files of
this folder as top-level modules (`from operators import Job`) and only those as DAGs that .airflowignore does not list.
"""
