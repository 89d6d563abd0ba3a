"""The dashboard's server: who is answered, over real connections."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from contextlib import contextmanager

import optuna
import pytest

from aspk.cli import main
from aspk.errors import ServerError
from aspk.report.local_server import address_of, local_server

LOOPBACK = "127.0.0.1"


@contextmanager
def serving(application, host=LOOPBACK):
    with local_server(application, host=host, port=0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def ask(port, method="GET", path="/", *, host, body=None, at=LOOPBACK, **headers):
    """Status, headers and body of the answer to a request with exactly these headers."""
    connection = http.client.HTTPConnection(at, port, timeout=10)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in {"Host": host, "Content-Type": "application/json", **headers}.items():
        if value is not None:
            connection.putheader(name.replace("_", "-"), value)
    data = b"" if body is None else json.dumps(body).encode()
    connection.putheader("Content-Length", str(len(data)))
    connection.endheaders(data)
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read().decode()


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


# ------------------------------------------------------------------ names

OWN = ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.8.9.1", "[::1]"]
FOREIGN = ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example@localhost"]
FOREIGN += ["10.0.0.1", "[fe80::1]", "evil.example, localhost", "localhost:80:80", "localhost/", "", None]


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("port_in_name", [True, False])
def test_names_of_this_machine_are_answered(name, port_in_name):
    with serving(hello) as port:
        status, headers, body = ask(port, host=f"{name}:{port}" if port_in_name else name)
    assert (status, body) == (200, "hello")
    assert headers["X-Frame-Options"] == "SAMEORIGIN"


@pytest.mark.parametrize("name", FOREIGN)
def test_other_names_are_not_answered(name, caplog):
    with serving(hello) as port:
        status, _, body = ask(port, host=name)
    assert status == 421
    assert "hello" not in body
    assert "refused: no host" in caplog.text


def test_two_host_headers_are_not_answered():
    with serving(hello) as port, socket.create_connection((LOOPBACK, port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert b" 421 " in connection.recv(1000)


def test_the_host_that_was_asked_for_is_answered(monkeypatch):
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest, **options: resolve(LOOPBACK, *rest, **options)
    )
    monkeypatch.setattr(
        socket.socket, "bind", lambda self, _, bind=socket.socket.bind: bind(self, (LOOPBACK, 0))
    )
    with serving(hello, host="Workstation.lab") as port:
        assert ask(port, host=f"workstation.LAB:{port}")[0] == 200
        assert ask(port, host="evil.example")[0] == 421


def test_a_server_for_all_addresses_knows_them_and_the_machines_name():
    with serving(hello, host="0.0.0.0") as port:
        for name in (*OWN, "10.0.0.1", "[fe80::1]", socket.gethostname()):
            assert ask(port, host=f"{name}:{port}")[0] == 200
        for name in ("evil.example", "localhost.evil.example"):
            assert ask(port, host=name)[0] == 421


def test_a_server_on_ipv6():
    try:
        with serving(hello, host="::1") as port:
            assert ask(port, host=f"[::1]:{port}", at="::1")[0] == 200
            assert ask(port, host="evil.example", at="::1")[0] == 421
    except ServerError:
        pytest.skip("no IPv6 here")


# ------------------------------------------------------------------ writing

PORT = "PORT"  # stands for the server's


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "ODD"])
@pytest.mark.parametrize(
    ("headers", "answered"),
    [
        ({}, True),  # no browser: curl, a script
        ({"Origin": "http://localhost:PORT"}, True),
        ({"Origin": "https://localhost:PORT"}, True),
        ({"Sec_Fetch_Site": "same-origin"}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "http://localhost:1"}, False),  # another program of this machine
        ({"Origin": "http://127.0.0.1:PORT"}, False),  # not what the page was asked for as
        ({"Origin": "http://localhost"}, False),
        ({"Origin": "http://localhost:PORT.evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Origin": "http://[bad"}, False),
        ({"Sec_Fetch_Site": "cross-site"}, False),
        ({"Sec_Fetch_Site": "same-site"}, False),
        ({"Origin": "http://evil.example", "Sec_Fetch_Site": "same-origin"}, False),
    ],
)
def test_only_own_pages_may_write(method, headers, answered):
    with serving(hello) as port:
        sent = {name: value.replace(PORT, str(port)) for name, value in headers.items()}
        status, _, body = ask(port, method, host=f"localhost:{port}", **sent)
    assert (status, body == "hello") == ((200, True) if answered else (403, False))


def test_another_page_cannot_read_make_or_delete_studies(tmp_path):
    """The attack itself, on optuna-dashboard: a rebound name, and a form sent across origins."""
    dashboard = pytest.importorskip("optuna_dashboard")
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'study.db'}")
    optuna.create_study(study_name="mine", storage=storage)
    new = {"study_name": "theirs", "directions": ["minimize"]}
    with serving(dashboard.wsgi(storage)) as port:
        rebound, own = f"evil.example:{port}", f"localhost:{port}"
        for headers in ({}, {"Origin": f"http://{rebound}"}):
            for request in (("GET", "/api/studies"), ("POST", "/api/studies"), ("DELETE", "/api/studies/1")):
                status, _, body = ask(port, *request, host=rebound, body=new, **headers)
                assert status == 421
                assert "mine" not in body
        for request in (("POST", "/api/studies"), ("DELETE", "/api/studies/1")):
            assert ask(port, *request, host=own, body=new, Origin="http://evil.example")[0] == 403
        assert optuna.get_all_study_names(storage) == ["mine"]

        assert "mine" in ask(port, "GET", "/api/studies", host=own)[2]  # the dashboard itself still works
        page = {"Origin": f"http://{own}", "Sec_Fetch_Site": "same-origin"}
        assert ask(port, "POST", "/api/studies", host=own, body=new, **page)[0] == 201
        assert ask(port, "DELETE", "/api/studies/1", host=own, body={}, **page)[0] == 204
    assert optuna.get_all_study_names(storage) == ["theirs"]


# ------------------------------------------------------------------ where to listen


@pytest.mark.parametrize("port", [-1, 65536, 99999, 10**20])
def test_a_port_that_is_none_is_a_clean_error(port):
    with pytest.raises(ServerError, match=r"expected 0 \(a free one\) to 65535"):
        local_server(hello, host=LOOPBACK, port=port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "a..b", "x" * 300, "ä" * 90, "\x00"])
def test_a_host_that_is_not_here_is_a_clean_error(host):
    with pytest.raises(ServerError, match="cannot listen on"):
        local_server(hello, host=host, port=0)


def test_a_port_in_use_is_a_clean_error():
    with local_server(hello, host=LOOPBACK, port=0) as server:
        assert address_of(server, LOOPBACK) == f"http://127.0.0.1:{server.server_port}"
        assert address_of(server, "::1") == f"http://[::1]:{server.server_port}"
        assert address_of(server, "0.0.0.0") == f"http://localhost:{server.server_port}"
        with pytest.raises(ServerError, match="in use; port 0 takes a free one"):
            local_server(hello, host=LOOPBACK, port=server.server_port)


@pytest.mark.parametrize("port", ["99999", "-1", "http"])
def test_the_commands_port_is_checked_before_anything_is_read(port, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["dashboard", "no-such-study", "--port", port])
    assert ended.value.code == 2
    assert "--port" in capsys.readouterr().err
