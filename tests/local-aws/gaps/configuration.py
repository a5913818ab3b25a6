"""The JSON schemas of add-ons' configuration, and EKS's words where values do not fit."""

import functools
import json
import pathlib

import jsonschema
import yaml

from .wire import Refused

_AGENT = "eks-pod-identity-agent"
# Of values of the agent's public chart. The in-process fake has the same.
_AGENT_SCHEMA = pathlib.Path(__file__).with_name("agent-configuration.schema.json")
_ANY_OBJECT = {"$schema": "http://json-schema.org/draft-06/schema#", "type": "object"}
# In the order in which they are tried: to Python, True is a number too.
_TYPES = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array"), (dict, "object"))


@functools.cache
def schema(addon_name):
    return json.loads(_AGENT_SCHEMA.read_text()) if addon_name == _AGENT else _ANY_OBJECT


def check(addon_name, values):
    """AWS: refuses configurationValues, in JSON or YAML, that do not fit the add-on's schema. ministack: takes anything."""
    if not values:
        return
    try:
        document = yaml.safe_load(values)
    except yaml.YAMLError as error:
        text = "ConfigurationValue is not in valid JSON or YAML format"
        raise Refused("InvalidParameterException", text, addonName=addon_name) from error
    errors = [told for error in jsonschema.Draft6Validator(schema(addon_name)).iter_errors(document) for told in _told(error)]
    if errors:
        text = ("ConfigurationValue provided in request is not supported: "
                f"Json schema validation failed with error: [{', '.join(errors)}]")
        raise Refused("InvalidParameterException", text, addonName=addon_name)


def _told(error):
    """An error in the words of EKS's validator: of the commonest kinds, of which reports are public. Others get our own."""
    path = "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
    if error.validator == "additionalProperties" and error.validator_value is False:
        text = "is not defined in the schema and the schema does not allow additional properties"
        return [f"{path}.{name}: {text}" for name in error.instance if name not in error.schema.get("properties", {})]
    if error.validator == "type":
        return [f"{path}: {_type_of(error.instance)} found, {error.validator_value} expected"]
    return [f"{path}: {error.message}"]


def _type_of(value):
    return next((name for kind, name in _TYPES if isinstance(value, kind)), "null")
