"""The command line: `pugd serve` and the few commands beside it.

A few settings are options, too, of the commands that need them. What a command needs of a running pugd it takes from
the data directory, so on the machine itself no key has to be typed. Each command imports what it needs when it runs:
`--help`, or a mistyped one, loads no engine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from pugd import __version__, config
from pugd.config import Config
from pugd.errors import PugdError

if TYPE_CHECKING:
    from datetime import timedelta

    from pugd.control.keys import Key, Limits
    from pugd.data import DataDirectory
    from pugd.journal.survey import Survey
    from pugd.model import KeyUsage
    from pugd.quarantine import Quarantined

SERVE_OPTIONS = ("data", "collector", "console", "roles", "collector_name", "log_level")
"""Settings that are options of `serve`. Keys and URLs are not: a command line can be read by everyone."""


class Commands(click.Group):
    """Commands in the order of use, and a hint for one that was mistyped."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """As they were defined."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which was probably meant."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            shown = tuple(n for n, command in self.commands.items() if not command.hidden)
            near = config.nearest(name, shown)
            hint = f"Did you mean `pugd {near}`?" if near else f"Commands: {', '.join(shown)}."
            raise click.UsageError(f"there is no command {name!r}. {hint}", ctx)
        return super().resolve_command(ctx, args)


def settings(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Options for a settings file and for these settings; the command gets the whole `Config`."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(config_file: Path | None, **options: Any) -> Any:
            import os

            given = {name: options.pop(name) for name in names}
            loaded = config.load(
                file=config_file,
                environment=os.environ,
                options={name: value for name, value in given.items() if value is not None},
            )
            return command(loaded, **options)

        wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
        wrapped.__click_params__ = list(getattr(command, "__click_params__", []))  # type: ignore[attr-defined]
        described = {setting.name: setting for setting in config.describe()}
        for name in reversed(names):
            setting = described[name]
            text = f"{setting.description} [{setting.variable}; default: {setting.default or 'none'}]"
            wrapped = click.option(f"--{name.replace('_', '-')}", name, default=None, help=text)(wrapped)
        return click.option(
            "--config",
            "config_file",
            type=click.Path(path_type=Path),
            envvar="PUGD_CONFIG",
            help="Settings file (TOML). The environment and options win over it.",
        )(wrapped)

    return decorate


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="pugd", message="%(prog)s %(version)s")
def main() -> None:
    """One timeline per person: takes events, resolves identity, answers questions."""


def _conninfo(loaded: Config) -> str:
    """How a command connects to Postgres: the server, or the embedded one that a running pugd keeps."""
    from pugd.control.embedded import Embedded
    from pugd.data import DataDirectory

    if loaded.postgres_url:
        return loaded.postgres_url
    directory = DataDirectory(loaded.data)
    return Embedded(directory.postgres).connect_to_running()


@main.command()
@settings(*SERVE_OPTIONS)
def serve(loaded: Config) -> None:
    """Run pugd until Ctrl-C or SIGTERM."""
    from pugd import supervisor

    sys.exit(supervisor.serve(loaded))


@main.command()
@settings("data", "collector", "console")
@click.option("--user-id", default=None, help="Whom the visitor turns out to be; a new one each time by default.")
def demo(loaded: Config, user_id: str | None) -> None:
    """Send the story of one visitor to a running pugd, and show the one timeline."""
    from pugd import demo as story

    story.tell(loaded, user_id)


@main.command()
@settings("data", "console")
def login(loaded: Config) -> None:
    """Print a link that logs a browser in to the console, once."""
    from pugd.control import members, postgres

    with postgres.borrowed(_conninfo(loaded)) as connection:
        token = members.create_login(connection)
    where = config.reachable(config.address(loaded.console))
    click.echo(f"http://{where}/login?token={token}")


# -- keys --------------------------------------------------------------------------------------------------------------


def limits(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options for what a write key may do; the command gets them by name, None where they are not given."""
    options = (
        click.option("--name", default=None, help="What you call it."),
        click.option(
            "--origin",
            "origins",
            multiple=True,
            help="A web page's origin that it may send from, such as https://shop.example or https://*.shop.example; "
            "several times for several. `any`: from all, as is the default.",
        ),
        click.option("--rate", type=click.IntRange(0, 2**31 - 1), help="Events a second at most; 0: no limit."),
        click.option(
            "--burst",
            type=click.IntRange(0, 2**31 - 1),
            help="Events at once after a quiet while; 0: 10 s of the rate.",
        ),
        click.option("--per-day", type=click.IntRange(0, 2**53), help="Events a UTC day at most; 0: no limit."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _limits(now: Limits, origins: tuple[str, ...], rate: int | None, burst: int | None, per_day: int | None) -> Limits:
    """Limits as they are now, with what was given in its place."""
    from pugd.edge import origins as origins_

    allowed = now.origins
    if origins:
        try:
            allowed = () if origins == ("any",) else tuple(dict.fromkeys(map(origins_.normalized, origins)))
        except ValueError as error:
            raise click.UsageError(f"--origin: {error}") from error
        if len(allowed) > origins_.COUNT_MAX:
            raise click.UsageError(f"--origin: at most {origins_.COUNT_MAX}; https://*.shop.example stands for many")
    return type(now)(
        allowed,
        now.rate if rate is None else rate,
        now.burst if burst is None else burst,
        now.per_day if per_day is None else per_day,
    )


def _span(text: str) -> timedelta:
    """`30s`, `15m`, `24h`, `7d`."""
    from datetime import timedelta

    number, unit = text[:-1], text[-1:]
    seconds = {"s": 1, "m": 60, "h": 3600, "d": 86_400}.get(unit)
    if seconds is None or not (number.isascii() and number.isdigit()) or int(number) * seconds > 3650 * 86_400:
        raise click.UsageError(f"--overlap: {text!r} is no time; write it like 30s, 15m, 24h or 7d, at most 3650d")
    return timedelta(seconds=int(number) * seconds)


def _usage(loaded: Config) -> dict[int, KeyUsage]:
    """How much keys were used, as the collector wrote it a few seconds ago; nothing where that cannot be read."""
    from pugd.data import DataDirectory
    from pugd.model import UsageFile

    try:
        return msgspec.json.decode(DataDirectory(loaded.data).usage.read_bytes(), type=UsageFile).keys
    except (OSError, msgspec.MsgspecError):
        return {}


def _told(key: Key, used: KeyUsage | None) -> str:
    """A key's line in the list."""
    import time
    from datetime import UTC, datetime

    state = "in force"
    if key.revoked_at:
        state = f"revoked {key.revoked_at:%Y-%m-%d}"
    elif key.expires_at:
        word = "ended" if key.expires_at <= datetime.now(UTC) else "in force until"
        state = f"{word} {key.expires_at:%Y-%m-%d %H:%M:%S} UTC"
    said = [
        f"{key.id:4}  project {key.project}",
        f"{key.kind:12}",
        f"{key.shown:40}",
        f"made {key.created_at:%Y-%m-%d}",
    ]
    said.append(state)
    given = key.limits
    said += [f"name {key.name!r}"] if key.name else []
    said += [f"from {' '.join(given.origins)}"] if given.origins else []
    said += [f"{given.rate} events/s" + (f" (burst {given.burst})" if given.burst else "")] if given.rate else []
    said += [f"{given.per_day} events/day"] if given.per_day else []
    said += ["signs datagrams"] if key.signing else []
    if used is not None:
        said.append(f"last used {datetime.fromtimestamp(used.last_used / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC")
        if used.day == int(time.time()) // 86_400:
            said.append(f"{used.today} events today")
    return "  ".join(said)


@main.group(cls=Commands)
def keys() -> None:
    """List, make, limit, sign, rotate and revoke keys."""


@keys.command("list")
@settings("data")
def keys_list(loaded: Config) -> None:
    """Every key, oldest first. Secret ones show their beginning only."""
    from pugd.control import keys as keys_
    from pugd.control import postgres

    with postgres.borrowed(_conninfo(loaded)) as connection:
        found = keys_.list_keys(connection)
    used = _usage(loaded)
    for key in found:
        click.echo(_told(key, used.get(key.id)))


@keys.command("add")
@settings("data")
@click.argument("kind", type=click.Choice(["write", "secret-write", "read"]))
@click.option("--project", default=1, show_default=True, help="The project it opens.")
@limits
def keys_add(loaded: Config, kind: str, project: int, name: str | None, **given: Any) -> None:
    """Make a key and print it. A secret one is not to be had again."""
    from pugd.control import keys as keys_
    from pugd.control import postgres

    wanted = _limits(keys_.Limits(), **given)
    if kind == "read" and wanted != keys_.Limits():
        raise click.UsageError("a read key asks and sends nothing: origins and limits are for write keys")
    with postgres.borrowed(_conninfo(loaded)) as connection:
        click.echo(keys_.make(connection, project, kind.replace("-", "_"), name or "", wanted))


@keys.command("limit")
@settings("data")
@click.argument("number", type=int)
@limits
def keys_limit(loaded: Config, number: int, name: str | None, **given: Any) -> None:
    """Change a write key's name, origins or limits, by its number in the list: what is not given stays. It holds within
    seconds."""
    from pugd.control import keys as keys_
    from pugd.control import postgres

    with postgres.borrowed(_conninfo(loaded)) as connection:
        key = keys_.find(connection, number)
        wanted = _limits(key.limits if key is not None else keys_.Limits(), **given)
        if key is not None and key.kind == "read" and wanted != keys_.Limits():
            raise click.UsageError("a read key asks and sends nothing: origins and limits are for write keys")
        if key is None or not keys_.change(connection, number, name=name, limits=wanted):
            raise click.ClickException(f"there is no key {number} in force; `pugd keys list` shows all")
        changed = keys_.find(connection, number)
    assert changed is not None
    click.echo(_told(changed, None))


@keys.command("sign")
@settings("data")
@click.argument("number", type=int)
@click.option("--off", is_flag=True, help="Take its secret away: datagrams need no signature any more.")
def keys_sign(loaded: Config, number: int, off: bool) -> None:
    """Give a public write key, by its number in the list, a new secret and print it: what datagrams say of who somebody
    is must be signed with it from now on. The secret is not to be had again. It holds within seconds."""
    from pugd.control import keys as keys_
    from pugd.control import postgres

    with postgres.borrowed(_conninfo(loaded)) as connection:
        key = keys_.find(connection, number)
        if key is not None and key.kind != "write":
            raise click.UsageError(
                f"key {number} is a {key.kind} key: datagrams are sent, and signed, with public write keys alone"
            )
        secret = keys_.sign(connection, number, off=off)
    if secret is None:
        raise click.ClickException(f"there is no key {number} in force; `pugd keys list` shows all")
    click.echo(secret or f"key {number} signs no datagrams")


@keys.command("rotate")
@settings("data")
@click.argument("number", type=int)
@click.option("--overlap", default="7d", show_default=True, help="How long both open: 30s, 15m, 24h, 7d.")
def keys_rotate(loaded: Config, number: int, overlap: str) -> None:
    """Make a key with the settings of another and print it; the other one stays in force for a while, then ends. If it
    has a signing secret, the new key's own is printed behind the key, on the next line."""
    from pugd.control import keys as keys_
    from pugd.control import postgres

    length = _span(overlap)
    with postgres.borrowed(_conninfo(loaded)) as connection:
        made = keys_.rotate(connection, number, length)
    if made is None:
        raise click.ClickException(f"there is no key {number} in force; `pugd keys list` shows all")
    for secret in filter(None, made):
        click.echo(secret)
    click.echo(f"key {number} opens for {overlap} more", err=True)


@keys.command("revoke")
@settings("data")
@click.argument("number", type=int)
def keys_revoke(loaded: Config, number: int) -> None:
    """Take a key out of force, by its number in the list. It stops working within seconds."""
    from pugd.control import keys as keys_
    from pugd.control import postgres

    with postgres.borrowed(_conninfo(loaded)) as connection:
        done = keys_.revoke(connection, number)
    if not done:
        raise click.ClickException(f"there is no key {number} in force; `pugd keys list` shows all")
    click.echo(f"key {number} is revoked")


# -- projects ----------------------------------------------------------------------------------------------------------


@main.group(cls=Commands, name="projects")
def projects_() -> None:
    """List projects, and give one another time zone."""


@projects_.command("list")
@settings("data")
def projects_list(loaded: Config) -> None:
    """Every project: its number, name and time zone."""
    from pugd.control import postgres, projects

    with postgres.borrowed(_conninfo(loaded)) as connection:
        for project in projects.list_projects(connection):
            click.echo(f"{project.id:>4}  {project.name}  {project.time_zone}")


@projects_.command("zone")
@settings("data")
@click.argument("zone")
@click.option("--project", default=1, show_default=True, help="Whose.")
def projects_zone(loaded: Config, zone: str, project: int) -> None:
    """Have a project's days, weeks and months begin by another time zone, such as Europe/Berlin. It holds within a
    second; nothing that is stored changes."""
    from pugd.control import postgres, projects
    from pugd.question import QuestionError

    try:
        projects.check_zone(zone)
    except QuestionError as error:
        raise click.UsageError(error.message.removeprefix("time_zone: ")) from None
    with postgres.borrowed(_conninfo(loaded)) as connection:
        changed = projects.change_zone(connection, project, zone)
    click.echo(f"project {changed.id} ({changed.name}): {changed.time_zone}")


# -- what was refused, and what could not be stored --------------------------------------------------------------------


@main.command()
@settings("data")
@click.option("--project", default=1, show_default=True, help="Whose; 0: those of unknown keys, which belong to none.")
@click.option("--code", default="", help="Only those refused for this reason.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000))
def refusals(loaded: Config, project: int, code: str, limit: int) -> None:
    """Which events a running pugd refused lately, and why, newest first."""
    from datetime import UTC, datetime

    import trio

    from pugd import commands
    from pugd.data import DataDirectory
    from pugd.refusals import Found

    ask = partial(commands.ask, DataDirectory(loaded.data).collector_socket, "refusals")
    found = msgspec.convert(trio.run(partial(ask, project=project, code=code, limit=limit)), Found)
    click.echo("since the collector started: " + _counts(found.counts).replace("no rows", "none"))
    for one in found.refusals:
        key = f"  key {one.key}" if one.key else ""
        click.echo(
            f"{datetime.fromtimestamp(one.at / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC  {one.code} × {one.count}  "
            f"{one.dialect} {one.path or one.transport}{key}  {one.field or ''}: {one.message}"
        )
        if one.sample:
            click.echo(f"    {one.sample}")


@main.group(cls=Commands, name="quarantine")
def quarantine_() -> None:
    """Rows that ClickHouse refused for their data: look at them, send them again, drop them."""


@quarantine_.command("list")
@settings("data")
def quarantine_list(loaded: Config) -> None:
    """Every row kept: its position, table, and why it was refused."""
    from pugd import quarantine
    from pugd.data import DataDirectory

    for row in quarantine.rows(DataDirectory(loaded.data).quarantine):
        error = " ".join(row.error.split())
        click.echo(f"{row.position:>20}  {row.table or '(no table)':10}  {len(row.raw):>8,} bytes  {error[:160]}")


@quarantine_.command("show")
@settings("data")
@click.argument("position", type=int)
def quarantine_show(loaded: Config, position: int) -> None:
    """One row as JSON: where it came from, the whole error, and its fields by name as far as they can be read."""
    from pugd import quarantine

    shown = quarantine.shown(_quarantined(loaded, position))
    click.echo(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())


@quarantine_.command("replay")
@settings("data")
@click.argument("positions", type=int, nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every row in quarantine.")
def quarantine_replay(loaded: Config, positions: tuple[int, ...], every: bool) -> None:
    """Send rows again, each once, after what stood in their way was mended. Those still refused stay.

    Works beside a running pugd and without one. Exits with 1 where a row stays.
    """
    import trio

    from pugd import quarantine, repair
    from pugd.data import DataDirectory

    directory = DataDirectory(loaded.data)
    chosen = [row.position for row in quarantine.rows(directory.quarantine)] if every else list(positions)
    if not chosen and not every:
        raise click.UsageError("name the rows by their positions (`pugd quarantine list` shows them), or say --all")

    def say(position: int, why: str) -> None:
        click.echo(f"{position}: {'stays: ' + ' '.join(why.split()) if why else 'stored'}")

    stay = trio.run(repair.put_back, loaded, chosen, say) if chosen else 0
    click.echo(f"{len(chosen) - stay} stored, {stay} stay in quarantine")
    sys.exit(1 if stay else 0)


@quarantine_.command("drop")
@settings("data")
@click.argument("positions", type=int, nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
def quarantine_drop(loaded: Config, positions: tuple[int, ...], yes: bool) -> None:
    """Give rows up for good. Where the journal still holds them, `pugd replay` would bring them back here."""
    from pugd import quarantine
    from pugd.data import DataDirectory

    for position in positions:
        _quarantined(loaded, position)
    if not yes:
        click.confirm(f"{len(positions)} rows will be gone for good. Drop them?", abort=True)
    for position in positions:
        if quarantine.drop(DataDirectory(loaded.data).quarantine, position):
            click.echo(f"{position}: dropped")


# -- whether what is kept is whole -------------------------------------------------------------------------------------


@main.group(cls=Commands)
def check() -> None:
    """Look whether what is kept is whole. Exits with 0: it is; 1: it is not; 2: that could not be found out."""


@check.command("journal")
@settings("data")
@click.option("--json", "as_json", is_flag=True, help="All that was found, as JSON.")
def check_journal(loaded: Config, as_json: bool) -> None:
    """Walk every record of every journal file, beside a running pugd or without one."""
    from pugd.data import DataDirectory
    from pugd.errors import JournalError
    from pugd.journal import survey

    directory = DataDirectory(loaded.data)
    try:
        found = _survey(directory)
    except JournalError as error:
        click.echo(f"pugd: {error}", err=True)
        sys.exit(2)
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        for line in survey.lines(found):
            click.echo(line)
    sys.exit(0 if found.whole else 1)


@check.command("identity")
@settings("data")
@click.option("--repair", is_flag=True, help="Make graph and person_of what the link log says.")
def check_identity(loaded: Config, repair: bool) -> None:
    """Who is one person: compare the graph, the link log and person_of. 0: they agree; 1: they differed.

    While pugd runs, it does this itself, beside its work; else this command opens the engine.
    """
    from pugd import keeper as role
    from pugd.identity import agreement

    shown = sys.stderr.isatty()

    def say(progress: str) -> None:
        if shown:
            click.echo(f"\r\x1b[K{progress}", err=True, nl=False)

    try:
        report = role.check_identity(loaded, repair=repair, say=say)
    except PugdError as error:
        say("")
        click.echo(f"pugd: cannot check: {error}", err=True)
        sys.exit(2)
    say("")
    for line in agreement.told(report):
        click.echo(line)
    sys.exit(0 if report.found.agree else 1)


@main.command()
@settings("data")
@click.option("--from", "position", type=click.IntRange(min=0), help="A position of the journal.")
@click.option("--since", help="A time such as 2026-11-24T03:00:00Z: what was received from then on.")
@click.option("--dry-run", is_flag=True, help="Only count what is missing.")
def replay(loaded: Config, position: int | None, since: str | None, dry_run: bool) -> None:
    """Send what the journal still holds and ClickHouse has lost, each row once.

    For a ClickHouse restored from a backup. Without --from or --since, all that the journal holds is compared. Works
    beside a running pugd and without one. Exits with 1 where rows are missing at its end.
    """
    import trio

    from pugd import repair
    from pugd.data import DataDirectory
    from pugd.enrich import clock
    from pugd.journal import survey

    if position is not None and since is not None:
        raise click.UsageError("give --from or --since, not both")
    if position is None:
        found = _survey(DataDirectory(loaded.data))
        since_ms = clock.parse(since) if since is not None else 0
        if since_ms is None:
            raise click.UsageError(f"--since: {since!r} is no time; write it like 2026-11-24T03:00:00Z")
        position = survey.position_at(found, since_ms)
    done = trio.run(partial(repair.replay, loaded, position, dry_run=dry_run, say=click.echo))
    click.echo(f"compared from {position} to {done.end}: {_counts(done.rows)}")
    if not done.missing:
        click.echo("nothing is missing in ClickHouse")
    elif dry_run:
        click.echo(f"missing in ClickHouse: {_counts(done.missing)}")
    else:
        click.echo(f"sent: {_counts(done.missing)}")
        if done.left:
            click.echo(f"still missing, see `pugd quarantine list`: {_counts(done.left)}")
    sys.exit(1 if done.left else 0)


def _counts(rows: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in rows.items()) or "no rows"


def _survey(directory: DataDirectory) -> Survey:
    from pugd.drain import read_stored
    from pugd.journal import survey
    from pugd.journal.reader import flushed_position

    epoch = directory.origin().epoch
    # Read in this order, all that they tell of is on the disk when the files are walked.
    stored, _ = read_stored(directory, epoch)
    return survey.survey(
        directory.journal, epoch=epoch, stored=stored, flushed=flushed_position(directory.flushed, epoch)
    )


def _quarantined(loaded: Config, position: int) -> Quarantined:
    from pugd import quarantine
    from pugd.data import DataDirectory

    directory = DataDirectory(loaded.data).quarantine
    row = quarantine.load(quarantine.path_of(directory, position))
    if row is None:
        raise click.ClickException(f"there is no row {position} in {directory}; `pugd quarantine list` shows all")
    return row


# -- processes ---------------------------------------------------------------------------------------------------------


@main.command(hidden=True)
def collector() -> None:
    """The public process; started by the supervisor."""
    from pugd import collector as role
    from pugd import process

    process.main("collector", role.run)


@main.command(hidden=True)
def keeper() -> None:
    """The private process; started by the supervisor."""
    from pugd import keeper as role
    from pugd import process

    process.main("keeper", role.run)


def run() -> None:
    """The script `pugd`: whatever the world does wrong becomes one line and an exit code."""
    from pugd import process
    from pugd.errors import ConfigError

    try:
        main(prog_name="pugd")
    except ConfigError as error:
        click.echo(f"pugd: {error}", err=True)
        sys.exit(process.EXIT_CONFIG)
    except PugdError as error:
        click.echo(f"pugd: {error}", err=True)
        sys.exit(1)
    except BaseExceptionGroup as group:
        known, others = group.split(PugdError)
        if known is None or others is not None:
            raise
        for reason in process.leaves(known):
            click.echo(f"pugd: {reason}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    run()
