"""Storage addresses in a form that may be shown: whatever is not known to be harmless is masked.

An address may be mistyped in any way, so no pattern finds every password. These patterns find the opposite,
what is surely not one: known schemes, names of hosts and databases, ports, and the values of known options.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from urllib.parse import quote, unquote, unquote_plus

_MASK = "***"
_Part = tuple[str, bool]  # a piece of an address, and whether it may be shown

_LOCAL = ("sqlite", "journal")  # what follows is a path
_REMOTE = ("postgresql", "postgres", "mysql", "mariadb", "oracle", "mssql", "cockroachdb", "grpc")
_KNOWN = re.compile(rf"(?:{'|'.join((*_LOCAL, *_REMOTE))})(?:\+\w+)?")
_SCHEME = re.compile(r"(?P<name>[^:?@]{2,})(?P<slashes>:/+)(?P<rest>.*)", re.DOTALL)  # one letter: a drive
_USER = re.compile(r"[\w.@-]*")
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[\w.-]*)(?::\d{1,5}(?!\d))?"
_PLACE = re.compile(rf"{_HOST}(?:,{_HOST})*(?:/[\w./-]*)?")
_SECRET_OPTIONS = ("password", "passwd", "pwd", "pass", "sslpassword", "passphrase", "token", "secret")
_OPTIONS = (
    *("host", "hostaddr", "port", "dbname", "database", "user", "username", "connect_timeout", "timeout"),
    *("application_name", "client_encoding", "charset", "keepalives", "target_session_attrs"),
    *("sslmode", "sslcert", "sslkey", "sslrootcert", "ssl_ca", "ssl_cert", "ssl_key", "passfile", "service"),
    *("mode", "cache", "uri", "driver", "unix_socket", "check_same_thread"),
)
_HARMLESS_VALUE = re.compile(r"[\w.,/-]*")
_QUOTED, _UNQUOTED = r"'(?:\\.|[^'\\])*'", r"(?:\\.|[^\s\\'])*"
_KEYWORD = re.compile(rf"(?P<key>\s*\w+\s*=\s*)(?P<value>{_QUOTED}|{_UNQUOTED})(?=\s|$)", re.DOTALL)
_SHORT = 4  # characters; a shorter secret is masked only where it stands alone


def masked(address: str) -> str:
    """An address, correct or mistyped, with ``***`` in place of whatever may be part of a password.

    Args:
        address: a database URL, ``KEY=VALUE`` pairs as libpq takes them, a path, or any other text.
    """
    pieces = ((text, harmless) for text, harmless in _parts(address) if text)
    runs = groupby(pieces, key=itemgetter(1))
    return "".join("".join(text for text, _ in run) if harmless else _MASK for harmless, run in runs)


def without_password(text: str, address: str) -> str:
    """A text, such as a database driver's error, without the parts of an address that :func:`masked` hides.

    Drivers take a mistyped address apart in their own ways, so the pieces of a password are masked as well.
    """
    hidden = [part for part, harmless in _parts(address) if not harmless]
    forms = {form for part in hidden for form in (part, unquote(part), unquote_plus(part), quote(part))}
    forms |= {repr(form)[1:-1] for form in forms}
    pieces = {piece for cut in (r"[@:/?#&]", r"\W+") for form in forms for piece in re.split(cut, form)}
    for form in sorted((forms | pieces) - {""}, key=len, reverse=True):
        pattern = re.escape(form)
        pattern = pattern if len(form) >= _SHORT else rf"(?<!\w){pattern}(?!\w)"
        text = re.sub(pattern, _MASK, text, flags=re.IGNORECASE)
    return text


def shown(value: object) -> str:
    """``repr`` of a plain value from a file, for a message; strings in it are :func:`masked`."""
    return repr(_masked_inside(value))


def _masked_inside(value: object) -> object:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return {key: _masked_inside(item) for key, item in value.items()}
    return [_masked_inside(item) for item in value] if isinstance(value, list) else value


# ---------------------------------------------------------------------- grammar


def _parts(address: str) -> Iterator[_Part]:
    scheme = _SCHEME.fullmatch(address)
    if re.match(r"\s*\w+\s*=", address):
        yield from _keywords(address)
    elif scheme is not None:
        name, slashes, known = scheme["name"], scheme["slashes"], _KNOWN.fullmatch(scheme["name"]) is not None
        yield name, known
        yield slashes, True
        yield from _rest(scheme["rest"], local=name.startswith(_LOCAL), trusted=known and slashes == "://")
    elif re.search(r":.*@|\?.*=", address, re.DOTALL):  # a URL whose beginning is missing
        yield from _rest(address, local=False, trusted=False)
    else:
        yield address, True


def _rest(rest: str, *, local: bool, trusted: bool) -> Iterator[_Part]:
    """``[USER[:PASSWORD]@]HOST[:PORT][/DATABASE][?OPTIONS]``.

    Args:
        rest: the text.
        local: whether it is a path.
        trusted: whether the text in the user's place is a user name.
    """
    body, mark, query = rest.partition("?")
    if "@" in query:  # in an option, or in a password that contains a question mark
        yield rest, False
        return
    login, at, place = body.rpartition("@")
    if at:
        user, colon, password = login.partition(":")
        yield user, trusted and _USER.fullmatch(user) is not None
        yield colon, True
        yield password, False
        yield at, True
    if local and not at:
        yield place, True
    else:
        end = found.end() if (found := _PLACE.match(place)) else 0
        yield place[:end], True
        yield place[end:], False
    yield mark, True
    for number, option in enumerate(query.split("&")):
        yield "&" if number else "", True
        key, equals, value = option.partition("=")
        yield from _option(key + equals, value)


def _keywords(text: str) -> Iterator[_Part]:
    """``KEY=VALUE KEY='VALUE'``; everything after a piece of any other form is hidden."""
    end = 0
    while found := _KEYWORD.match(text, end):
        yield from _option(found["key"], found["value"])
        end = found.end()
    yield text[end:], not text[end:].strip()


def _option(key: str, value: str) -> Iterator[_Part]:
    name = key.strip().removesuffix("=").rstrip()
    yield key, name in _OPTIONS or name in _SECRET_OPTIONS
    yield value, name in _OPTIONS and _HARMLESS_VALUE.fullmatch(value) is not None
