"""A named group of VMs, to hand out rights on them together."""

from __future__ import annotations

from django.core.validators import RegexValidator
from django.db import models

pool_name = RegexValidator(
    r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*){0,2}$",
    "A pool name has letters, digits, dot, hyphen and underscore, in at most three levels parted by '/'.",
)


class Pool(models.Model):
    """PVE's resource pool."""

    name = models.CharField(max_length=100, unique=True, validators=[pool_name])
    comment = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
