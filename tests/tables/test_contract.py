"""Contracts: types, and the refusal of anything but exactly the declared columns."""

import pyarrow as pa
import pytest

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
