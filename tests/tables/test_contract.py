"""Contracts: types, and the refusal of anything but exactly the declared columns."""

from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from microrec.config.settings import HOME
from microrec.errors import ContractViolation
from microrec.tables import contract

SCHEMAS = HOME / "schemas"


def test_contract_types_equal_expected() -> None:
    nested = contract.arrow_type("array<struct<video_idx:int,at:timestamp,tags:array<string>>>")
    assert nested == pa.list_(
        pa.struct(
            [
                ("video_idx", pa.int32()),
                ("at", pa.timestamp("us", tz="UTC")),
                ("tags", pa.list_(pa.string())),
            ]
        )
    )
    with pytest.raises(ContractViolation, match="decimal"):
        contract.arrow_type("decimal(1,2)")


@pytest.mark.parametrize("table", sorted(path.stem for path in SCHEMAS.glob("*.yaml")))
def test_contracts_all_load_with_descriptions(table: str) -> None:
    promise = contract.load(SCHEMAS, table)
    assert promise.table == table
    assert promise.partition[0] == "day"
    assert set(promise.key) <= set(promise.schema.names)
    assert {rule.severity for rule in promise.rules} <= {"fail", "warn"}


def test_compare_each_difference_of_columns_is_named() -> None:
    promise = contract.load(SCHEMAS, "suppressed_users")
    found = pa.schema([("user_id", pa.int64()), ("kind", pa.string()), ("extra", pa.string())])
    with pytest.raises(ContractViolation) as refusal:
        promise.check_schema(found, without=frozenset({"day"}))
    for words in (
        "suppressed_users",
        "extra column extra",
        "missing column requested_at",
        "user_id is int64, declared string",
    ):
        assert words in str(refusal.value)


def test_compare_column_order_and_list_names_are_free() -> None:
    promise = contract.load(SCHEMAS, "video_features")
    element = pa.field("element", pa.float32(), nullable=False)
    found = pa.schema(
        [
            ("vector", pa.list_(element)),
            ("encoder_version", pa.string()),
            ("video_id", pa.string()),
            ("modality", pa.string()),
        ]
    )
    promise.check_schema(found, without=frozenset({"day"}))


@pytest.mark.parametrize("table", sorted(path.stem for path in SCHEMAS.glob("*.yaml")))
def test_every_property_says_what_is_personal(table: str) -> None:
    document = yaml.safe_load((SCHEMAS / f"{table}.yaml").read_text())
    (schema,) = document["schema"]
    assert [p["name"] for p in schema["properties"] if "classification" not in p] == []
    names = {"user_id": "user_id", "user_idx": "user_idx", "author_id": "author_id"}
    subjects = {c.name: c.subject for c in contract.load(SCHEMAS, table).columns}
    assert {n: subjects[n] for n in names if n in subjects} == {
        n: of for n, of in names.items() if n in subjects
    }


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        ("", "classification None"),
        ("    classification: secret\n", "classification secret"),
        ("    classification: personal\n", "subject None"),
        (
            "    classification: none\n    customProperties:\n    - property: subject\n      value: text\n",
            "subject text",
        ),
        (
            "    classification: personal\n    customProperties:\n    - property: subject\n      value: face\n",
            "subject face",
        ),
    ],
)
def test_text_column_without_a_classification_is_refused(
    spoilt: str, reason: str, tmp_path: Path
) -> None:
    declared = "    classification: personal\n    customProperties:\n    - property: subject\n      value: user_id\n"
    text = (SCHEMAS / "suppressed_users.yaml").read_text()
    assert declared in text
    (tmp_path / "suppressed_users.yaml").write_text(text.replace(declared, spoilt))
    with pytest.raises(ContractViolation, match=f"suppressed_users.user_id: .*{reason}"):
        contract.load(tmp_path, "suppressed_users")
