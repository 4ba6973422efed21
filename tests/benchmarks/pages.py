"""Write the page of results, tests/benchmarks/README.md, from results/*.json: `python -m tests.benchmarks.pages`.

A result has a title, date, machine and command, columns and rows, and may have a setting (what is compared), a note
and an image. `order` is its place on the page.
"""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
PAGE = FOLDER / "README.md"
HEAD = """\
# Benchmarks and their results

Written by `python -m tests.benchmarks.pages` from [results/](results); change the results, not this page. Each program
says with `--help` what worlds and methods it has; peers are installed with `pip install -e '.[bench]'`. A result holds
for the date, machine and command beside it; bold is the best of its column. Configurations were chosen on other days or
users than those reported where a setting does not say otherwise.
"""


def results() -> list[dict[str, Any]]:
    """Return the results in the order of the page."""
    read = [json.loads(path.read_text()) for path in FOLDER.glob("results/*.json")]
    return sorted(read, key=lambda result: (result["order"], result["title"]))


def anchor(title: str) -> str:
    """Return the name by which a heading is linked to."""
    kept = (letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return "".join(kept).replace(" ", "-")


def table(columns: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table.

    Args:
        columns: heads of the columns.
        rows: cells of each row, one for each column.
    """
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def section(result: dict[str, Any]) -> str:
    """Return the part of the page that one result makes."""
    measured = f"{result['date']} · {result['machine']} · `{result['command']}`"
    image = [f"![{result['title']}]({result['image']})"] if "image" in result else []
    setting = [result["setting"]] if "setting" in result else []
    parts = [f"## {result['title']}", measured, *setting, table(result["columns"], result["rows"])]
    return "\n\n".join([*parts, *image, *result.get("note", [])])


def page() -> str:
    """Return the whole page."""
    every = results()
    contents = "\n".join(f"- [{one['title']}](#{anchor(one['title'])})" for one in every)
    return "\n\n".join([HEAD.rstrip(), contents, *map(section, every)]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
