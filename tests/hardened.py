"""Run a command under the restrictions of systemd/pugd.service, by hand: where no systemd runs, the same kernel does.

`python tests/hardened.py UNIT STATE COMMAND…` as root: reads the unit, and of what it says applies ProtectSystem=strict
(everything read-only but STATE, which becomes /var/lib/pugd), ProtectHome, PrivateTmp, PrivateDevices, ProtectProc,
ProtectKernelTunables, ProtectControlGroups, User (an account that exists only in there), NoNewPrivileges, an empty
CapabilityBoundingSet, RestrictAddressFamilies, RestrictNamespaces, SystemCallFilter, UMask and Environment. Anything in
the unit that begins with Restrict, Protect or Private and is not known here stops it: the test must not fall behind.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
PUGD_UID = 64_987
APPLIED = {
    *("ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "ProtectProc", "ProtectKernelTunables"),
    *("ProtectControlGroups", "RestrictAddressFamilies", "RestrictNamespaces"),
}
FOLLOW_FROM_NO_CAPABILITIES = {
    *("ProtectClock", "ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules"),
    *("RestrictRealtime", "RestrictSUIDSGID"),
}
"""What they forbid needs a capability, or is a call that the filter leaves out."""
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[os.uname().machine]
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97
CLONE_NEW = 0x7E020080 | 0x10000000
LOAD, JUMP_EQUAL, JUMP_SET, RETURN = 0x20, 0x15, 0x45, 0x06


def settings(unit: Path) -> dict[str, list[str]]:
    """Name → values of the [Service] section."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().partition("[Service]")[2].partition("\n[")[0].splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def call_numbers() -> dict[str, int]:
    """System call → its number here, from the kernel's headers."""
    text = subprocess.run(
        ["cc", "-E", "-dM", "-"], input="#include <asm/unistd.h>\n", capture_output=True, text=True, check=True
    ).stdout
    return {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)$", text, re.MULTILINE)}


def call_set(name: str) -> set[str]:
    """The calls in one of systemd's sets (`@system-service`), sets within it included."""
    shown = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
    calls: set[str] = set()
    for line in shown.stdout.splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            calls |= call_set(word)
        elif word and not word.startswith("#"):
            calls.add(word)
    return calls


def program(unit: dict[str, list[str]]) -> bytes:
    """The filter, as the kernel runs it."""
    numbers = call_numbers()
    allowed: set[str] = set()
    for value in unit["SystemCallFilter"]:
        names = set().union(*(call_set(word.lstrip("~")) for word in value.split()))
        allowed = allowed - names if value.startswith("~") else allowed | names
    code: list[tuple[int, int, int, int]] = [
        (LOAD, 0, 0, 4),
        (JUMP_EQUAL, 1, 0, AUDIT_ARCH),
        (RETURN, 0, 0, ERRNO | EPERM),
        (LOAD, 0, 0, 0),
    ]
    families = [FAMILIES[word] for value in unit["RestrictAddressFamilies"] for word in value.split()]
    tests = [(JUMP_EQUAL, len(families) - index, 0, family) for index, family in enumerate(families)]
    code += _when(numbers["socket"], [(LOAD, 0, 0, 16), *tests, (RETURN, 0, 0, ERRNO | EAFNOSUPPORT)])
    refuse_namespace = [(LOAD, 0, 0, 16), (JUMP_SET, 0, 1, CLONE_NEW), (RETURN, 0, 0, ERRNO | EPERM)]
    for name in ("clone", "unshare", "setns"):
        if name in numbers:
            code += _when(numbers[name], refuse_namespace)
    code += _when(numbers["clone3"], [(RETURN, 0, 0, ERRNO | ENOSYS)])
    for number in sorted(numbers[name] for name in allowed if name in numbers):
        code += [(JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    code.append((RETURN, 0, 0, ERRNO | EPERM))
    return b"".join(struct.pack("HBBI", *one) for one in code)


def _when(number: int, then: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """`then` for one call; whatever it lets through goes on with the call's number loaded."""
    return [(JUMP_EQUAL, 0, len(then) + 1, number), *then, (LOAD, 0, 0, 0)]


def enter(unit: dict[str, list[str]], state: str) -> None:
    """The file systems, in a mount namespace of our own."""
    unknown = {
        name for name in unit if re.match("Protect|Private|Restrict", name) and name != "RestartPreventExitStatus"
    }
    unknown -= APPLIED | FOLLOW_FROM_NO_CAPABILITIES
    assert not unknown, f"hardened.py does not know {sorted(unknown)}"
    assert LIBC.unshare(0x00020000) == 0, os.strerror(ctypes.get_errno())
    place = Path("/var/lib/pugd")
    place.mkdir(exist_ok=True)
    passwd = Path(state) / ".passwd"
    passwd.write_text(
        Path("/etc/passwd").read_text() + f"pugd:x:{PUGD_UID}:{PUGD_UID}::/var/lib/pugd:/usr/sbin/nologin\n"
    )
    passwd.chmod(0o644)
    os.chown(state, PUGD_UID, PUGD_UID)
    os.chmod(state, 0o700)
    script = f"""
        set -e
        mount --make-rprivate /
        mount --bind {passwd} /etc/passwd
        mount --bind {state} {place}
        mount -t tmpfs -o mode=1777 tmpfs /tmp
        for home in /home /root /run/user; do [ ! -d $home ] || mount -t tmpfs -o ro,mode=000 tmpfs $home; done
        mkdir /tmp/dev && mount -t tmpfs -o mode=755 tmpfs /tmp/dev
        for node in null zero full random urandom tty; do
            touch /tmp/dev/$node
            mount --bind /dev/$node /tmp/dev/$node
        done
        mkdir /tmp/dev/shm && mount -t tmpfs -o mode=1777 tmpfs /tmp/dev/shm
        for fd in fd stdin stdout stderr; do cp -P /dev/$fd /tmp/dev/; done
        mount --rbind /tmp/dev /dev && mount -o remount,bind,ro /dev
        mount -t proc -o hidepid=invisible proc /proc && mount --bind /proc/sys /proc/sys
        mount -o remount,bind,ro /proc/sys
        mount -o remount,bind,ro /sys
        [ ! -d /sys/fs/cgroup ] || mount -o remount,bind,ro /sys/fs/cgroup 2>/dev/null || true
        mount -o remount,bind,ro /
    """
    subprocess.run(["/bin/sh", "-c", script], check=True)


def confine(unit: dict[str, list[str]]) -> None:
    """The rights of this process and of all it starts."""
    code = program(unit)
    os.umask(int(unit["UMask"][0], 8))
    for capability in range(64):
        LIBC.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; fails beyond the last there is
    os.setgroups([])
    os.setresgid(PUGD_UID, PUGD_UID, PUGD_UID)
    os.setresuid(PUGD_UID, PUGD_UID, PUGD_UID)
    assert LIBC.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_ = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    assert LIBC.prctl(22, 2, ctypes.c_char_p(filter_), 0, 0) == 0, os.strerror(ctypes.get_errno())  # PR_SET_SECCOMP


def main() -> None:
    """Become the command, restricted."""
    unit = settings(Path(sys.argv[1]))
    state = str(Path(sys.argv[2]).resolve())
    enter(unit, state)
    confine(unit)
    os.chdir("/var/lib/pugd")
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "STATE_DIRECTORY": "/var/lib/pugd"}
    environment |= {name: value for name, value in os.environ.items() if name.startswith(("PUGD_", "PYTHON"))}
    for value in unit.get("Environment", []):
        environment |= dict(pair.split("=", 1) for pair in value.split())
    os.execvpe(sys.argv[3], sys.argv[3:], environment)


if __name__ == "__main__":
    main()
