"""The page at /docs: every endpoint with its fields, from the API's own description. No script, nothing fetched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from jinja2 import Environment

TEMPLATE = Path(__file__).with_name("docs.html")


@dataclass(frozen=True)
class Field:
    """One field of a request."""

    name: str
    kind: str
    about: str


@dataclass(frozen=True)
class Call:
    """One endpoint."""

    verb: str
    path: str
    about: str
    fields: tuple[Field, ...] = ()


def docs_page(app: FastAPI, about: dict[str, Any], sockets: dict[str, str]) -> str:
    """HTML of the page. sockets: WebSocket path -> what it speaks, which OpenAPI has no words for."""
    schema = app.openapi()
    groups: dict[str, list[Call]] = {}
    for path, calls in schema["paths"].items():
        for verb, told in calls.items():
            text = " ".join(str(told.get("description", "")).split())
            call = Call(verb.upper(), path, text, tuple(_fields(told, schema)))
            groups.setdefault(str(told.get("tags", ["other"])[0]), []).append(call)
    groups["websocket"] = [Call("WS", path, " ".join(text.split())) for path, text in sockets.items()]
    cameras = ", ".join(f"camera {c['name']} ({c['width']} x {c['height']})" for c in about["cameras"]) or "no camera"
    template = Environment(autoescape=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        title=app.title,
        groups=groups,
        cameras=cameras,
        idle=f"{about['idle_s']:g}",
        **{key: about[key] for key in ("policy", "suite", "chunk", "execute", "slots")},
    )


def _fields(told: dict[str, Any], schema: dict[str, Any]) -> Iterator[Field]:
    for form in told.get("requestBody", {}).get("content", {}).values():
        body = _resolved(form.get("schema", {}), schema)
        needed = body.get("required", [])
        for name, one in body.get("properties", {}).items():
            found = _resolved(one, schema)
            kind = str(found.get("format") or found.get("type") or _either(found, schema))
            kind = "file" if kind == "binary" or "contentMediaType" in found else kind
            kind = "files" if kind == "array" and "contentMediaType" in found.get("items", {}) else kind
            yield Field(name, kind + ("" if name in needed else ", optional"), str(one.get("description", "")))
        if "properties" not in body and body.get("description"):
            yield Field("msgpack", "map", str(body["description"]))


def _either(found: dict[str, Any], schema: dict[str, Any]) -> str:
    options = [_resolved(one, schema) for one in found.get("anyOf", [])]
    kinds = ["file" if "contentMediaType" in one else str(one.get("type", "object")) for one in options]
    return " or ".join(kind for kind in kinds if kind != "null") or "object"


def _resolved(found: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """What a reference stands for."""
    while "$ref" in found:
        name = str(found["$ref"]).rpartition("/")[2]
        found = schema["components"]["schemas"][name]
    return found
