"""The rules by what they are about. Each is a function of a :class:`~vms.config.finding.Case`."""
