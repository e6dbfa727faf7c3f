"""Markdown tables, and the types of JSON schemas in words."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table of Markdown with a row per entry, without the columns in which no row has a text."""
    listed = [[_cell(cell) for cell in row] for row in rows]
    filled = [column for column in zip(titles, *listed, strict=True) if any(column[1:])]
    lines = zip(*((title, "---", *cells) for title, *cells in filled), strict=True)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "&#124;")


def code(value: object) -> str:
    """Returns the value as code, or nothing where there is no value."""
    return "" if value is None or value == "" else f"`{value}`"


def either(values: Sequence[object]) -> str:
    """Returns values as code, one of which is to be chosen."""
    return ", ".join(f"`{value}`" if value != "" else "nothing" for value in values)


def first_paragraph(text: str | None) -> str:
    """Returns a docstring up to its first empty line, on one line."""
    return " ".join((text or "").strip().partition("\n\n")[0].split())


def type_in_words(schema: Schema) -> str:
    """Returns what values a JSON schema allows, with a link to every named schema."""
    match schema:
        case {"$ref": str(reference)} if not reference.endswith("/JsonValue"):
            name = reference.rpartition("/")[2]
            words = f"[{name}](#{name.lower()})"
        case {"anyOf": parts}:
            words = " or ".join(dict.fromkeys(type_in_words(part) for part in parts if part.get("type") != "null"))
        case {"enum": values}:
            words = either(values)
        case {"const": value}:
            words = code(value if isinstance(value, str) else json.dumps(value))
        case {"type": "array", "items": items} if items:
            words = f"list{_axis(schema)} of {type_in_words(items)}"
        case {"type": "object", "additionalProperties": inner} if isinstance(inner, Mapping):
            words = f"object of {type_in_words(inner)}"
        case {"type": "object", "properties": {**fields}}:
            words = f"object with {either(list(fields))}"
        case {"type": "string", "format": "path"}:
            words = "path"
        case {"type": str(name)}:
            words = {"array": "list"}.get(name, name) + _bounds(schema)
        case _:
            words = "any value"
    return words


def _axis(schema: Schema) -> str:
    return f" ({schema['x-axis']})" if "x-axis" in schema else ""


def _bounds(schema: Schema) -> str:
    lowest, highest = schema.get("minimum"), schema.get("maximum")
    if lowest is not None and highest is not None:
        return f", {lowest:g} to {highest:g}"
    if lowest is not None:
        return f", at least {lowest:g}"
    if "exclusiveMinimum" in schema:
        return f", above {schema['exclusiveMinimum']:g}"
    return ""
