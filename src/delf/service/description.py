"""The API described: as OpenAPI for programs, and as a page for people that needs nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from delf.service.pages import document

router = APIRouter(include_in_schema=False)
_METHODS = ("get", "post", "delete")


@router.get("/openapi.json")
async def as_openapi(request: Request) -> Response:
    """The description as OpenAPI; below a prefix it says so."""
    described: dict[str, Any] = request.app.openapi()
    prefix = request.scope.get("root_path", "").rstrip("/")
    return JSONResponse(described | {"servers": [{"url": prefix}]} if prefix else described)


@router.get("/docs", response_class=HTMLResponse)
async def as_page(request: Request) -> Response:
    """The description as a page."""
    return document("the API", sections_of(request.app.openapi()))


def describe(app: FastAPI, methods: Sequence[str]) -> None:
    """Complete the description of an application: how a token is shown, and which search methods it takes."""
    schema = app.openapi()
    schema.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for operations in schema["paths"].values():
        for operation in operations.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                field = content["schema"].get("properties", {}).get("method")
                if field is not None:
                    content["schema"]["properties"]["method"] = {
                        "type": "string", "enum": list(methods), "default": methods[0],
                        "description": field["description"]}


def sections_of(schema: Mapping[str, Any]) -> str:
    """What the page says: a section for each address, with what it takes and what it answers."""
    sections = [(f"{method.upper()} {path}", _operation(method, path, operations[method], schema))
                for path, operations in schema["paths"].items() for method in _METHODS if method in operations]
    links = "".join(f'<li><a href="#{_anchor(name)}">{escape(name)}</a></li>' for name, _ in sections)
    about = "".join(f"<p>{_code(part)}</p>" for part in str(schema["info"].get("description", "")).split("\n\n"))
    models = "".join(_model(name, model) for name, model in schema.get("components", {}).get("schemas", {}).items())
    return f"""<h1>The API</h1>
{about}
<p>For programs: <a href="openapi.json">openapi.json</a>, version {escape(str(schema["info"]["version"]))}.</p>
<nav aria-label="Addresses"><ul>{links}</ul></nav>
{"".join(text for _, text in sections)}
<section aria-labelledby="answers"><h2 id="answers">What answers hold</h2>
{models}
</section>"""


def _operation(method: str, path: str, operation: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    name = f"{method.upper()} {path}"
    parts = [f'<section aria-labelledby="{_anchor(name)}"><h2 id="{_anchor(name)}"><span class="method">'
             f"{method.upper()}</span> <code>{escape(path)}</code></h2>"]
    parts += [f"<p>{_code(part)}</p>" for part in str(operation.get("description", "")).split("\n\n") if part]
    if operation.get("security"):
        parts.append("<p>Needs the token of the service: <code>Authorization: Bearer TOKEN</code>.</p>")
    given = [(one["name"], one["in"], one["schema"] | {"description": one.get("description", "")},
              bool(one.get("required"))) for one in operation.get("parameters", [])]
    contents = operation.get("requestBody", {}).get("content", {})
    if "application/json" in contents:
        parts.append("<p>With the key of a photo, the same fields may be sent as a JSON object.</p>")
    for form in (content["schema"] for kind, content in contents.items() if kind != "application/json"):
        given += [(key, "form", field, key in form.get("required", [])) for key, field in form["properties"].items()]
    if given:
        parts.append(_table(("", "where", "type", "what it is"),
                            [(f"<code>{escape(key)}</code>{' (needed)' if needed else ''}", escape(place),
                              _kind(field), _about(field)) for key, place, field, needed in given],
                            f"What {name} takes"))
    answers = [(escape(status), _contents(answer), _code(answer.get("description", "")))
               for status, answer in operation["responses"].items()]
    return "".join([*parts, _table(("status", "type", ""), answers, f"What {name} answers"), "</section>"])


def _model(name: str, model: Mapping[str, Any]) -> str:
    rows = [(f"<code>{escape(key)}</code>", _kind(field), _about(field))
            for key, field in model.get("properties", {}).items()]
    return (f'<h3 id="{_anchor(name)}">{escape(name)}</h3><p>{_code(model.get("description", ""))}</p>'
            + _table(("", "type", "what it is"), rows, name))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    head = "".join(f'<th scope="col">{one}</th>' if one else "<td></td>" for one in heads)
    body = "".join(f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'
                   for first, *rest in rows)
    return (f'<div class="table" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>")


def _contents(answer: Mapping[str, Any]) -> str:
    return ", ".join(_kind(content.get("schema") or {"type": kind}) if "json" in kind else escape(kind)
                     for kind, content in answer.get("content", {}).items())


def _kind(field: Mapping[str, Any]) -> str:
    """The type of a value, in words."""
    if "$ref" in field:
        name = str(field["$ref"]).rpartition("/")[2]
        return f'<a href="#{_anchor(name)}">{escape(name)}</a>'
    if "anyOf" in field:
        return " or ".join(_kind(one) for one in field["anyOf"])
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}))}"
    return escape(str(field.get("format", field.get("type", "any"))))


def _about(field: Mapping[str, Any]) -> str:
    return " ".join([_code(str(field.get("description", ""))), *_limits(field)]).strip()


def _limits(field: Mapping[str, Any]) -> Iterator[str]:
    if "enum" in field:
        yield f"One of {', '.join(f'<code>{escape(str(one))}</code>' for one in field['enum'])}."
    for name, word in (("minimum", "At least"), ("maximum", "At most")):
        if name in field:
            yield f"{word} {field[name]}."
    if field.get("default") is not None:
        yield f"By default <code>{escape(json.dumps(field['default']).strip(chr(34)))}</code>."


def _code(text: str) -> str:
    """Plain text as HTML, with what stands between backticks as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))


def _anchor(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())
