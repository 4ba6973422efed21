"""Sources of dbt say of every result table what its contract says."""

import yaml

from microrec.config.settings import HOME
from microrec.export import dbt
from microrec.release.reader import RESULTS
from microrec.tables import contract


def test_sources_have_every_result_table_with_the_columns_of_its_contract() -> None:
    document = yaml.safe_load(dbt.sources(HOME / "schemas"))
    (source,) = document["sources"]
    tables = {table["name"]: table for table in source["tables"]}
    assert tables.keys() == {*RESULTS, "releases", "suppressed_users"}
    for name, table in tables.items():
        schema = contract.load(HOME / "schemas", name).schema
        assert [column["name"] for column in table["columns"]] == schema.names
        for column in table["columns"]:
            is_required = not schema.field(column["name"]).nullable
            assert (column.get("data_tests") == ["not_null"]) == is_required
            assert column["description"]
    user_id = tables["recommendations"]["columns"][1]
    assert (user_id["name"], user_id["meta"]) == ("user_id", {"classification": "personal"})
    assert tables["recommendations"]["meta"]["key"] == ["day", "user_id", "rank"]
