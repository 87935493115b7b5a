"""Django behind a plain WSGI server; :mod:`pvelite.asgi` calls the same application from its thread pool."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pvelite.settings")
application = get_wsgi_application()
