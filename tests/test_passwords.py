"""No password in a message, a log, a record or a traceback, whatever the address looks like."""

from __future__ import annotations

import json
import logging
import traceback
from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from worker_processes import spec_in

from aspk.cli import main
from aspk.cli.stock import run_optuna
from aspk.errors import AspkError, StudyError
from aspk.spec.study import load_study_file, study_from_dict
from aspk.study.storage import open_storage
from aspk.util.passwords import masked, shown, without_password

# Addresses, right and wrong; the password is written in capitals, nothing else is.
FORMS = """
postgresql+psycopg://me:SECRET@127.0.0.1:1/db
postgresql+psycopg://admin@srv:SECRET@127.0.0.1:1/db
postgresql+psycopg:/postgres:SECRET@127.0.0.1:1/db
postgresql+psycopg:///me:SECRET@127.0.0.1:1/db
postgresql+psycopg//me:SECRET@127.0.0.1:1/db
postgresql+psycopg:me:SECRET@127.0.0.1:1/db
postgres://me:SECRET@127.0.0.1:1/db
post gres://me:SECRET@127.0.0.1:1/db
postgresql+nodriver://me:SECRET@127.0.0.1:1/db
//me:SECRET@127.0.0.1:1/db
me:SECRET@127.0.0.1:1/db
me:SECRET@127.0.0.1
postgresql+psycopg://:SECRET@127.0.0.1:1/db
postgresql+psycopg://me:SECRET
postgresql+psycopg://me:SECRET:1/db
postgresql+psycopg://me%3ASECRET@127.0.0.1:1/db
postgresql+psycopg://me:SECRET@127.0.0.1:1/db.log
me:SECRET@127.0.0.1/study.log
postgresql+psycopg://me@127.0.0.1:1/db?password=SECRET
postgresql+psycopg://me@127.0.0.1:1/db?sslmode=require&pwd=SECRET&port=1
postgresql+psycopg://me@127.0.0.1:1/db?pass=SECRET
postgresql+psycopg://me@127.0.0.1:1/db?passwd=SECRET
postgresql+psycopg://me@127.0.0.1:1/db?sslpassword=SECRET
postgresql+psycopg://me@127.0.0.1:1/db?pass%77ord=SECRET
postgresql+psycopg://me@127.0.0.1:1/db?auth=SECRET
postgresql+psycopg://me@127.0.0.1:1/db?SECRET
postgresql+psycopg://me@127.0.0.1:1/db?connect_timeout=1;password=SECRET
postgresql+psycopg://me@127.0.0.1:1/db&password=SECRET
postgresql+psycopg://me@127.0.0.1:1/db#SECRET
postgresql+psycopg://me@127.0.0.1:1/db:SECRET
postgresql+psycopg://me:a?SECRET@127.0.0.1:1/db
postgresql+psycopg://me:1/2?SECRET@127.0.0.1:1/db
postgresql+psycopg://me:a#SECRET@127.0.0.1:1/db
postgresql+psycopg://me:a@SECRET@127.0.0.1:1/db
postgresql+psycopg://me:a/SECRET@127.0.0.1:1/db
db?password=SECRET
host=127.0.0.1 port=1 password=SECRET
host=127.0.0.1 password = 'x SECRET\\' y' port=1
host=127.0.0.1 password=x SECRET port=1
password=SECRET,host=127.0.0.1
Driver=pg;Server=127.0.0.1;Uid=me;Pwd=SECRET
mssql+pyodbc:///?odbc_connect=Driver%3Dpg%3BPwd%3DSECRET
mysql+pymysql://me:SECRET@127.0.0.1:1/db
sqlite+pysqlcipher://:SECRET@/tmp/nothing.db?cipher=aes
grpc://me:SECRET@127.0.0.1:1
grpc://127.0.0.1:1?token=SECRET
redis://:SECRET@127.0.0.1:1/0
""".strip().splitlines()

# Passwords out of capitals and of whatever delimits the parts of an address.
SECRETS = st.text("QXZ@:/?&=#%+;'\"\\ []", min_size=1, max_size=9).map(lambda text: f"X{text}Q")


def assert_silent(text: str) -> None:
    assert "SECRET" not in text.upper()


@pytest.mark.parametrize("form", FORMS)
def test_no_form_shows_its_password(form):
    assert_silent(masked(form))
    assert "***" in masked(form)
    assert masked(masked(form)) == masked(form)


@given(form=st.sampled_from(FORMS), secret=SECRETS)
@example(form=FORMS[0], secret="X@Q")
@settings(max_examples=600, deadline=None)
def test_no_character_of_a_password_is_shown(form, secret):
    before, _, after = form.partition("SECRET")
    if "@" not in after and "?" not in before:  # what follows one in the password reads as the host
        secret = secret.replace("@", ":")
    for given_as in (secret, quote(secret, safe="")):
        address = form.replace("SECRET", given_as)
        assert not set("QXZ") & set(masked(address)), address
        told = without_password(f"in {address!r}: host {secret!r} is not {given_as}", address)
        assert secret not in told
        assert given_as not in told


@pytest.mark.parametrize(
    "harmless",
    [
        "sqlite:////tmp/a b/study.db",
        "sqlite:///C:/runs/study.db",
        "sqlite:///runs/study.db?mode=ro&uri=true",
        "sqlite://",
        "runs/study.log",
        "/home/me@work/study.log",
        "C:/runs/study.log",
        "journal:runs/study.log",
        "grpc://proxy.example.org:13000",
        "grpc://[::1]:13000",
        "postgresql+psycopg://me@db.example.org:5432/studies",
        "postgresql://admin@srv@db-1,db-2:5433/studies?sslmode=require",
        "postgresql:///studies?host=/var/run/postgresql",
        "host=127.0.0.1 port=5432 dbname=studies user=me",
        "red",
        "",
    ],
)
def test_what_is_harmless_is_shown(harmless):
    assert masked(harmless) == harmless
    assert without_password("could not open red", harmless) == "could not open red"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("postgresql+psycopg://me:s3cr%40t@db:5432/x", "postgresql+psycopg://me:***@db:5432/x"),
        ("mysql://me:a/b@c@db/x", "mysql://me:***@db/x"),
        ("postgresql://me@db/x?password=s&sslmode=allow", "postgresql://me@db/x?password=***&sslmode=allow"),
    ],
)
def test_the_rest_of_an_address_stays_readable(address, expected):
    assert masked(address) == expected


def test_a_drivers_error_is_silent_about_the_pieces_of_a_password():
    address = "postgresql+psycopg://me:SEC@RET%21@h/d"
    error = "failed to resolve 'RET%21@h' or ret!@h; SEC refused"
    assert without_password(error, address) == "failed to resolve '***@h' or ***@h; *** refused"
    assert without_password("cannot", "x://me:a@h") == "cannot"  # a short one only where it stands alone
    assert without_password("of 'a'", "x://me:a@h") == "of '***'"


# ------------------------------------------------------------------ everything that is printed


@pytest.mark.parametrize("form", FORMS)
def test_a_storage_that_cannot_be_opened_shows_no_password(tmp_path, monkeypatch, caplog, form):
    monkeypatch.chdir(tmp_path)
    if not form.startswith("me:") or not form.endswith(".log"):  # that one is the path of a journal
        with caplog.at_level(logging.DEBUG), pytest.raises(StudyError) as refused:
            open_storage(form)
        assert_silent("".join(traceback.format_exception(refused.value)))
        assert refused.value.__context__ is None  # what debuggers and loggers of tracebacks would walk
        assert refused.value.__cause__ is None
    assert_silent(caplog.text)


@pytest.mark.parametrize(
    "line",
    [
        'storage = ["{}"]',
        'storage = {{ url = "{}" }}',
        'storge = "{}"',
        '[train]\nstorage = "{}"',
        '[energy]\nstorage = "{}"',
        '[constraints]\nstorage = "{}"',
        '[evaluation]\nstorage = "{}"',
        '[data]\nname = "digits"\nstorage = "{}"',
        'train = "{}"',
        'storage = "{}',
    ],
)
def test_a_study_file_that_is_wrong_shows_no_password(tmp_path, capsys, line):
    head = 'space = "tiny"\n' if "[data]" in line else 'space = "tiny"\ndata = "digits"\n'
    path = tmp_path / "study.toml"
    path.write_text(head + line.format("postgresql://me:SECRET@h/d"))
    assert main(["report", str(path)]) == 1
    printed = capsys.readouterr()
    assert_silent(printed.out + printed.err)
    assert "study.toml" in printed.err


def test_values_that_are_no_addresses_are_shown_as_they_are():
    value = {"colour": "red", "sizes": [1, 2.5, True, None]}
    assert shown(value) == repr(value)
    assert shown(["me:SECRET@h", {"a": "password=SECRET"}]) == "['***:***@h', {'a': 'password=***'}]"


def test_a_study_records_and_prints_no_password(tmp_path):
    spec = spec_in(tmp_path, storage="postgresql://me:SECRET@db/x")
    assert_silent(json.dumps(spec.to_json()))
    assert_silent(repr(spec))
    with pytest.raises(AspkError) as refused:
        replace(spec, evaluations=0)
    assert_silent(str(refused.value))
    assert study_from_dict({"space": "tiny", "data": "digits", "name": "a", "storage": "b"}).storage == "b"
    assert load_study_file("digits").storage is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["studies", "--storage", "postgresql+psycopg://me:SEC@RET@127.0.0.1:1/x"],
        ["studies", "--storage", "postgres://me:SECRET@h/x"],
        ["ask", "--study-name", "x", "--storage", "nothing:/me:SECRET@h"],
        ["studies", "--storge", "postgresql://me:SECRET@h/x"],
        ["studies", "--storage", "host=127.0.0.1 password=SECRET"],
    ],
)
def test_optunas_command_shows_no_password(capfd, arguments):
    try:
        assert run_optuna(arguments) != 0
    except (StudyError, SystemExit) as refused:
        assert_silent(f"{refused!r} {refused.__context__!r}")
    printed = capfd.readouterr()
    assert_silent(printed.out + printed.err)
    assert "RET@" not in printed.err
