"""A web server for this machine's user: other people's pages in the same browser cannot use it.

A page may make its own name resolve to 127.0.0.1 (DNS rebinding) and then read what this machine serves; the
Host header still carries that name, so only known names are answered. A page may also send a form to
127.0.0.1; the Origin header shows where it comes from.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from aspk.errors import ServerError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_LOGGER = logging.getLogger(__name__)
_READING = ("GET", "HEAD", "OPTIONS")
_MOST_PORTS = 65536


def local_server(application: WSGIApplication, *, host: str, port: int) -> WSGIServer:
    """A server that listens, and answers in threads; a context manager.

    It answers requests to ``localhost``, to loopback addresses and to ``host``; where ``host`` stands for all
    addresses of the machine (``0.0.0.0``, ``::``), to any address and to the machine's name. Requests that
    write must come from its own pages, or from a program that is not a browser.

    Args:
        application: what it serves.
        host: the name or address to listen on.
        port: the port to listen on; 0 takes a free one, see ``server_port``.

    Raises:
        ServerError: it cannot listen on this address and port.
    """
    if not 0 <= port < _MOST_PORTS:
        raise ServerError(f"port {port}: expected 0 (a free one) to {_MOST_PORTS - 1}")
    try:
        (family, *_), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        kind = _Server6 if family == socket.AF_INET6 else _Server
        return make_server(host, port, Guard(application, host=host), kind, _Quiet)
    except (OSError, UnicodeError) as error:  # UnicodeError: no host can have such a name
        reason = getattr(error, "strerror", None) or error
        raise ServerError(
            f"cannot listen on {host!r}, port {port}: {reason}; port 0 takes a free one"
        ) from None


def address_of(server: WSGIServer, host: str) -> str:
    """``http://HOST:PORT`` for a browser on this machine."""
    if _is_everywhere(host):
        host = "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}"


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        _LOGGER.debug(format, *args)


class Guard:
    """A WSGI application behind a check of each request's source, see :func:`local_server`."""

    def __init__(self, application: WSGIApplication, *, host: str) -> None:
        self._application, self._names = application, {"localhost", host.lower()}
        self._everywhere = _is_everywhere(host)
        if self._everywhere:
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, or reject it."""
        named = environ.get("HTTP_HOST", "")
        if not self._is_known(named):
            return _refuse(start_response, "421 Misdirected Request", f"no host {named!r} here")
        if environ["REQUEST_METHOD"] not in _READING and not _is_own(environ, named):
            return _refuse(
                start_response, "403 Forbidden", "only the pages of this server may change anything"
            )
        return self._application(environ, _unframed(start_response))

    def _is_known(self, named: str) -> bool:
        """Whether a Host header names this server."""
        parts = re.fullmatch(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[\w.-]+?)\.?)(?::\d+)?", named.lower())
        if parts is None:
            return False
        name = parts["six"] or parts["name"]
        if name in self._names or name.endswith(".localhost"):
            return True
        address = _address(name)  # no page can use one as its name
        return address is not None and (self._everywhere or address.is_loopback)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _is_everywhere(host: str) -> bool:
    address = _address(host)
    return host == "" or (address is not None and address.is_unspecified)


def _is_own(environ: WSGIEnvironment, named: str) -> bool:
    """Whether a request comes from a page of this server, or from a program that is not a browser."""
    origin = environ.get("HTTP_ORIGIN")
    if origin is None:
        return environ.get("HTTP_SEC_FETCH_SITE", "same-origin") in ("same-origin", "none")
    return origin.lower() in (f"http://{named.lower()}", f"https://{named.lower()}")  # https: behind a proxy


def _refuse(start_response: StartResponse, status: str, reason: str) -> list[bytes]:
    _LOGGER.warning("refused: %s", reason)
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{reason}\n".encode()]


def _unframed(start_response: StartResponse) -> Callable[..., Callable[[bytes], object]]:
    """Forbid other sites, in each response, to show it in a frame, where clicks can be hijacked."""

    def start(status: str, headers: list[tuple[str, str]], *error: object) -> Callable[[bytes], object]:
        return start_response(status, [*headers, ("X-Frame-Options", "SAMEORIGIN")], *error)  # type: ignore[arg-type]  # WSGI hands exc_info on

    return start
