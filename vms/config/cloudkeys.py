"""The top-level keys of a ``#cloud-config`` that cloud-init's modules read, after its documentation."""

from __future__ import annotations

from collections.abc import Mapping

_WORDS = """
allow_public_ssh_keys ansible apk_repos apt apt_pipelining autoinstall bootcmd byobu_by_default ca_certs
chef chpasswd cloud_config_modules cloud_final_modules cloud_init_modules create_hostname_file datasource
datasource_list debug device_aliases disable_ec2_metadata disable_network_activation disable_root
disable_root_opts disk_setup drivers fan final_message fqdn fs_setup groups growpart grub_dpkg hostname
keyboard landscape locale locale_configfile lxd manage_etc_hosts manage_resolv_conf mcollective merge_how
merge_type migrate mount_default_fields mounts network no_ssh_fingerprints ntp output
package_reboot_if_required package_update package_upgrade packages password phone_home power_state
prefer_fqdn_over_hostname preserve_hostname puppet random_seed reporting resize_rootfs resolv_conf
rh_subscription rpi rsyslog runcmd salt_minion snap spacewalk ssh ssh_authorized_keys ssh_deletekeys
ssh_fp_console_blacklist ssh_genkeytypes ssh_import_id ssh_key_console_blacklist ssh_keys
ssh_publish_hostkeys ssh_pwauth ssh_quiet_keygen swap syslog_fix_perms system_info timezone
ubuntu_advantage ubuntu_pro updates user users vendor_data vendor_data2 version wireguard write_files
yum_repo_dir yum_repos zypper
"""
KNOWN = frozenset(_WORDS.split())

RENAMED: Mapping[str, str] = {
    "ca-certs": "ca_certs", "grub-dpkg": "grub_dpkg", "apt_upgrade": "package_upgrade",
    "apt_update": "package_update", "apt_reboot_if_required": "package_reboot_if_required",
}  # fmt: skip

_LIST, _YES_NO, _TEXT, _MAP = (list, "a list"), (bool, "true or false"), (str, "a text"), (dict, "a mapping")
EXPECTED: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "bootcmd": _LIST, "runcmd": _LIST, "packages": _LIST, "ssh_authorized_keys": _LIST, "mounts": _LIST,
    "ssh_import_id": _LIST, "write_files": _LIST, "fs_setup": _LIST, "ssh_genkeytypes": _LIST,
    "package_update": _YES_NO, "package_upgrade": _YES_NO, "disable_root": _YES_NO,
    "package_reboot_if_required": _YES_NO, "preserve_hostname": _YES_NO, "ssh_deletekeys": _YES_NO,
    "prefer_fqdn_over_hostname": _YES_NO, "hostname": _TEXT, "fqdn": _TEXT, "timezone": _TEXT,
    "password": _TEXT, "final_message": _TEXT, "chpasswd": _MAP, "apt": _MAP, "growpart": _MAP,
    "power_state": _MAP, "disk_setup": _MAP, "ntp": (dict, "a mapping"), "ssh_keys": _MAP, "swap": _MAP,
    "phone_home": _MAP, "users": ((list, dict, str), "a list of users"),
}  # fmt: skip
"""Key → the kinds its value may be of, and the words for them."""
