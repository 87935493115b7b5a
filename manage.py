#!/usr/bin/env python3
"""Django's command line for pvelite."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "pvelite.settings")
    from django.core.management import execute_from_command_line

    from pvelite.conf import SettingError

    try:
        execute_from_command_line(sys.argv)
    except SettingError as error:
        sys.exit(f"pvelite: {error}")


if __name__ == "__main__":
    main()
