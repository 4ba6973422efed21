"""Digests that committed rows are stamped with: equal for equal code and config, else different."""

from pydantic import BaseModel

from microrec.graphs.similarity import provenance


class Section(BaseModel):
    k: int = 5


def test_rule_version_or_config_changed_differs() -> None:
    rules = [provenance.rule(1, Section()), provenance.rule(2, Section())]
    rules.append(provenance.rule(1, Section(k=6)))
    assert len(set(rules)) == 3
    assert provenance.rule(1, Section()) == rules[0]
