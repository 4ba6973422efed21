"""Write the data dictionary, schemas/README.md, from the contracts and the jobs: `python -m tests.data_dictionary`.

Who writes and who reads a table is what the docstrings of the jobs say under `Writes:` and `Reads:`; what stands
around the tables is schemas/README.head.md.
"""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from microrec.release.reader import RESULTS
from tests.benchmarks.pages import table

ROOT = Path(__file__).resolve().parents[1]
SCHEMAS = ROOT / "schemas"
PAGE = SCHEMAS / "README.md"
HEAD = SCHEMAS / "README.head.md"
DOMAINS = (
    "landing",
    "events",
    "features",
    "graphs",
    "models",
    "candidates",
    "evaluation",
    "results",
)
TYPES = {"int": "int32", "bigint": "int64", "float": "float32", "double": "float64"}


@cache
def contracts() -> dict[str, dict[str, Any]]:
    """Return the contracts by name of their table."""
    read = [yaml.safe_load(path.read_text()) for path in sorted(SCHEMAS.glob("*.yaml"))]
    return {contract["name"]: contract for contract in read}


@cache
def job_tables() -> dict[str, dict[str, set[str]]]:
    """Return the tables that each job says it reads and writes: by job, under `Reads` and `Writes`."""
    named = {}
    for path in sorted((ROOT / "jobs").glob("[a-z]*.py")):
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        parts = re.split(r"^(Reads|Writes):", text, flags=re.MULTILINE)[1:]
        sections = dict(zip(parts[::2], parts[1::2], strict=True))
        named[path.stem] = {key: tables_in(key, prose) for key, prose in sections.items()}
    return named


def tables_in(key: str, prose: str) -> set[str]:
    """Return the tables that a section of a docstring names.

    Args:
        key: `Reads` or `Writes`.
        prose: the section. What is written stands before its first semicolon or full stop, outside brackets; a name
            with an underscore, or `releases`, is no English word and counts wherever it stands.
    """
    flat = " ".join(prose.split())
    flat = re.sub(r"raw_\(([^)]*)\)", lambda match: f"raw_{match[1].replace(', ', ' raw_')}", flat)
    words = set(re.findall(r"\w+", flat)) & {*contracts()}
    if key == "Reads":
        return words
    start = re.split(r"; |\. ", re.sub(r"\([^)]*\)", "", flat))[0]
    plain = {word for word in words if "_" not in word and word != "releases"}
    return (words - plain) | (plain & set(re.findall(r"\w+", start)))


def jobs_that(verb: str, name: str) -> str:
    """Return the names of the jobs that read or write a table, and who else does.

    Args:
        verb: `Reads` or `Writes`.
        name: the table.
    """
    jobs = [f"`{job}`" for job, tables in job_tables().items() if name in tables.get(verb, ())]
    if verb == "Writes" and name.startswith("raw_"):
        jobs.append("producers")
    if verb == "Reads" and name in (*RESULTS, "releases"):
        jobs.append("consumers")
    return ", ".join(jobs) or "people who look into a night"


def column(row: dict[str, Any]) -> list[str]:
    """Return the cells of one column of a table: name, type, null, whose it is, description."""
    kind = row["physicalType"]
    name = f"**{row['name']}**" if row.get("primaryKey") else row["name"]
    optional = "" if row.get("required") else "yes"
    description = " ".join(str(row.get("description", "")).split()).replace("|", "\\|")
    subject = [
        each["value"] for each in row.get("customProperties", []) if each["property"] == "subject"
    ]
    whose = f"{row['classification']}: {subject[0]}" if subject else ""
    return [name, TYPES.get(kind, kind).replace("|", "\\|"), optional, whose, description]


def section(name: str) -> str:
    """Return the part of the page about one table."""
    contract = contracts()[name]
    schema = contract["schema"][0]
    rows = schema["properties"]
    keys = [row["name"] for row in rows if row.get("primaryKey")]
    partitions = [row["name"] for row in rows if row.get("partitioned")]
    facts = [
        f"Grain: {schema['dataGranularityDescription']}",
        f"key: {', '.join(keys) or 'none'}",
        f"partition: {', '.join(partitions) or 'none'}",
        f"version {contract['version']}",
    ]
    flow = f"Written by {jobs_that('Writes', name)}; read by {jobs_that('Reads', name)}."
    head = " ".join(schema["description"].split())
    columns = table(
        ["column", "type", "null", "person", "description"], [column(row) for row in rows]
    )
    return f"### {name}\n\n{head}\n\n{'; '.join(facts)}. {flow}\n\n{columns}"


def page() -> str:
    """Return the whole page."""
    parts = [HEAD.read_text().rstrip()]
    for domain in DOMAINS:
        names = [name for name, contract in contracts().items() if contract["domain"] == domain]
        parts += [f"## {domain}", *map(section, names)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
