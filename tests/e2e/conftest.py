"""Fixtures of the browser tests: Debian's Chromium against the product as a user starts it.

``house``         the running product, one for the session (``.url``, ``.home``, ``.qm(…)``, ``.add_iso(…)``)
``own_house``     one for a single test, to be killed and broken at will
``page``          a browser page with ``base_url`` set: ``page.goto("/")``
``operator``      such a page, logged in as the first operator
``log_in``        ``log_in(page, user=…, password=…)``
``screenshot``    ``screenshot("name")`` saves ``test-results/name.png``
``guest_pieces``  paths of the test guest's pieces (kernel, disk, iso, debian_iso, memtest_iso, …)

A page that threw an uncaught JavaScript error or broke the content security policy fails its test.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from house import PASSWORD, ROOT, USER, House
from playwright.sync_api import ConsoleMessage, Page, expect

RESULTS = ROOT / "test-results"
CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder drives a browser."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """Debian's browser, never a downloaded one."""
    return {**browser_type_launch_args, "executable_path": "/usr/bin/chromium", "args": CHROMIUM}


@pytest.fixture(scope="session")
def house() -> Iterator[House]:
    """The product, running; shared by the session."""
    yield from _lived_in()


@pytest.fixture
def own_house() -> Iterator[House]:
    """A product of this test's own."""
    yield from _lived_in()


def _lived_in() -> Iterator[House]:
    building = House()
    try:
        building.start()
        yield building
    finally:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"house-{building.port}.log").write_text(building.words())
        building.close()
    assert building.processes() == [], "the product left processes behind"


@pytest.fixture
def browser_context_args(browser_context_args: dict[str, Any], house: House) -> dict[str, Any]:
    """Pages know the house's address; the window is ui.md's desktop size."""
    return {**browser_context_args, "base_url": house.url, "viewport": {"width": 1440, "height": 900}}


@pytest.fixture
def page(page: Page) -> Iterator[Page]:
    """A page whose uncaught errors and policy violations fail the test."""
    page.set_default_timeout(10_000)
    wrong: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if "Content Security Policy" in message.text:
            wrong.append(message.text)

    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", hear)
    yield page
    assert wrong == [], "the page complained"


@pytest.fixture(scope="session")
def log_in() -> Callable[..., None]:
    """Log a page in through the form."""

    def enter(page: Page, user: str = USER, password: str = PASSWORD) -> None:
        page.goto("/login")
        page.locator("input[name=username]").fill(user)
        page.locator("input[name=password]").fill(password)
        page.get_by_role("button", name=re.compile("log ?in|sign in", re.IGNORECASE)).click()
        expect(page).not_to_have_url(re.compile("/login"))

    return enter


@pytest.fixture
def operator(page: Page, log_in: Callable[..., None]) -> Page:
    """A page of the first operator, logged in."""
    log_in(page)
    return page


@pytest.fixture
def screenshot(page: Page, request: pytest.FixtureRequest) -> Callable[..., Path]:
    """Save what the page shows; the default name is the test's."""

    def take(name: str = "", of: Page | None = None) -> Path:
        RESULTS.mkdir(exist_ok=True)
        target = RESULTS / f"{name or request.node.name}.png"
        (of or page).screenshot(path=target)
        return target

    return take


@pytest.fixture(scope="session")
def guest_pieces() -> dict[str, Path]:
    """The test guest's pieces; see ``tests/guest/build.py``."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/guest/build.py")], stdout=subprocess.PIPE, check=True, timeout=600
    )
    return {name: Path(path) for name, path in json.loads(done.stdout).items()}
