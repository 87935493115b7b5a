"""Django's settings. Everything an operator may change comes from :mod:`pvelite.conf`."""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import django_stubs_ext

from pvelite.conf import conf

django_stubs_ext.monkeypatch()

BASE_DIR = Path(__file__).resolve().parent.parent
CONF = conf()
DEBUG = False


def _secret_key() -> str:
    """The installation's signing key: made once, 0600, never shipped."""
    path = CONF.home / "secret.key"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        pass
    CONF.home.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=CONF.home, prefix=".secret-") as file:  # made 0600
        file.write(secrets.token_urlsafe(48))
        file.flush()
        with suppress(FileExistsError):  # another process of ours was first: one whole key, whoever wins
            os.link(file.name, path)
    return path.read_text().strip()


SECRET_KEY = _secret_key()

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "channels",
    "django_htmx",
    "axes",
    "vms",
    "console",
    "pvelite",
]

MIDDLEWARE = [
    "pvelite.middleware.SecurityHeaders",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "pvelite.urls"
ASGI_APPLICATION = "pvelite.asgi.application"
WSGI_APPLICATION = "pvelite.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "vms.views.shell.shell",
            ],
        },
    }
]


def _database(url: str) -> dict[str, Any]:
    """SQLite under the home, or what ``DATABASE_URL`` names."""
    if not url:
        pragmas = (
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA mmap_size=134217728;"
            "PRAGMA journal_size_limit=27103364; PRAGMA cache_size=-20000;"
        )
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": CONF.home / "pvelite.sqlite3",
            "CONN_MAX_AGE": None,
            "CONN_HEALTH_CHECKS": True,
            "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": pragmas},
        }
    parts = urlsplit(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(parts.hostname or ""),
        "PORT": str(parts.port or ""),
        "OPTIONS": dict(parse_qsl(parts.query)),  # sslmode=require, host=/run/postgresql …
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
    }


DATABASES = {"default": _database(CONF.database_url)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = CONF.redis_url or f"unix://{CONF.redis_socket}"
CHANNEL_LAYERS: dict[str, Any] = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL], "prefix": "pvelite"},
    }
}
# "default" is a process's own; "parcels" carries what no row may hold (vms.tasks.parcel).
CACHES: dict[str, Any] = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "parcels": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "pvelite",
        "OPTIONS": {"serializer": "vms.tasks.parcel.Plain"},
    },
}

AUTHENTICATION_BACKENDS = ["axes.backends.AxesBackend", "django.contrib.auth.backends.ModelBackend"]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = 0.1  # hours: six minutes
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_LOCKOUT_CALLABLE = "vms.views.session.locked_out"
CSRF_FAILURE_VIEW = "vms.views.session.csrf_failure"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "login"

# Loopback, the bind address, and the public origins an operator names: nothing else may ask.
PUBLIC_ORIGINS = list(CONF.public_origins)
ALLOWED_HOSTS = list(CONF.hosts)
CSRF_TRUSTED_ORIGINS = list(CONF.origins)
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = CONF.tls
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
HSTS_SECONDS = 31_536_000 if CONF.tls else 0  # sent by our middleware: behind a proxy no request is "secure"
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "SAMEORIGIN"

LANGUAGE_CODE = "en"
TIME_ZONE = CONF.zone
USE_I18N = False
USE_TZ = True

NPM = BASE_DIR / "node_modules"
STATIC_URL = "static/"
STATICFILES_DIRS: list[Any] = [
    BASE_DIR / "static",
    ("vendor/novnc-1.7.0", NPM / "@novnc" / "novnc"),
    ("vendor/spice-html5-0.2.1", NPM / "@spice-project" / "spice-html5" / "src"),
    ("vendor/uplot-1.6.32", NPM / "uplot" / "dist"),
    ("vendor/xterm-6.0.0/lib", NPM / "@xterm" / "xterm" / "lib"),
    ("vendor/xterm-6.0.0/css", NPM / "@xterm" / "xterm" / "css"),
    ("vendor/xterm-fit-0.11.0", NPM / "@xterm" / "addon-fit" / "lib"),
]
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False
WHITENOISE_MAX_AGE = 3600
WHITENOISE_ALLOW_ALL_ORIGINS = False

DATA_UPLOAD_MAX_MEMORY_SIZE = 2 << 20
FILE_UPLOAD_HANDLERS = ["vms.views.importconf.TextHandler", "vms.views.upload.IsoHandler"]

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["stderr"], "level": CONF.log_level},
    "loggers": {"axes": {"level": "WARNING"}, "qemu.qmp": {"level": "CRITICAL"}},
}
