"""Bodies of requests in the forms that other services take: JSON, a form in the body, or fields of the address."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from starlette.requests import Request

from lingraft.serving.origins import ANY
from lingraft.serving.request import MAX_MEMBERS, ApiError, members

JSON, FORM, PARTS = "application/json", "application/x-www-form-urlencoded", "multipart/form-data"
EXTENSIONS = ("moz-extension://", "chrome-extension://", "safari-web-extension://")
"""Origins of a browser's extensions, which the user has installed; no page has one."""


_DISPOSITION = re.compile(r"^content-disposition:(.*)$", re.IGNORECASE | re.MULTILINE)
_PARAMETER = re.compile(r';\s*([^\s=;"]{1,20})\s*=\s*(?:"((?:[^"\\]|\\.)*)(?:"|\Z)|([^\s;]*))')
"""Of a head: a value between quotes, which end with it at the latest, or up to a space."""


@dataclass(frozen=True)
class Upload:
    """A file of a form: its name, without folders, and what is in it."""

    name: str
    data: bytes


class Fields:
    """The fields of a request, however they were sent. What a form has several times is a list.

    Args:
        values: by name.
        strict: whether they are JSON, whose values have types.
    """

    def __init__(self, values: Mapping[str, Any], strict: bool) -> None:
        self._values, self._strict = values, strict

    def __contains__(self, name: str) -> bool:
        found = self._values.get(name)
        return found is not None and found != "" and found != []

    def raw(self, name: str) -> Any:
        """Return a field as it was sent; None where it was not."""
        return self._values.get(name)

    def _one(self, name: str) -> Any:
        """Return a field, of a form that has it several times the last one."""
        found = self._values.get(name)
        return found[-1] if isinstance(found, list) and found and not self._strict else found

    def text(self, name: str, default: str = "", most: int = 200) -> str:
        """Return a short text.

        Raises:
            ApiError: it is none.
        """
        found = self._one(name)
        if found is None:
            return default
        if not isinstance(found, str) or len(found) > most:
            raise ApiError(400, f"{name}: give a text of at most {most:,} characters", param=name)
        return found

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a text, or a list of texts, as several.

        Raises:
            ApiError: it is neither.
        """
        found = self._values.get(name)
        given = found if isinstance(found, list) else [] if found is None else [found]
        if not all(isinstance(one, str) for one in given):
            raise ApiError(400, f"{name}: give a text, or a list of texts", param=name)
        return tuple(given)

    def flag(self, name: str, default: bool = False) -> bool:
        """Return whether a field says yes.

        Raises:
            ApiError: it says neither yes nor no.
        """
        found = self._one(name)
        if found is None or found == "":
            return default
        if isinstance(found, bool | int) and found in (0, 1):
            return bool(found)
        if isinstance(found, str) and found.lower() in ("true", "false", "1", "0", "yes", "no"):
            return found.lower() in ("true", "1", "yes")
        raise ApiError(400, f"{name}: give true or false", param=name)

    def number(self, name: str, most: int) -> int:
        """Return a number from 0 on; 0 where there is none.

        Raises:
            ApiError: it is no such number.
        """
        found = self._one(name)
        if found is None or found == "":
            return 0
        if isinstance(found, str) and found.isdecimal() and len(found) < 10:
            found = int(found)
        if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found <= most:
            raise ApiError(400, f"{name}: give a number from 0 to {most}", param=name)
        return found

    def part(self, name: str, known: Collection[str]) -> Fields:
        """Return the fields of an object, and those whose names begin with its name and a dot.

        Args:
            name: of the object.
            known: fields that it may have.

        Raises:
            ApiError: it is no object, or has another field.
        """
        begin, found = f"{name}.", self._values.get(name)
        if found is not None and not isinstance(found, dict):
            raise ApiError(400, f"{name}: give an object", param=name)
        flat = {key.removeprefix(begin): one for key, one in self._values.items() if key.startswith(begin)}
        fields = {**flat, **(found or {})}
        if unknown := next((key for key in fields if key not in known), None):
            place = f"{begin}{unknown[:80]}"
            raise ApiError(400, f"{place}: there is no such field; known: {', '.join(sorted(known))}", param=place)
        return Fields(fields, self._strict)


def check_origin(request: Request, allowed: Collection[str] = ()) -> None:
    """Refuse what a page of another origin sends: a form needs no leave to be sent, as JSON does.

    Args:
        request: its headers.
        allowed: origins that may, or "*".

    Raises:
        ApiError: it comes from such a page.
    """
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    elsewhere = request.headers.get("sec-fetch-site", "") in ("cross-site", "same-site")
    own = origin is not None and origin in (f"http://{host}", f"https://{host}")
    extension = origin is not None and origin.startswith(EXTENSIONS)
    named = origin is not None and (origin in allowed or ANY in allowed)
    if not (own or extension or named) and (origin is not None or elsewhere):
        raise ApiError(403, "pages of other origins cannot use this server", code="other_origin")


def read_fields(request: Request, data: bytes, *, alike: Sequence[str] = (), origins: Collection[str] = ()) -> Fields:
    """Return the fields of a request.

    Args:
        request: its headers and address.
        data: its body.
        alike: further content types that are read as JSON.
        origins: of pages elsewhere that may send forms.

    Raises:
        ApiError: it is neither JSON nor a form, or has very many fields.
    """
    head, kind = _content_type(request)
    if kind == JSON or kind in alike:
        if members(data) > MAX_MEMBERS:
            raise ApiError(400, f"the body: more than {MAX_MEMBERS:,} lists, objects and fields")
        try:
            found = json.loads(data)
            json.dumps(found, ensure_ascii=False).encode("utf-8")  # no half of a pair of UTF-16
        except (ValueError, RecursionError) as error:
            raise ApiError(400, "the body is no JSON") from error
        if not isinstance(found, dict):
            raise ApiError(400, "the body is no JSON object")
        return Fields(found, True)
    check_origin(request, origins)
    pairs = _parsed(request.scope["query_string"])
    if kind == FORM:
        pairs += _parsed(data)
    elif kind == PARTS:
        pairs += _parts(head, data)
    elif data:
        raise ApiError(415, f"send JSON or a form: `Content-Type: {JSON}`, {FORM} or {PARTS}")
    return _fields(pairs)


def read_upload(request: Request, data: bytes, *, origins: Collection[str] = ()) -> tuple[Fields, Upload]:
    """Return the fields of a form in parts, and the file in its field `file`.

    Args:
        request: its headers and address.
        data: its body.
        origins: of pages elsewhere that may send forms.

    Raises:
        ApiError: it is no such form, or has no file.
    """
    check_origin(request, origins)
    head, kind = _content_type(request)
    if kind != PARTS:
        raise ApiError(415, f"send the file in a form: `Content-Type: {PARTS}`")
    files, pairs = list[Upload](), list[tuple[str, str]]()
    for name, file, content in _split(head, data):
        if file is None:
            pairs.append((name, _as_text(name, content)))
        elif name == "file":
            files.append(Upload(file, content))
    if len(files) != 1:
        raise ApiError(400, f"the form has {len(files)} files; send one, as `file`", param="file")
    if not files[0].data.strip():
        raise ApiError(400, "the file is empty", param="file")
    return _fields([*_parsed(request.scope["query_string"]), *pairs]), files[0]


def _content_type(request: Request) -> tuple[str, str]:
    head = request.headers.get("content-type", "")
    return head, head.partition(";")[0].strip().lower()


def _fields(pairs: Sequence[tuple[str, str]]) -> Fields:
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name.removesuffix("[]"), []).append(value)
    return Fields({name: one[0] if len(one) == 1 else one for name, one in values.items()}, False)


def _parsed(data: bytes) -> list[tuple[str, str]]:
    try:
        form = data.decode("utf-8")
        return parse_qsl(form, keep_blank_values=True, errors="strict", max_num_fields=MAX_MEMBERS // 4)
    except ValueError as error:
        raise ApiError(400, "the form cannot be read: it has too many fields, or is no UTF-8") from error


def _parts(head: str, data: bytes) -> list[tuple[str, str]]:
    """Return the fields of a form in parts; files are none."""
    return [(name, _as_text(name, content)) for name, file, content in _split(head, data) if file is None]


def _as_text(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ApiError(400, f"the form's field {name[:50]} is no UTF-8", param=name[:50]) from error


def _split(head: str, data: bytes) -> Iterator[tuple[str, str | None, bytes]]:
    """Yield the parts of a form (RFC 7578): the field's name, that of its file where it is one, and the content."""
    boundary = next((one.strip()[9:] for one in head.split(";") if one.strip().lower().startswith("boundary=")), "")
    mark = b"--" + boundary.strip('"').encode("latin-1", "replace")
    if len(mark) < 3 or len(mark) > 80 or data.count(mark) > MAX_MEMBERS // 4:
        raise ApiError(400, "the form cannot be read: it has no boundary, or too many parts")
    for part in data.split(mark)[1:]:
        headers, blank, content = part.partition(b"\r\n\r\n")
        if not blank:
            continue  # the end
        given = _parameters(headers[:4096].decode("utf-8", "replace"))
        if "name" not in given:
            continue
        name, file = given["name"], given.get("filename")
        # Some clients send the whole path, of one system or another.
        shown = None if file is None else re.split(r"[\\/]", file)[-1]
        yield name, shown, content.removesuffix(b"\r\n")


def _parameters(headers: str) -> dict[str, str]:
    """Return what the head of a part says of it, by names in small letters; `filename*` (RFC 6266) counts before
    `filename`, in whose place some clients send it alone."""
    said = _DISPOSITION.search(headers)
    found: dict[str, str] = {}
    for name, quoted, bare in _PARAMETER.findall(said[1] if said else ""):
        found.setdefault(name.lower(), quoted.replace('\\"', '"') or bare)
    charset, _, rest = found.get("filename*", "").partition("'")
    if charset:
        latin = charset.lower() == "iso-8859-1"  # the other one that a client may use (RFC 5987)
        found["filename"] = unquote(rest.partition("'")[2], "iso-8859-1" if latin else "utf-8")
    return found
