"""``python -m console``: the console role by itself."""

from __future__ import annotations

import os
import sys

import django

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pvelite.settings")
    django.setup()
    from console.proxy import main

    sys.exit(main(sys.argv[1:]))
