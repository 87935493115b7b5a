"""The rules of retention as form fields: a number for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms

from vms.config import retention
from vms.schema.option import options_of

KEEPS = tuple(option for option in options_of(retention.Keep) if option.name != "keep-all")


class KeepForm(forms.Form):
    """``keep-last`` to ``keep-yearly``. An empty one keeps nothing by itself; all empty keep all."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for option in KEEPS:
            self.fields[option.attr] = forms.IntegerField(
                required=False,
                min_value=0,
                max_value=retention.MOST,
                label=option.label.removeprefix("Keep "),
            )

    @property
    def keeps(self) -> list[Any]:
        """The fields of retention, bound."""
        return [self[option.attr] for option in KEEPS]

    def keep(self) -> str:
        """``prune-backups`` as the numbers say it; what is no number is left out."""
        given = {option.name: self.cleaned_data.get(option.attr) for option in KEEPS}
        return ",".join(f"{name}={count}" for name, count in given.items() if count)


def numbers_of(text: str) -> Mapping[str, Any]:
    """The fields' values for a ``prune-backups`` text that is fine."""
    keep = retention.parse(text)
    return {option.attr: getattr(keep, option.attr) for option in KEEPS}
