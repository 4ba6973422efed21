"""The `microrec` command: a file a group of commands, put together in `app`.

| file | commands |
|---|---|
| `data` | world, import (kuairand, table), inspect |
| `night` | warm, night, plan, ui, airflow |
| `releases` | show, explain, releases, rollback, watch, prune, vacuum |
| `privacy` | erase, erasures, prove-erasure, export-user |
| `plots` | plot |

With `--json` a command prints JSON lines and nothing else on standard output; days and instants are ISO 8601:

| command | an object a | keys |
|---|---|---|
| exit-codes | status | status, meaning |
| night | night | day, release, tables, metrics, list, warehouse, landing |
| plan | day | day, plan (make or skip), because (reasons) |
| inspect | call | day, files, rules (with examples), event_days, units, zones, ids, coverage, totals, lacking |
| show | row | the columns of the table's contract |
| releases | release | id, day, status, reason, run_id, code_version, valid_until, inputs, tables (its pins) |
| watch | call | now, latest (null if no release is in force), findings |
| prune | table | table, partitions (or files of Airflow's logs), dry_run |
| erase | table | table, files, bytes, dry_run |
| erasures | erasure | erasure, done_at, people, proved |
| prove-erasure | place | place, hits |
| export-user | table | table, rows |
| explain | row | day, release, rank, video_id, sentences, parameters |
| vacuum | table | table, deleted (files), dry_run |

`options` has what several commands take, `printing` how rows, lines and errors are printed, `local_airflow` how Airflow
runs on one machine. Commands import what is heavy themselves: `--help` answers without numpy, Airflow, Spark and torch.
"""
