"""What the pages promise exists: linked files, `make` targets, subcommands of `microrec`."""

import re
import subprocess
from pathlib import Path

import pytest
import typer

from microrec.cli.app import app
from microrec.config.settings import HOME

TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (HOME / "Makefile").read_text(), re.MULTILINE))
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
MAKE = re.compile(r"(?:^|[`\s;&])make ([a-z][a-z-]*)")
MICROREC = re.compile(r"(?:^|[`\s/])microrec ([a-z][a-z-]*)\b(?![./=])")


def pages() -> list[Path]:
    """Return the README files of the repository, of tracked and of new folders."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*README.md"],
        cwd=HOME, capture_output=True, text=True, check=False,
    )  # fmt: skip
    names = listed.stdout.splitlines()
    if listed.returncode:  # no checkout: a source archive
        folders = ("", "dags", "jobs", "microrec", "schemas", "tests")
        return [page for name in folders for page in (HOME / name).rglob("README.md")]
    return [HOME / name for name in names if (HOME / name).is_file()]


PAGES = pages()


def ids(path: Path) -> str:
    return path.relative_to(HOME).as_posix()


def snippets(page: Path) -> list[str]:
    """Return the pieces of a page that are set as code."""
    return CODE.findall(page.read_text())


def subcommands() -> set[str]:
    command = typer.main.get_command(app)
    return set(command.commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_pages_relative_link_resolves(page: Path) -> None:
    links = [link.split("#")[0] for link in LINK.findall(CODE.sub("", page.read_text()))]
    files = [link for link in links if link and ":" not in link]
    assert not [link for link in files if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_pages_link_to_heading_resolves(page: Path) -> None:
    broken = []
    for link in LINK.findall(CODE.sub("", page.read_text())):
        file, _, heading = link.partition("#")
        if ":" in link or not heading:
            continue
        target = (page.parent / file) if file else page
        if heading not in anchors(target.read_text()):
            broken.append(link)
    assert not broken


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, formed as GitHub forms them."""
    headings = re.findall(r"^#+ +(.+?)\s*$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_pages_make_target_exists(page: Path) -> None:
    named = {target for code in snippets(page) for target in MAKE.findall(code)}
    assert named <= TARGETS


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_pages_subcommand_exists(page: Path) -> None:
    named = {name for code in snippets(page) for name in MICROREC.findall(code)}
    assert named <= subcommands()


def test_readme_first_commands_are_make_night_and_make_test() -> None:
    text = (HOME / "README.md").read_text()
    block = re.search(r"```console\n(.*?)```", text, re.DOTALL)
    assert block is not None
    assert re.findall(r"^make ([a-z-]+)", block[1], re.MULTILINE) == ["night", "test"]
    assert {"night", "test"} <= TARGETS
