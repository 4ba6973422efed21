"""The `microrec` command: a file a group of commands, put together in `app`.

| file | commands |
|---|---|
| `data` | world, import |
| `night` | warm, night, plan, ui, airflow |
| `releases` | show, releases, rollback, watch, vacuum |
| `plots` | plot |

`options` has what several commands take, `printing` how rows, lines and errors are printed, `local_airflow` how Airflow
runs on one machine. Commands import what is heavy themselves: `--help` answers without numpy, Airflow, Spark and torch.
"""
