"""The environment's settings: defaults, and errors that name the variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from pvelite.conf import SOCKET_PATH_LIMIT, Conf


def conf(**environ: str) -> Conf:
    return Conf.from_environ({"PVELITE_HOME": "/srv/pv", "PVELITE_NODE": "pve1", **environ})


def test_defaults_are_loopback_and_sqlite() -> None:
    found = conf()
    assert (found.host, found.port) == ("127.0.0.1", 8006)
    assert found.database_url == found.redis_url == ""
    assert found.run_dir == Path("/srv/pv/run")
    assert found.address == "http://127.0.0.1:8006/"
    assert not found.tls
    assert found.spice is None, "no TCP port but our own until an operator names one"
    assert conf(PVELITE_SPICE="[::]:61000").spice == ("::", 61000)


def test_home_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert conf(PVELITE_HOME="here").home == tmp_path / "here"


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("PVELITE_BIND", "8006", "HOST:PORT"),
        ("PVELITE_BIND", "::1:8006", "[::1]:8006"),
        ("PVELITE_BIND", "127.0.0.1:0", "HOST:PORT"),
        ("PVELITE_BIND", "127.0.0.1:65536", "HOST:PORT"),
        ("PVELITE_BIND", "a b:80", "HOST:PORT"),
        ("PVELITE_NODE", "no_underscore", "letters, digits and '-'"),
        ("PVELITE_NODE", "a" * 64, "at most 63"),
        ("PVELITE_NODE", "line\nbreak", "letters, digits and '-'"),
        ("PVELITE_ORIGINS", "pve.example.org", "https://"),
        ("PVELITE_ORIGINS", "https://good.example, https://*.example", "https://*.example"),
        ("PVELITE_ORIGINS", "https://pve.example.org/path", "https://"),
        ("DATABASE_URL", "mysql://user:secret@db/x", "postgres://"),
        ("REDIS_URL", "localhost:6379", "redis://"),
        ("PVELITE_LOG", "LOUD", "DEBUG"),
        ("PVELITE_SPICE", "61000", "0.0.0.0:61000"),
        ("PVELITE_SPICE", "0.0.0.0:8006", "choose another"),
    ],
)
def test_what_cannot_stand_is_named(name: str, value: str, advice: str) -> None:
    with pytest.raises(ValueError, match=name) as caught:
        conf(**{name: value})
    assert advice in str(caught.value)
    assert "secret" not in str(caught.value), "an address may carry a password"


def test_allowed_hosts_never_hold_a_wildcard() -> None:
    for bind in ("0.0.0.0:8006", "[::]:8006", "192.0.2.7:8006"):
        hosts = conf(PVELITE_BIND=bind).hosts
        assert "*" not in hosts
        assert {"127.0.0.1", "localhost", "[::1]"} <= set(hosts)
    assert "192.0.2.7" in hosts


def test_origins_are_ours_alone() -> None:
    found = conf(
        PVELITE_BIND="192.0.2.7:9000", PVELITE_ORIGINS="https://pve.example.org/, http://localhost:9443"
    )
    assert found.public_origins[:2] == ("https://pve.example.org", "http://localhost:9443")
    assert "http://192.0.2.7:9000" in found.public_origins
    assert "http://localhost:9000" in found.public_origins
    assert all(word.startswith(("http://", "https://")) for word in found.public_origins)
    assert not found.tls, "one origin is plain HTTP"
    assert conf(PVELITE_ORIGINS="https://pve.example.org").tls


def test_ipv6_is_bracketed_where_browsers_write_brackets() -> None:
    found = conf(PVELITE_BIND="[2001:db8::5]:8006")
    assert found.host == "2001:db8::5"
    assert "[2001:db8::5]" in found.hosts
    assert "http://[2001:db8::5]:8006" in found.public_origins
    assert found.address == "http://[2001:db8::5]:8006/"


def test_a_long_home_gets_a_short_run_directory() -> None:
    first, second = (conf(PVELITE_HOME=f"/srv/{'x' * 80}/{n}").run_dir for n in "ab")
    assert len(str(first)) <= SOCKET_PATH_LIMIT
    assert first != second
