"""The command line: `pugd serve` and the few commands beside it.

Every setting is also an option of the commands that need it. What a command needs of a running pugd it takes from the
data directory, so on the machine itself no key has to be typed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pugd import __version__, config
from pugd.config import Config
from pugd.errors import PugdError

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


@main.group(cls=Commands)
def keys() -> None:
    """List, make and revoke keys."""


@keys.command("list")
@settings("data")
def keys_list(loaded: Config) -> None:
    """Every key, oldest first. Secret ones show their beginning only."""
    from pugd.control import keys as keys_
    from pugd.control import postgres

    with postgres.borrowed(_conninfo(loaded)) as connection:
        found = keys_.list_keys(connection)
    for key in found:
        state = f"revoked {key.revoked_at:%Y-%m-%d}" if key.revoked_at else "in force"
        made = f"{key.created_at:%Y-%m-%d}"
        click.echo(f"{key.id:4}  project {key.project}  {key.kind:12}  {key.shown:40}  made {made}  {state}")


@keys.command("add")
@settings("data")
@click.argument("kind", type=click.Choice(["write", "secret-write", "read"]))
@click.option("--project", default=1, show_default=True, help="The project it opens.")
def keys_add(loaded: Config, kind: str, project: int) -> None:
    """Make a key and print it. A secret one is not to be had again."""
    from pugd.control import keys as keys_
    from pugd.control import postgres

    with postgres.borrowed(_conninfo(loaded)) as connection:
        click.echo(keys_.make(connection, project, kind.replace("-", "_")))


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


def _conninfo(loaded: Config) -> str:
    """How a command connects to Postgres: the server, or the embedded one that a running pugd keeps."""
    from pugd.control.embedded import Embedded
    from pugd.data import DataDirectory

    if loaded.postgres_url:
        return loaded.postgres_url
    directory = DataDirectory(loaded.data)
    return Embedded(directory.postgres).connect_to_running()


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


if __name__ == "__main__":
    run()
