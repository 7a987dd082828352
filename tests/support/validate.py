"""Says of each YAML file whether it fits a JSON Schema: `valid`, or all that is wrong with it."""

import json
import sys

import yaml
from jsonschema.validators import validator_for


def all_errors(error):
    """An alternative that does not fit has its reasons below it."""
    yield error
    for inner in error.context:
        yield from all_errors(inner)


with open(sys.argv[1]) as file:
    schema = json.load(file)
validator = validator_for(schema)
validator.check_schema(schema)
for name in sys.argv[2:]:
    with open(name) as file:
        document = yaml.safe_load(file)
    errors = validator(schema).iter_errors(document)
    wrong = [inner.message for error in errors for inner in all_errors(error)]
    print("\n".join(wrong) or "valid")
