"""The reference of HTTP routes, from the service's own OpenAPI document."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
from pydantic import SecretStr

from app.main import create_app
from app.settings import Settings
from tools.docs.tables import Schema, code, first_paragraph, table, type_in_words


def http_routes() -> str:
    """Returns a table of routes for each protocol, and a section for every body and answer that they name."""
    document = openapi()
    tags = [tag["name"] for tag in document["tags"]]
    operations = list(_operations(document))
    tags += [tag for tag in dict.fromkeys(operation["tags"][0] for _, _, operation in operations) if tag not in tags]
    parts = []
    for tag in tags:
        rows = (_route(*each) for each in operations if each[2]["tags"][0] == tag)
        parts += [f"## Requests: {tag}", table(("request", "what it does", "body", "answer"), rows)]
    schemas = document["components"]["schemas"]
    parts += ["## Bodies and answers", *(_schema(name, schemas[name]) for name in sorted(schemas))]
    return "\n\n".join(parts)


def openapi() -> dict[str, Any]:
    """Returns the OpenAPI document of a service with every route on, before it has loaded a model."""
    app = create_app(Settings(admin_key=SecretStr("a key that nobody uses"), docs=True, root_path=""))

    async def fetch() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            return await client.get("/openapi.json")

    document: dict[str, Any] = asyncio.run(fetch()).raise_for_status().json()
    return document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, by_method in document["paths"].items():
        for method, operation in by_method.items():
            yield method.upper(), path, operation


def _route(method: str, path: str, operation: dict[str, Any]) -> tuple[str, str, str, str]:
    meaning = first_paragraph(operation.get("description") or operation["summary"])
    queries = [code(f"?{each['name']}=") for each in operation.get("parameters", ()) if each["in"] == "query"]
    takes = f" Takes {', '.join(queries)}." if queries else ""
    body = _content(operation.get("requestBody", {}))
    return code(f"{method} {path}"), meaning + takes, body, _content(operation["responses"]["200"])


def _content(described: dict[str, Any]) -> str:
    """What a body or an answer is made of, one part for each media type."""
    words = (
        code(media_type) if content.get("schema", {}).get("format") == "binary" else type_in_words(content["schema"])
        for media_type, content in described.get("content", {}).items()
    )
    return ", ".join(words)


def _schema(name: str, schema: Schema) -> str:
    parts = [f"### {name}", schema.get("description", "")]
    required = schema.get("required", ())
    if "properties" in schema:
        rows = (
            (code(field), type_in_words(each), "yes" if field in required else "", each.get("description", ""))
            for field, each in schema["properties"].items()
        )
        parts.append(table(("field", "type", "required", "meaning"), rows))
    else:
        parts.append(f"{type_in_words(schema).capitalize()}.")
    return "\n\n".join(part for part in parts if part)
