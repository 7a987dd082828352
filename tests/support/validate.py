"""Says whether a YAML file fits a JSON Schema: `valid`, or all that is wrong with it."""

import json
import sys

import yaml
from jsonschema import Draft202012Validator


def all_errors(error):
    """An alternative that does not fit has its reasons below it."""
    yield error
    for inner in error.context:
        yield from all_errors(inner)


with open(sys.argv[1]) as file:
    schema = json.load(file)
with open(sys.argv[2]) as file:
    document = yaml.safe_load(file)
Draft202012Validator.check_schema(schema)
errors = Draft202012Validator(schema).iter_errors(document)
wrong = [inner.message for error in errors for inner in all_errors(error)]
print("\n".join(wrong) or "valid")
