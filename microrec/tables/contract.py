"""What a table is: its Open Data Contract Standard (ODCS v3) contract, as types and rules the code can use."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from open_data_contract_standard.model import OpenDataContractStandard

from microrec.core import arguments, messages
from microrec.errors import ContractViolation

_ARROW_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}


CLASSIFICATIONS = ("personal", "pseudonymous", "none")
"""What a column says of a person: who it is, who it is to somebody who has another table, nothing by itself."""
SUBJECTS = ("user_id", "user_idx", "author_id", "text", "row")
"""How a column leads to a person: by the producers' key of a user; by the index of one in `users` or `private_users` of
the day; by the key of an author, who may be a user; as free text that may quote an id; only together with the rest of
its row."""


@dataclass(frozen=True)
class Column:
    """One declared column."""

    name: str
    type: pa.DataType
    required: bool
    classification: str = "none"
    """One of `CLASSIFICATIONS`."""
    subject: str | None = None
    """One of `SUBJECTS`; None where nothing is said of a person."""


@dataclass(frozen=True)
class Rule:
    """One expectation: a Great Expectations type with its arguments; `fail` stops the commit, `warn` is logged."""

    type: str
    kwargs: dict[str, Any]
    severity: str

    @property
    def name(self) -> str:
        """The rule as messages show it, such as `expect_column_values_to_be_between(rank, min_value=1)`."""
        columns = [str(v) for k, v in self.kwargs.items() if k.startswith("column")]
        rest = [f"{k}={v}" for k, v in self.kwargs.items() if not k.startswith("column")]
        return f"{self.type}({', '.join(columns + rest)})"


@dataclass(frozen=True)
class Contract:
    """A table's promise: columns in order, key, partition columns and rules."""

    table: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partition: tuple[str, ...]
    rules: tuple[Rule, ...]

    @property
    def schema(self) -> pa.Schema:
        """All columns, in contract order."""
        return pa.schema([pa.field(c.name, c.type, nullable=not c.required) for c in self.columns])

    @property
    def file_schema(self) -> pa.Schema:
        """The columns inside the data files: all but the partition columns, which the transaction log holds."""
        return pa.schema([field for field in self.schema if field.name not in self.partition])

    def of_subject(self, *subjects: str) -> list[str]:
        """Return the names of the columns that lead to a person in one of these ways (any, if none is named)."""
        return [c.name for c in self.columns if c.subject and c.subject in (subjects or SUBJECTS)]

    def check_schema(self, actual: pa.Schema, *, without: frozenset[str] = frozenset()) -> None:
        """Refuse anything but exactly the declared columns with exactly the declared types (order is free).

        Args:
            actual: schema of the rows at hand.
            without: columns the writer adds itself, which must not be in the rows.

        Raises:
            ContractViolation: naming the table and each extra, missing or retyped column.
        """
        declared = {c.name: c.type for c in self.columns if c.name not in without}
        types = dict(zip(actual.names, actual.types, strict=True))
        wrong = [f"extra column {name}" for name in types if name not in declared]
        wrong += [f"missing column {name}" for name in declared if name not in types]
        wrong += [
            f"column {name} is {types[name]}, declared {declared[name]}"
            for name in declared
            if name in types and not _same_type(types[name], declared[name])
        ]
        if wrong or len(actual.names) != len(types):
            raise ContractViolation(f"{self.table}: {'; '.join(wrong) or 'a column appears twice'}")


def _same_type(actual: pa.DataType, declared: pa.DataType) -> bool:
    """Equality of types, blind to the names and nullability Parquet and Spark give the elements of lists."""
    if pa.types.is_large_string(actual):
        return bool(pa.types.is_string(declared))
    if pa.types.is_list(declared) or pa.types.is_large_list(declared):
        is_list = pa.types.is_list(actual) or pa.types.is_large_list(actual)
        return is_list and _same_type(actual.value_type, declared.value_type)
    if pa.types.is_struct(declared):
        return (
            pa.types.is_struct(actual)
            and actual.num_fields == declared.num_fields
            and all(
                actual.field(i).name == declared.field(i).name
                and _same_type(actual.field(i).type, declared.field(i).type)
                for i in range(declared.num_fields)
            )
        )
    return bool(actual == declared)


def arrow_type(ddl: str) -> pa.DataType:
    """Return the Arrow type of a `physicalType`, such as `bigint` or `array<struct<video_idx:int,at:timestamp>>`.

    Raises:
        ContractViolation: the type is not one that contracts may use.
    """
    ddl = ddl.strip()
    if ddl in _ARROW_TYPES:
        return _ARROW_TYPES[ddl]
    if ddl.startswith("array<") and ddl.endswith(">"):
        return pa.list_(arrow_type(ddl[6:-1]))
    if ddl.startswith("struct<") and ddl.endswith(">"):
        fields = [field.split(":", 1) for field in _split_top_level(ddl[7:-1])]
        return pa.struct([pa.field(name.strip(), arrow_type(kind)) for name, kind in fields])
    raise ContractViolation(
        f"physicalType {ddl!r} is not one of {sorted(_ARROW_TYPES)}, array<> or struct<>"
    )


def _split_top_level(text: str) -> list[str]:
    parts = []
    depth = 0
    begin = 0
    for position, character in enumerate(text):
        depth += {"<": 1, ">": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append(text[begin:position])
            begin = position + 1
    return [*parts, text[begin:]]


@lru_cache
def load(folder: Path, table: str) -> Contract:
    """Return the contract of a table, read once per process.

    Args:
        folder: folder of the contracts, `<table>.yaml` each.
        table: name of the table.

    Raises:
        ContractViolation: there is no such contract, or it does not parse as ODCS v3.
    """
    if not arguments.is_name(table):
        raise ContractViolation(f"{messages.shown(table)}: not the name of a table")
    path = folder / f"{table}.yaml"
    if not path.is_file():
        raise ContractViolation(f"{table}: no contract at {path}")
    try:
        document = OpenDataContractStandard.from_file(str(path))
    except ValueError as error:
        raise ContractViolation(f"{table}: {path} is not an ODCS v3 contract: {error}") from error
    (schema,) = document.schema_ or []
    properties: list[Any] = list(schema.properties or [])
    columns = tuple(_column(table, p) for p in properties)
    key = tuple(
        p.name for p in sorted(properties, key=lambda p: p.primaryKeyPosition or 0) if p.primaryKey
    )
    partition = tuple(
        p.name
        for p in sorted(properties, key=lambda p: p.partitionKeyPosition or 0)
        if p.partitioned
    )
    declared = tuple(_rule(quality) for quality in schema.quality or [])
    return Contract(
        table, columns, key, partition, (*_implied_rules(columns, key, partition), *declared)
    )


def _column(table: str, declared: Any) -> Column:
    """A property of a contract; whoever declares a text says whether it is somebody's.

    Raises:
        ContractViolation: the classification or the subject is absent or none of those there are.
    """
    kind = arrow_type(declared.physicalType)
    given = {each.property: each.value for each in declared.customProperties or []}
    subject = given.get("subject")
    classification = declared.classification or (None if _has_text(kind) else "none")
    if classification not in CLASSIFICATIONS:
        raise ContractViolation(
            f"{table}.{declared.name}: classification {classification} is not one of {CLASSIFICATIONS}"
        )
    if (subject in SUBJECTS) != (classification != "none") or (subject and subject not in SUBJECTS):
        raise ContractViolation(
            f"{table}.{declared.name}: a column that is {classification} has the subject {subject};"
            f" one of {SUBJECTS} is due to a personal or pseudonymous column, and to no other"
        )
    return Column(declared.name, kind, bool(declared.required), classification, subject)


def _has_text(kind: pa.DataType) -> bool:
    """Whether a value of the type is a text or holds one."""
    if pa.types.is_nested(kind):
        return any(_has_text(kind.field(n).type) for n in range(kind.num_fields))
    return bool(pa.types.is_string(kind))


def _rule(quality: Any) -> Rule:
    body = quality.implementation
    body = yaml.safe_load(body) if isinstance(body, str) else body
    return Rule(type=body["type"], kwargs=body["kwargs"], severity=quality.severity)


def _implied_rules(
    columns: tuple[Column, ...], key: tuple[str, ...], partition: tuple[str, ...]
) -> tuple[Rule, ...]:
    """`required` and `primaryKey` are expectations too; partition values are constants of the commit."""
    rules = [
        Rule("expect_column_values_to_not_be_null", {"column": c.name}, "fail")
        for c in columns
        if c.required and c.name not in partition
    ]
    if key:
        # The partition columns make the key unique within what one commit audits.
        unique = list(dict.fromkeys([*partition, *key]))
        if len(unique) == 1:
            rules.append(Rule("expect_column_values_to_be_unique", {"column": unique[0]}, "fail"))
        else:
            rules.append(
                Rule("expect_compound_columns_to_be_unique", {"column_list": unique}, "fail")
            )
    return tuple(rules)
