"""The JSON schema of sweep files: valid, in step with the code, and of one mind with it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from pgbench.cli import invoke
from pgbench.recipe.shape import schema

DOCS = Path(__file__).parents[1] / "docs"
FILE = DOCS / "sweep.schema.json"


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    return Draft202012Validator(schema())


def test_the_schema_is_one_of_draft_2020_12() -> None:
    Draft202012Validator.check_schema(schema())
    assert schema()["$schema"] == Draft202012Validator.META_SCHEMA["$id"]


def test_the_committed_file_is_in_step() -> None:
    made = json.dumps(schema(), indent=1) + "\n"
    assert FILE.read_text(encoding="utf-8") == made, (
        "write it anew: pgbench sweep --schema > docs/sweep.schema.json"
    )


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["sweep", "--schema"]) == 0
    assert capsys.readouterr().out == FILE.read_text(encoding="utf-8")


def test_nothing_may_be_null(validator: Draft202012Validator) -> None:
    assert '"null"' not in json.dumps(schema())
    assert not validator.is_valid({"defaults": {"limit": None}})


def test_every_key_has_its_help() -> None:
    definitions = schema()["$defs"]
    assert isinstance(definitions, dict)
    for shape in (schema(), *definitions.values()):
        objects = [one for one in (shape, *shape.get("anyOf", [])) if "properties" in one]
        assert objects
        for key, told in objects[0]["properties"].items():
            assert told.get("description"), key
        assert objects[0]["additionalProperties"] is False


def test_the_example_of_the_page_fits(validator: Draft202012Validator) -> None:
    page = (DOCS / "sweeps.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    assert [error.message for error in validator.iter_errors(yaml.safe_load(example))] == []


@pytest.mark.parametrize(
    "text",
    [
        "quant: [5bit]",
        "quant: []",
        "quant: 4bit",
        "checkpoints: [{model: a, batch_size: 0}]",
        "checkpoints: ['']",
        "tasks: [{split: val}]",
        "tasks: [{task: gqa, splitt: val}]",
        "include: [gqa]",
        "defaults: {device: gpu}",
        "defaults: {limit: some}",
        "resolutions: [big]",
        "batch_sise: 4",
        "replicates: {a: []}",
    ],
)
def test_it_refuses_what_reading_refuses(text: str, validator: Draft202012Validator) -> None:
    assert not validator.is_valid(yaml.safe_load(text))
