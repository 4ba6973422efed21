"""Counts what public docstrings say: `python -m tests.docstrings [FOLDER ...]` lists what is missing, by function.

A public function is one without a leading underscore at the top of a module or in a public class.

| count | functions counted | says it if |
|---|---|---|
| args | two or more parameters | a section `Args:` names every one |
| returns | anything but None is returned | a section `Returns:` or `Yields:`, or a first sentence that begins so |
| shapes | an array, tensor or table is taken or returned | a shape in brackets, a grain, or rows of a named table |

Left out: properties, overrides of another library's methods (`visit_*`, `forward` ...), methods of a Protocol, commands
of the command line and `main` of a job, whose options carry their help, what is nested in a function, and `fit`,
`build` and `restore` of a model that refer to `registry.Model`, where their arguments are stated once.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("microrec", "jobs", "dags")
COUNTS = ("args", "returns", "shapes")
ARRAYS = re.compile(
    r"NDArray|Tensor|DataFrame|pa\.Table|pa\.Array|pa\.ChunkedArray|RecordBatch|csr_matrix|Column\b|"
    r"\b(Ints?\d*|Floats?\d*|Bools|Doubles|Instants|Indices|UserIdx|VideoIdx)\b"
)
SHAPE = re.compile(
    r"\[[^\]\n]*\b(n|n_\w+|dim|\w*_dim|k|m|d|B|L)\b[^\]\n]*\]|\b[Gg]rain\b|\b[Oo]ne row (per|a|an|for)\b|"
    r"\b[Rr]ows of `|`\w+` rows?\b|`\w+` of (the|a) (day|night|fit)|\b[Rr]ow of `|\bShapes?:|\bscalar\b"
)
RETURNS = re.compile(r"^(Return|Yield)s?\b|^\s*(Returns|Yields):", re.MULTILINE)
SHARED = "see `registry.Model`"
"""What models' modules have alike is stated once."""
NOT_OURS = re.compile(r"^(visit_|leave_|forward$|execute$|poke$|on_|format$|setup$)")


class Function(NamedTuple):
    """A public function, and which of `COUNTS` apply to it and are met."""

    where: str
    met: dict[str, bool]


def functions(folder: Path) -> Iterator[Function]:
    """Yield the public functions below a folder."""
    for path in sorted(folder.rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node, owner in _public(tree.body, None):
            where = f"{path.relative_to(ROOT)}:{node.lineno} {owner}{node.name}"
            yield Function(where, _met(node, path))


def _public(
    body: list[ast.stmt], owner: str | None
) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, str]]:
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            if not any("Protocol" in ast.unparse(base) for base in node.bases):
                yield from _public(node.body, f"{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = " ".join(ast.unparse(d) for d in node.decorator_list)
            skipped = re.search(
                r"property|\.command|\.callback|overload|abstractmethod", decorators
            )
            if not node.name.startswith("_") and not skipped and not NOT_OURS.search(node.name):
                yield node, owner or ""


def _met(node: ast.FunctionDef | ast.AsyncFunctionDef, path: Path) -> dict[str, bool]:
    if path.parent.name == "jobs" and node.name == "main":
        return {}
    text = ast.get_docstring(node) or ""
    if SHARED in text:
        return {}
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    arguments = [argument for argument in arguments if argument.arg not in ("self", "cls")]
    types = [ast.unparse(a.annotation) for a in arguments if a.annotation]
    result = ast.unparse(node.returns) if node.returns else "None"
    met = {}
    if len(arguments) > 1:
        _, section, named = text.partition("Args:")
        met["args"] = bool(section) and all(
            f"{a.arg}:" in named or f"{a.arg}," in named for a in arguments
        )
    if result not in ("None", "NoReturn"):
        met["returns"] = bool(RETURNS.search(text))
    if any(ARRAYS.search(annotation) for annotation in [*types, result]):
        met["shapes"] = bool(SHAPE.search(text))
    return met


def shares(folders: list[Path]) -> dict[str, tuple[int, int]]:
    """Return by count how many functions meet it, of how many."""
    found = [function.met for folder in folders for function in functions(folder)]
    return {
        count: (sum(met.get(count, False) for met in found), sum(count in met for met in found))
        for count in COUNTS
    }


def main(names: list[str]) -> None:
    """List what is missing below the named folders, then the shares."""
    folders = [ROOT / name for name in names or FOLDERS]
    for folder in folders:
        for function in functions(folder):
            missing = [count for count, met in function.met.items() if not met]
            if missing:
                sys.stdout.write(f"{function.where}: no {', '.join(missing)}\n")
    for count, (met, of) in shares(folders).items():
        sys.stdout.write(f"{count}: {met} of {of}, {met / max(of, 1):.1%}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
