"""Run a program as root without it being root: Postgres refuses to be.

`python unroot.py PROGRAM ARGUMENTS…` enters a user namespace in which the caller is `nobody`, and becomes PROGRAM. To
the kernel outside, the program is still the caller: it owns the caller's files and passes through the caller's
directories, so no account has to be made and no permission widened. Inside, it has no privileges. Exits with code 99
where namespaces are not allowed.

Runs as a file of its own in a fresh interpreter, since a process with threads cannot do this. Imports nothing of ours.
"""

import ctypes
import os
import sys

CLONE_NEWUSER = 0x10000000
NOBODY = 65534
EXIT_NOT_ALLOWED = 99


def main() -> None:
    """Enter the namespace and become the program."""
    user, group = os.geteuid(), os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER) != 0:
        sys.exit(EXIT_NOT_ALLOWED)
    try:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{NOBODY} {user} 1"),
            ("gid_map", f"{NOBODY} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    except OSError:
        sys.exit(EXIT_NOT_ALLOWED)
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606


if __name__ == "__main__":
    main()
