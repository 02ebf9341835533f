"""The REST reference as Markdown, made of the application's OpenAPI document. Knows no site and no server."""

import json
from collections.abc import Iterator
from typing import Any

INTRODUCTION = """The same as at `/docs` of a running server, which also sends the calls.

A key is shown as `Authorization: Bearer cw_…` or `X-API-Key: cw_…`: [security](security.md). Every error is a
[Problem](#problem) as `application/problem+json`. Any call may be answered 401 or 403 (no key, or one that does not
allow it), 404 (what it names is not there), 409 (not in this state), 413 (too large), 422 (malformed; `field` says
where), 429 (beyond a rate or quota) and 503 (try again after `Retry-After` seconds): [limits](limits.md).
"""
BOUNDS = {
    "minimum": "from",
    "exclusiveMinimum": "above",
    "maximum": "to",
    "exclusiveMaximum": "below",
    "minLength": "of length from",
    "maxLength": "to",
}


def rest_page(api: dict[str, Any]) -> str:
    """The whole OpenAPI document as Markdown: calls by their tags, then what they take and answer."""
    schemas = api["components"]["schemas"]
    return "\n".join(["# REST", "", INTRODUCTION, *_calls(api["paths"], schemas), "", "## Objects", *_objects(schemas)])


def _calls(paths: dict[str, Any], schemas: dict[str, Any]) -> Iterator[str]:
    tag = ""
    for path, methods in paths.items():
        for method, call in methods.items():
            if call["tags"][0] != tag:
                (tag,) = call["tags"]
                yield f"\n## {tag.capitalize()}"
            yield from _call(f"{method.upper()} {path}", call, schemas)


def _call(name: str, call: dict[str, Any], schemas: dict[str, Any]) -> Iterator[str]:
    yield f"\n### `{name}` {{#{call['operationId']}}}\n\n{call['description']}\n"
    if given := call.get("parameters"):
        yield "| parameter | in | type | |\n|---|---|---|---|"
        for one in given:
            told = ["required"] * one["required"] + [one.get("description") or ""]
            yield f"| `{one['name']}` | {one['in']} | {_type(one['schema'])} | {_cell('; '.join(filter(None, told)))} |"
        yield ""
    for kind, body in call.get("requestBody", {}).get("content", {}).items():
        yield f"Body, `{kind}`: {_type(body['schema'])}\n"
        if "example" in body:
            yield f"```text\n{body['example'].strip()}\n```\n"
        for example in _examples(body["schema"], schemas):
            yield f"```json\n{json.dumps(example, indent=2)}\n```\n"
    for status, answer in call["responses"].items():
        if status.startswith("2"):
            content = [f"`{kind}`: {_type(body['schema'])}" for kind, body in answer.get("content", {}).items()]
            yield f"Answer: {status} {', '.join(content)}\n"


def _objects(schemas: dict[str, Any]) -> Iterator[str]:
    for name, schema in sorted(schemas.items()):
        yield f"\n### {name} {{#{name.lower()}}}\n\n{schema.get('description', '')}\n"
        if "properties" not in schema:
            yield f"{_type(schema)}\n"
            continue
        yield "| field | type | default | |\n|---|---|---|---|"
        for field, one in schema["properties"].items():
            default = "required" if field in schema.get("required", ()) else ""
            if one.get("default") is not None:
                default = f"`{json.dumps(one['default'])}`"
            yield f"| `{field}` | {_type(one)} | {default} | {_cell(one.get('description', ''))} |"


def _type(schema: dict[str, Any]) -> str:
    """What a value may be, with links to objects."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(dict.fromkeys(_type(one) for one in schema[union]))
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}" if "items" in schema else "list"
    bounds = [f"{words} {schema[key]:g}" for key, words in BOUNDS.items() if key in schema]
    return " ".join([schema.get("contentEncoding") or schema.get("type", "any"), *bounds])


def _examples(schema: dict[str, Any], schemas: dict[str, Any]) -> list[Any]:
    named = schemas.get(schema.get("$ref", "").rpartition("/")[2], {})
    return list(named.get("examples", ()))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
