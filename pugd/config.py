"""Every setting of pugd: its name with its unit, its default, its bounds, one line that explains it.

A setting is given on the command line, in the environment (`PUGD_` and its name in capitals) or in a TOML file; the
first of these that names it wins. Nothing unknown is passed over and nothing is bent into range: a wrong setting stops
the start with one line that says which, where it was given, what was given and what is allowed. `describe` gives the
same facts to docs/settings.md, and a test holds the two together.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from pugd.errors import ConfigError

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

ROLES: Final = ("collector", "keeper")
SWITCH: Final = ("on", "off")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
NONE: Final = "none"
"""In the place of a list that is to be empty: an empty variable is one that is not set."""
SECRETS: Final = frozenset({"write_key", "read_key", "clickhouse_url", "postgres_url"})
"""Settings whose value is never printed: keys, and addresses that may hold a password."""


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of one pugd. Made by `load`, which checks what types cannot say."""

    data: Annotated[str, Meta(min_length=1, description="Directory of everything that is kept.")] = "./data"
    collector: Annotated[str, Meta(description="Where events come in, HTTP and UDP, as host:port.")] = "127.0.0.1:7080"
    console: Annotated[str, Meta(description="Where questions, pages and metrics are served, as host:port.")] = (
        "127.0.0.1:7081"
    )
    roles: Annotated[tuple[str, ...], Meta(description="Which processes to run here.")] = ROLES
    collector_name: Annotated[
        str,
        Meta(
            max_length=64,
            pattern=r"^[A-Za-z0-9._-]*$",
            description="Name of this collector, kept with every row; the machine's own name when empty. "
            "Fixed once the data directory is made.",
        ),
    ] = ""
    log_level: Annotated[str, Meta(description="The least severe line that is logged.")] = "info"
    write_key: Annotated[
        str,
        Meta(
            max_length=200,
            description="A write key of the default project; `prv_…` is a secret one. Made by itself when empty.",
        ),
    ] = ""
    read_key: Annotated[
        str,
        Meta(max_length=200, description="A read key of the default project. Made by itself when empty."),
    ] = ""
    clickhouse_url: Annotated[
        str,
        Meta(description="ClickHouse server, as http(s)://user:password@host:port/database; embedded when empty."),
    ] = ""
    postgres_url: Annotated[
        str, Meta(description="Postgres server, as postgresql://user:password@host:port/database; embedded when empty.")
    ] = ""

    places: Annotated[
        str,
        Meta(
            max_length=4_096,
            description="A file that tells the places of addresses, in MaxMind's format (.mmdb); no places when empty.",
        ),
    ] = ""
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(description="Networks of proxies whose `X-Forwarded-For` is believed of places and cookieless visitors."),
    ] = ("127.0.0.0/8", "::1")

    connections_max: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Open connections of the collector; more are told to come back.")
    ] = 16_384
    head_bytes_max: Annotated[
        int, Meta(ge=4 * KIB, le=MIB, description="Request line and headers of one request together.")
    ] = 136 * KIB
    body_bytes_max: Annotated[
        int, Meta(ge=KIB, le=512 * MIB, description="Body of one request, as sent and as unpacked.")
    ] = 32 * MIB
    held_bytes_max: Annotated[
        int, Meta(ge=MIB, le=64 * GIB, description="Requests that have not wholly arrived, all together.")
    ] = 256 * MIB
    head_timeout_s: Annotated[
        float, Meta(ge=0.1, le=3600, description="For the request line and headers to arrive.")
    ] = 10.0
    body_grace_s: Annotated[
        float, Meta(ge=0.1, le=3600, description="For the body to arrive, before its rate is looked at.")
    ] = 10.0
    body_bytes_per_s_min: Annotated[
        float, Meta(ge=0, le=GIB, description="The slowest rate at which a body may then arrive.")
    ] = 1024.0
    idle_timeout_s: Annotated[
        float, Meta(ge=0.1, le=86_400, description="A connection without a request is closed after this.")
    ] = 75.0
    answer_timeout_s: Annotated[
        float, Meta(ge=1, le=3600, description="From a whole request to its answer, and for a client to take it.")
    ] = 30.0
    datagram_buffer_bytes: Annotated[
        int, Meta(ge=64 * KIB, le=GIB, description="Asked of the kernel for datagrams not yet taken.")
    ] = 8 * MIB

    journal_file_bytes_max: Annotated[
        int, Meta(ge=MIB, le=4 * GIB, description="A journal file grows to this, then the next begins.")
    ] = 64 * MIB
    journal_bytes_max: Annotated[
        int, Meta(ge=8 * MIB, le=1 << 50, description="All journal files together; beyond it senders get 503.")
    ] = 8 * GIB
    disk_reserve_bytes: Annotated[
        int, Meta(ge=0, le=1 << 50, description="Kept free on the disk; below it senders get 503.")
    ] = 512 * MIB

    drain_rows_max: Annotated[int, Meta(ge=1, le=1_000_000, description="Rows of one insert into ClickHouse.")] = 65_536
    drain_interval_ms: Annotated[
        int, Meta(ge=0, le=60_000, description="Flushed events wait this long for company, unless a question asks.")
    ] = 500

    ids_per_person_max: Annotated[int, Meta(ge=2, le=4_000, description="Ids that one person may have.")] = 500
    illegal_ids: Annotated[
        tuple[str, ...], Meta(description="Ids that are never linked, beside those that are known to be faults.")
    ] = ()

    cookieless: Annotated[
        str, Meta(description="Whether visitors who gave no consent to ids are counted, each by an id of the day.")
    ] = "on"

    duplicate_window_s: Annotated[
        int, Meta(ge=60, le=30 * 86_400, description="How long the id of an event is remembered in memory.")
    ] = 86_400
    duplicate_bytes_max: Annotated[
        int, Meta(ge=MIB, le=64 * GIB, description="Memory for those ids; beyond it the window shrinks.")
    ] = 256 * MIB

    read_wait_s: Annotated[
        float, Meta(ge=0, le=300, description="A question waits this long for acked events to be stored.")
    ] = 10.0
    question_timeout_s: Annotated[
        float, Meta(ge=0.1, le=3600, description="What one question may take of ClickHouse's time.")
    ] = 60.0
    question_memory_bytes_max: Annotated[
        int, Meta(ge=64 * MIB, le=1 << 40, description="Memory of one question; from half of it on it goes to disk.")
    ] = 4 * GIB
    question_rows_max: Annotated[
        int, Meta(ge=0, le=1 << 50, description="Rows that one question may read; 0 for any number.")
    ] = 0
    question_days_max: Annotated[int, Meta(ge=1, le=100_000, description="Days between from and to of a question.")] = (
        3_660
    )
    questions_per_key_max: Annotated[
        int, Meta(ge=1, le=1_000, description="Questions at once with one read key or login; more get 429.")
    ] = 8
    export_timeout_s: Annotated[
        float, Meta(ge=1, le=86_400, description="What one export may take of ClickHouse's time.")
    ] = 3600.0
    shutdown_timeout_s: Annotated[
        float, Meta(ge=1, le=3600, description="For flushing and draining after SIGTERM; then processes are killed.")
    ] = 30.0

    @property
    def trusted_networks(self) -> tuple[str, ...]:
        """Of `trusted_proxies`, each a network."""
        return () if self.trusted_proxies == (NONE,) else self.trusted_proxies


class Address(Struct, frozen=True):
    """A host and a port, as they are bound."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Setting(Struct, frozen=True):
    """What one setting is, for people."""

    name: str
    variable: str
    default: str
    allowed: str
    description: str


def address(text: str) -> Address:
    """`host:port`, an IPv6 host in brackets. Raises ValueError with what is expected."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    try:
        version = ipaddress.ip_address(host.partition("%")[0]).version if host else 0
    except ValueError:
        version = 0
    named = bool(host) and not any(c in host for c in "[]/: \t\n")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535 or (version == 6) != bracketed:
        raise ValueError("host:port, such as 127.0.0.1:7080 or [::1]:7080, port 0 to 65535")
    if not named and version == 0:
        raise ValueError("host:port, such as 127.0.0.1:7080 or [::1]:7080, port 0 to 65535")
    return Address(host, int(port))


def reachable(where: Address) -> Address:
    """Where a program on the same machine reaches what is bound there."""
    return Address({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(where.host, where.host), where.port)  # noqa: S104


def load(
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    options: Mapping[str, str] | None = None,
) -> Config:
    """Settings from a TOML file, then the environment, then command-line options, each winning over the one before.

    raises  ConfigError: one line naming the setting, where it was given, the value and the allowed range
    """
    values: dict[str, Any] = {}
    where: dict[str, str] = {}
    if file is not None:
        for name, value in _toml(file).items():
            _known(name, f"in {file}")
            values[name], where[name] = value, f"in {file}"
    for variable, text in sorted((environment or {}).items()):
        if variable.startswith("PUGD_") and variable not in RESERVED and not CLUSTER.match(variable):
            name = variable[5:].lower()
            _known(name, f"in the environment as {variable}", given=variable)
            # An empty variable is how shells and unit files say "not set".
            if text != "":
                values[name], where[name] = text, f"in the environment as {variable}"
    for name, text in (options or {}).items():
        assert name in FIELDS, name
        values[name], where[name] = text, f"as --{name.replace('_', '-')}"
    checked = {name: _value(name, value, where[name]) for name, value in values.items()}
    config = Config(**checked)
    if config.journal_bytes_max < 2 * config.journal_file_bytes_max:
        name = "journal_bytes_max" if "journal_bytes_max" in where else "journal_file_bytes_max"
        raise _wrong("journal_bytes_max", config.journal_bytes_max, where[name], "at least 2 × journal_file_bytes_max")
    if config.held_bytes_max < config.body_bytes_max:
        name = "held_bytes_max" if "held_bytes_max" in where else "body_bytes_max"
        raise _wrong("held_bytes_max", config.held_bytes_max, where[name], "at least body_bytes_max")
    return config


def describe() -> list[Setting]:
    """Every setting, in the order of `Config`."""
    return [
        Setting(
            name=field.name,
            variable=variable(field.name),
            default=_shown(field.default),
            allowed=_allowed(field.name),
            description=_meta(field.name).description or "",
        )
        for field in FIELDS.values()
    ]


def table() -> str:
    """Every setting as a table in Markdown: docs/settings.md holds it."""
    lines = ["| setting | variable | default | allowed | what it is |", "| --- | --- | --- | --- | --- |"]
    for one in describe():
        default = f"`{one.default}`" if one.default else ""
        lines.append(f"| `{one.name}` | `{one.variable}` | {default} | {one.allowed} | {one.description} |")
    return "\n".join(lines)


def write_table(path: str) -> None:
    """Put the table into a page, in place of the one that stands there."""
    page = Path(path)
    lines = page.read_text(encoding="utf-8").splitlines()
    rows = [number for number, line in enumerate(lines) if line.startswith("|")]
    lines[rows[0] : rows[-1] + 1] = table().splitlines()
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"PUGD_{name.upper()}"


FIELDS: Final = {field.name: field for field in msgspec.structs.fields(Config)}
RESERVED: Final = frozenset({"PUGD_CONFIG", "PUGD_CHILD", "PUGD_BUILD_VERBOSE"})
"""Variables with our prefix that are no settings: where the file lies; what the supervisor tells its children; how the
native part is built."""
CLUSTER: Final = re.compile(r"PUGD_(SERVICE_(HOST|PORT)|PORT)(_|$)")
"""What Kubernetes puts into every environment beside a service that is called pugd."""


def _toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the settings file {file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the settings file {file} is not TOML: {error}") from error


def _known(name: str, where: str, given: str = "") -> None:
    if name in FIELDS:
        return
    near = nearest(name, FIELDS)
    hint = f"; did you mean {variable(near) if given else near}?" if near else "; docs/settings.md lists all"
    raise ConfigError(f"unknown setting {given or name} {where}{hint}")


def nearest(word: str, known: Mapping[str, object] | tuple[str, ...]) -> str | None:
    """The known word that a mistyped one was probably meant to be."""
    import difflib

    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def _value(name: str, value: Any, where: str) -> Any:
    """One value, checked; text is read as the setting's type."""
    kind = FIELDS[name].type
    if _plain(name) in (int, float) and isinstance(value, bool):
        raise _wrong(name, value, where, _allowed(name))
    if _plain(name) not in (int, float, str):
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        strict = True
    else:
        strict = not isinstance(value, str) or _plain(name) is str
    try:
        checked = msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise _wrong(name, value, where, _allowed(name)) from error
    if checked != checked or not _holds(name, checked):  # NaN differs from itself
        raise _wrong(name, value, where, _allowed(name))
    return checked


def _holds(name: str, value: Any) -> bool:
    """What types cannot say."""
    match name:
        case "collector" | "console":
            try:
                address(value)
            except ValueError:
                return False
        case "roles":
            return len(value) > 0 and set(value) <= set(ROLES) and len(set(value)) == len(value)
        case "log_level":
            return value in LOG_LEVELS
        case "cookieless":
            return value in SWITCH
        case "clickhouse_url":
            return value == "" or _is_url(value, ("http", "https"))
        case "postgres_url":
            return value == "" or _is_url(value, ("postgresql", "postgres"))
        case "trusted_proxies":
            return value == (NONE,) or all(map(_is_network, value))
        case "places":
            return "\0" not in value
        case "write_key" | "read_key":
            return value == "" or (value.isprintable() and not any(c.isspace() for c in value))
        case _:
            pass
    return True


def _is_network(value: str) -> bool:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        return False
    return True


def _is_url(value: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.netloc or parts.query)


def _wrong(name: str, value: Any, where: str, allowed: str) -> ConfigError:
    shown = "(hidden)" if name in SECRETS else f"{value!r}"
    return ConfigError(f"setting {name}, given {where}, is {shown}; allowed: {allowed}")


def _meta(name: str) -> Meta:
    (meta,) = (extra for extra in FIELDS[name].type.__metadata__ if isinstance(extra, Meta))
    assert isinstance(meta, Meta)
    return meta


def _plain(name: str) -> Any:
    return FIELDS[name].type.__origin__


def _allowed(name: str) -> str:
    meta = _meta(name)
    match name:
        case "collector" | "console":
            return "host:port, such as 127.0.0.1:7080 or [::1]:7080, port 0 to 65535"
        case "roles":
            return "collector,keeper or one of them"
        case "log_level":
            return ", ".join(LOG_LEVELS)
        case "cookieless":
            return ", ".join(SWITCH)
        case "clickhouse_url":
            return "http://… or https://…"
        case "postgres_url":
            return "postgresql://…"
        case "write_key" | "read_key":
            return f"up to {meta.max_length} printable characters without spaces"
        case "collector_name":
            return f"up to {meta.max_length} letters, digits, dots, dashes and underscores"
        case "data" | "places":
            return "a path"
        case "trusted_proxies":
            return f"networks, separated by commas, such as 127.0.0.0/8,10.0.0.0/8,2001:db8::/32; or {NONE}"
        case "illegal_ids":
            return "ids, separated by commas"
        case _:
            word = "a whole number" if _plain(name) is int else "a number"
            return f"{word} from {_number(meta.ge)} to {_number(meta.le)}"


def _number(value: Any) -> str:
    """A bound or a default as people write it: sizes in their unit, exact."""
    for size, unit in ((1 << 50, "PiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if isinstance(value, int) and value >= size and value % size == 0:
            return f"{value} ({value // size} {unit})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _shown(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(default)
    return default if isinstance(default, str) else _number(default)
