"""The supervisor as a person meets it: one command, real processes, kill -9 at will."""

from __future__ import annotations

import re
import signal
import socket
import sqlite3

import psutil
import pytest
from supervised import ROLES, House, free_port, wait_for


def test_first_start_second_start_and_stop(house: House) -> None:
    first = house.start()
    shown = re.findall(r"user admin, password (\S+)", house.terminal())
    assert len(shown) == 1
    assert len(shown[0]) >= 16
    wait_for("the ready line", lambda: f"http://127.0.0.1:{house.port}/" in house.terminal())
    wait_for("all roles", lambda: set(house.roles()) == ROLES)
    children = list(house.roles().values())
    assert house.stop() < 15
    assert house.process is not None
    assert house.process.returncode == 0
    assert not any(child.is_running() for child in children)
    assert not list((house.home / "run").glob("*.pid"))

    for number in (signal.SIGTERM, signal.SIGINT):
        again = house.start()
        effort = house.effort()
        print(f"first start {first:.2f} s, again {again:.2f} s, of which {effort:.2f} s of work")
        assert effort < 3, "on a machine with nothing else to do this is the time to the first page"
        assert house.stop(number) < 15
    assert len(re.findall("password", house.terminal())) == 1, "the password is shown only once"


def test_every_killed_role_comes_back(house: House) -> None:
    house.start()
    wait_for("all roles", lambda: set(house.roles()) == ROLES)
    before = {name: process.pid for name, process in house.roles().items()}
    for name in before:
        house.roles()[name].kill()
    wait_for(
        "all roles again",
        lambda: {name for name, process in house.roles().items() if process.pid != before[name]} == ROLES,
    )
    assert house.status("/login") == 200, "the listening socket stayed open: no connection was refused"
    for name in ROLES:
        assert f"{name} ended (signal SIGKILL)" in house.terminal()
    assert house.stop() < 15


def test_a_killed_supervisor_leaves_nobody_and_a_new_one_takes_over(house: House) -> None:
    house.start()
    wait_for("all roles", lambda: set(house.roles()) == ROLES)
    orphans = list(house.roles().values())
    house.stop(signal.SIGKILL)
    house.spawn()
    wait_for("the old roles' end", lambda: not any(child.is_running() for child in orphans), 5)
    wait_for("the first page", lambda: house.status("/login") == 200)
    wait_for("all roles", lambda: set(house.roles()) == ROLES)
    assert house.stop() < 15


def test_a_second_one_on_the_same_home_is_refused(house: House) -> None:
    house.start()
    assert house.process is not None
    first, port = house.process, house.port
    house.port = free_port()
    assert house.spawn().wait(20) == 1
    assert f"already runs here as process {first.pid}" in house.terminal()
    house.process, house.port = first, port
    assert house.status("/login") == 200


def test_a_taken_address_is_said(house: House) -> None:
    with socket.create_server(("127.0.0.1", house.port)):
        assert house.spawn().wait(20) == 1
    assert f"cannot listen on 127.0.0.1:{house.port}: Address already in use" in house.terminal()
    assert "Traceback" not in house.terminal()


@pytest.mark.parametrize("arguments", [["--roles", "web,baker"], ["--bind", "nowhere"]])
def test_bad_arguments_are_said(house: House, arguments: list[str]) -> None:
    assert house.spawn(*arguments).wait(20) == 1
    assert re.search(r"baker|nowhere", house.terminal())
    assert "Traceback" not in house.terminal()


def test_a_bad_environment_is_said(house: House) -> None:
    assert house.spawn(PVELITE_ORIGINS="pve.example.org").wait(20) == 1
    assert "PVELITE_ORIGINS has 'pve.example.org'" in house.terminal()
    assert "Traceback" not in house.terminal()


def test_roles_run_apart_and_wait_for_the_web_roles_migrations(house: House) -> None:
    assert house.spawn("--roles", "worker").wait(20) == 1
    assert "Start the web role first" in house.terminal()
    house.start("--roles", "web,redis")
    web = house.process
    assert web is not None
    wait_for("web and redis", lambda: set(house.roles()) == {"web", "redis"})
    other = house.spawn("--roles", "worker,console")
    wait_for("worker and console", lambda: set(house.roles()) == ROLES)
    assert house.stop() < 15
    assert other.returncode == 0
    assert set(house.roles()) == {"web", "redis"}
    house.process = web
    assert house.stop() < 15


def test_the_given_password_is_not_shown_and_reaches_no_role(house: House) -> None:
    house.start(PVELITE_ADMIN_PASSWORD="correct horse battery")
    assert "from PVELITE_ADMIN_PASSWORD" in house.terminal()
    assert "correct horse" not in house.terminal()
    wait_for("all roles", lambda: set(house.roles()) == ROLES)
    for process in house.roles().values():
        assert "PVELITE_ADMIN_PASSWORD" not in process.environ()
        assert "correct horse" not in " ".join(process.cmdline())
    house.stop()


def test_sockets_and_files_are_ours_alone(house: House) -> None:
    house.start()
    run = house.home / "run"
    wait_for("redis", lambda: (run / "redis.sock").exists())
    assert (run / "redis.sock").stat().st_mode & 0o777 == 0o600
    for path in (house.home / "pvelite.sqlite3", house.home / "secret.key", *house.home.glob("log/*")):
        assert path.stat().st_mode & 0o077 == 0, path
    ports = {
        link.laddr.port
        for process in house.roles().values()
        for link in process.net_connections("tcp")
        if link.status == psutil.CONN_LISTEN
    }
    assert ports == {house.port}
    with sqlite3.connect(f"file:{house.home}/pvelite.sqlite3?mode=ro", uri=True) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    house.stop()
