"""Every kind of response carries the security headers: pages, errors, refusals, static files."""

from __future__ import annotations

import pytest
from django.test import Client, override_settings
from django.urls import path

from pvelite import urls
from pvelite.middleware import CONTENT_SECURITY_POLICY, HEADERS

pytestmark = pytest.mark.django_db


def broken(request: object) -> None:
    raise RuntimeError("on purpose")


urlpatterns = [*urls.urlpatterns, path("broken-on-purpose", broken)]
"""The site's own addresses and one that fails, for ``ROOT_URLCONF``."""


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/login", 200),
        ("/", 302),
        ("/no-such-page", 404),
        ("/admin/", 302),
        ("/admin/login/", 200),
        ("/broken-on-purpose", 500),
        ("/static/vendor/novnc-1.7.0/core/rfb.js", 200),
        ("/static/admin/css/base.css", 200),
        ("/static/no-such.js", 404),
    ],
)
@override_settings(ROOT_URLCONF=__name__)
def test_get(address: str, status: int) -> None:
    response = Client(raise_request_exception=False).get(address)
    assert response.status_code == status
    for name, value in HEADERS.items():
        assert response.headers[name] == value
    assert "Strict-Transport-Security" not in response.headers
    assert response.headers.get("X-Frame-Options", "SAMEORIGIN") == "SAMEORIGIN"
    assert "Access-Control-Allow-Origin" not in response.headers


def test_a_refused_post_carries_them() -> None:
    response = Client(enforce_csrf_checks=True).post("/login", {"username": "admin"})
    assert response.status_code == 403
    assert response.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY


def test_a_foreign_host_name_is_refused() -> None:
    response = Client().get("/login", headers={"host": "evil.example"})
    assert response.status_code == 400
    assert response.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY


@override_settings(HSTS_SECONDS=31_536_000)
def test_hsts_where_browsers_come_by_tls() -> None:
    assert Client().get("/login").headers["Strict-Transport-Security"] == "max-age=31536000"


def test_the_policy_allows_nothing_inline() -> None:
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    for part in ("default-src 'self'", "frame-ancestors 'self'", "base-uri 'none'", "object-src 'none'"):
        assert part in CONTENT_SECURITY_POLICY.split("; ")
