"""Benchmarks, run by hand: `python -m tests.benchmarks.graphs --scale S --out DIR`.

Every method runs alone in a fresh process (`measure.py`), its result is compared with brute force
before its time is looked at, and a run writes `results.json`, `results.md` and plots (`report.py`).
The suite runs the smallest size once, to see that the command works; no test asserts a time.
"""
