"""Projects, keys, logins and the file of keys, against a real Postgres."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import msgspec
import psycopg
import pytest
import trio

from pugd.config import Config
from pugd.control import control, keys, members, postgres, projects
from pugd.control.control import Control, Remembered
from pugd.control.embedded import Embedded
from pugd.control.keys import Limits
from pugd.control.postgres import Connection, Postgres
from pugd.data import DataDirectory
from pugd.errors import ControlError
from pugd.model import KeyFile, Project, WriteKey
from pugd.question import QuestionError


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="pugd-test-") as made:
        embedded = Embedded(Path(made) / "postgres")
        yield embedded.start()
        embedded.stop()


@pytest.fixture
def conninfo(server: str) -> str:
    """An empty database of its own."""
    with postgres.connect(server) as connection:
        connection.execute("drop database if exists fresh with (force)")
        connection.execute("create database fresh")
    return f"{server} dbname=fresh"


@pytest.fixture
def connection(conninfo: str) -> Iterator[Connection]:
    with postgres.connect(conninfo) as opened:
        with opened.transaction():
            postgres.migrate(opened)
        yield opened


def test_migrations_run_once_whoever_comes(conninfo: str) -> None:
    def one(_: int) -> list[int]:
        with postgres.connect(conninfo) as opened, opened.transaction():
            return postgres.migrate(opened)

    with ThreadPoolExecutor(4) as pool:
        applied = list(pool.map(one, range(4)))
    assert sorted(applied) == [[], [], [], sorted(postgres.migrations())]


def test_newer_schema_is_refused(connection: Connection) -> None:
    connection.execute("insert into migrations (number, name) values (9999, 'from_the_future')")
    with pytest.raises(ControlError, match="newer than this pugd"):
        postgres.migrate(connection)


def test_first_start_makes_keys_and_a_second_makes_none(connection: Connection) -> None:
    read_key = control.seed(connection, Config())
    assert read_key.startswith("read_")
    assert control.seed(connection, Config()) == ""
    kinds = [(key.kind, key.project) for key in keys.list_keys(connection)]
    assert kinds == [("write", 1), ("read", 1)]
    assert keys.project_of_read_key(connection, read_key) == Project(1, "default")
    write_key = keys.first_write_key(connection, 1)
    assert write_key is not None
    assert write_key.startswith("pub_")
    # A write key asks nothing.
    assert keys.project_of_read_key(connection, write_key) is None


def test_seeded_keys_are_any_string_and_hold_at_every_start(connection: Connection) -> None:
    config = Config(write_key="my-site", read_key="let me in"[:3])
    assert control.seed(connection, config) == ""
    assert control.seed(connection, config) == ""
    assert keys.first_write_key(connection, 1) == "my-site"
    assert keys.project_of_read_key(connection, "let") is not None
    (revoked,) = (key.id for key in keys.list_keys(connection) if key.kind == "read")
    assert keys.revoke(connection, revoked)
    assert not keys.revoke(connection, revoked)
    assert keys.project_of_read_key(connection, "let") is None
    control.seed(connection, config)
    assert keys.project_of_read_key(connection, "let") is not None


def test_a_key_cannot_be_of_two_kinds(connection: Connection) -> None:
    with pytest.raises(ControlError, match="another kind"):
        control.seed(connection, Config(write_key="same", read_key="same"))


def test_key_file_holds_no_secret(connection: Connection) -> None:
    secret = keys.make(connection, 1, "secret_write")
    public = keys.make(connection, 1, "write")
    read = keys.make(connection, 1, "read")
    gone = keys.make(connection, 1, "write")
    keys.revoke(connection, max(key.id for key in keys.list_keys(connection)))
    file = keys.key_file(connection)
    assert file.write_keys == {
        hashlib.sha256(secret.encode()).hexdigest(): WriteKey(1, True, id=1),
        public: WriteKey(1, False, id=2),
    }
    text = msgspec.json.encode(file).decode()
    assert secret not in text
    assert read not in text
    assert gone not in text
    assert file.projects == [Project(1, "default", "UTC")]


def test_limits_are_what_was_given_and_change_with_what_is_given(connection: Connection) -> None:
    limits = Limits(("https://shop.example",), rate=10, burst=50, per_day=1_000)
    key = keys.make(connection, 1, "write", "the shop", limits)
    [found] = keys.list_keys(connection)
    assert (found.name, found.limits) == ("the shop", limits)
    known = WriteKey(1, False, found.id, "the shop", ("https://shop.example",), 10, 50, 1_000)
    assert keys.key_file(connection).write_keys == {key: known}
    assert keys.change(connection, found.id, name="shop")
    [found] = keys.list_keys(connection)
    assert (found.name, found.limits) == ("shop", limits)
    assert keys.change(connection, found.id, limits=Limits())
    assert keys.find(connection, found.id) == msgspec.structs.replace(found, limits=Limits())
    assert not keys.change(connection, found.id + 1, name="nobody")
    keys.revoke(connection, found.id)
    assert not keys.change(connection, found.id, name="gone")
    with pytest.raises(ControlError, match="no project 7"):
        keys.make(connection, 7, "write")


def test_a_rotated_key_opens_beside_the_new_one_until_its_time_is_over(connection: Connection) -> None:
    limits = Limits(("https://shop.example",), rate=10)
    old = keys.make(connection, 1, "write", "the shop", limits)
    [first] = keys.list_keys(connection)
    made = keys.rotate(connection, first.id, timedelta(hours=1))
    assert made is not None
    new, secret = made
    assert secret == "", "the old one has none"
    file = keys.key_file(connection).write_keys
    assert file[new].until == 0
    assert abs(file[old].until - (time.time() + 3600) * 1000) < 60_000
    assert (file[new].name, file[new].origins, file[new].rate) == ("the shop", limits.origins, 10)
    assert keys.first_write_key(connection, 1) == new, "who is shown a key is shown the one that stays"
    # A second rotation of the same key gives it no more time than it had.
    keys.rotate(connection, first.id, timedelta(days=1))
    assert keys.key_file(connection).write_keys[old] == file[old]
    connection.execute("update keys set expires_at = now() where id = %s", (first.id,))
    assert old not in keys.key_file(connection).write_keys
    assert keys.rotate(connection, first.id, timedelta(hours=1)) is None, "it is not in force any more"


def test_a_read_key_rotates_too(connection: Connection) -> None:
    old = keys.make(connection, 1, "read")
    [first] = keys.list_keys(connection)
    made = keys.rotate(connection, first.id, timedelta(hours=1))
    assert made is not None
    new, _ = made
    for key in (old, new):
        assert keys.project_of_read_key(connection, key) == Project(1, "default")
    connection.execute("update keys set expires_at = now() where id = %s", (first.id,))
    assert keys.project_of_read_key(connection, old) is None
    assert keys.project_of_read_key(connection, new) is not None


def test_a_key_signs_until_it_is_told_not_to_and_its_successor_has_a_secret_of_its_own(connection: Connection) -> None:
    old = keys.make(connection, 1, "write")
    [first] = keys.list_keys(connection)
    assert not first.signing
    secret = keys.sign(connection, first.id)
    assert secret is not None
    assert secret.startswith("sig_")
    assert len(secret) > 30
    assert keys.key_file(connection).write_keys[old].signing == secret
    assert [key.signing for key in keys.list_keys(connection)] == [True]
    assert secret not in str(keys.list_keys(connection)), "it is shown once"
    made = keys.rotate(connection, first.id, timedelta(hours=1))
    assert made is not None
    new, another = made
    assert another.startswith("sig_")
    assert another != secret
    file = keys.key_file(connection).write_keys
    assert (file[old].signing, file[new].signing) == (secret, another), "each has its own while both open"
    again = keys.sign(connection, first.id)
    assert again not in (None, "", secret)
    assert keys.sign(connection, first.id, off=True) == ""
    assert keys.key_file(connection).write_keys[old].signing == ""
    assert keys.revoke(connection, first.id)
    assert keys.sign(connection, first.id) is None, "it is not in force any more"


@pytest.mark.parametrize("kind", ["secret_write", "read"])
def test_only_public_write_keys_sign(connection: Connection, kind: str) -> None:
    keys.make(connection, 1, kind)
    [key] = keys.list_keys(connection)
    assert keys.sign(connection, key.id) is None
    assert keys.sign(connection, 7) is None


def test_a_configured_key_comes_back_whole(connection: Connection) -> None:
    config = Config(write_key="own")
    control.seed(connection, config)
    [first, _] = keys.list_keys(connection)
    keys.rotate(connection, first.id, timedelta(0))
    assert "own" not in keys.key_file(connection).write_keys
    control.seed(connection, config)
    assert keys.key_file(connection).write_keys["own"].until == 0


def test_database_holds_no_secret(connection: Connection) -> None:
    secrets = [
        keys.make(connection, 1, "secret_write"),
        keys.make(connection, 1, "read"),
        members.create_login(connection),
    ]
    session = members.redeem_login(connection, members.create_login(connection))
    assert session is not None
    rows = [str(connection.execute(f"select * from {table}").fetchall()) for table in ("keys", "logins", "sessions")]
    for secret in (*secrets, session):
        assert not any(secret in row for row in rows)


def test_login_works_once(connection: Connection) -> None:
    token = members.create_login(connection)
    session = members.redeem_login(connection, token)
    assert session is not None
    assert members.redeem_login(connection, token) is None
    assert members.redeem_login(connection, "made up") is None
    assert members.check_session(connection, session) == Project(1, "default")
    assert members.check_session(connection, token) is None
    members.end_session(connection, session)
    assert members.check_session(connection, session) is None


def test_logins_and_sessions_expire(connection: Connection) -> None:
    session = members.redeem_login(connection, members.create_login(connection))
    assert session is not None
    token = members.create_login(connection)
    connection.execute("update logins set expires_at = now()")
    connection.execute("update sessions set expires_at = now()")
    assert members.redeem_login(connection, token) is None
    assert members.check_session(connection, session) is None


def test_concurrent_redemptions_give_one_session(conninfo: str, connection: Connection) -> None:
    token = members.create_login(connection)

    def redeem(_: int) -> str | None:
        with postgres.connect(conninfo) as opened, opened.transaction():
            return members.redeem_login(opened, token)

    with ThreadPoolExecutor(4) as pool:
        given = list(pool.map(redeem, range(4)))
    assert sum(session is not None for session in given) == 1


async def test_facade_and_file(conninfo: str, tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    config = Config(data=str(tmp_path), postgres_url="postgresql:///?host=unused", write_key="prv_own", read_key="ask")
    async with control.open_control(msgspec.structs.replace(config, postgres_url=conninfo), directory) as opened:
        assert isinstance(opened, Control)
        known = msgspec.json.decode(directory.keys.read_bytes(), type=KeyFile)
        assert known.write_keys == {hashlib.sha256(b"prv_own").hexdigest(): WriteKey(1, True, id=1)}
        assert not directory.read_key.exists()  # it was given, so nobody needs to look it up
        assert await opened.check_read_key("ask") == Project(1, "default")
        assert await opened.check_read_key("no") is None
        session = await opened.redeem_login(await opened.create_login())
        assert session is not None
        assert await opened.check_session(session) == Project(1, "default")
        await opened.end_session(session)
        assert await opened.check_session(session) is None
        assert await opened.write_key(1) is None
        with postgres.borrowed(conninfo) as connection:
            added = keys.make(connection, 1, "write")
        await opened.write_keys()
        assert added in directory.keys.read_text()
        assert await opened.write_key(1) == added
        assert directory.keys.stat().st_mode & 0o777 == 0o600


async def test_first_read_key_lies_in_the_data_directory(conninfo: str, tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    async with control.open_control(Config(data=str(tmp_path), postgres_url=conninfo), directory) as opened:
        assert await opened.check_read_key(directory.read_key.read_text().strip()) == Project(1, "default")
        assert directory.read_key.stat().st_mode & 0o777 == 0o600


async def test_pool_drops_what_failed(conninfo: str) -> None:
    pool = Postgres(conninfo)

    def fail(connection: Connection) -> None:
        connection.execute("select nothing_there")

    def cut(connection: Connection) -> None:
        connection.execute("select pg_terminate_backend(pg_backend_pid())")

    for broken in (fail, cut):
        with pytest.raises(ControlError):
            await pool.run(broken)
        assert await pool.run(lambda connection: connection.execute("select 5").fetchone()) == (5,)
    await pool.close()


async def test_work_is_one_transaction(conninfo: str) -> None:
    pool = Postgres(conninfo)

    def half(connection: Connection) -> None:
        connection.execute("create table half (n int)")
        _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        await pool.run(half)
    with pytest.raises(ControlError, match="half"):
        await pool.run(lambda connection: connection.execute("select * from half"))
    await pool.close()


async def test_answers_are_remembered_through_an_absence(autojump_clock: trio.testing.MockClock) -> None:
    remembered, asked = Remembered(), 0
    away = False

    async def ask() -> str | None:
        nonlocal asked
        asked += 1
        if away:
            raise ControlError("away")
        return "yes"

    async def no() -> str | None:
        return None

    assert [await remembered.ask("k", ask) for _ in range(3)] == ["yes"] * 3
    assert asked == 1
    await trio.sleep(control.REMEMBER_S + 1)
    assert await remembered.ask("k", ask) == "yes"
    assert asked == 2
    away = True
    await trio.sleep(control.REMEMBER_S + 1)
    assert await remembered.ask("k", ask) == "yes"
    await trio.sleep(control.REMEMBER_AWAY_S + 1)
    with pytest.raises(ControlError):
        await remembered.ask("k", ask)
    assert await remembered.ask("other", no) is None
    for number in range(control.REMEMBERED_MAX + 10):
        away = False
        await remembered.ask(str(number), ask)
    assert len(remembered._answers) <= control.REMEMBERED_MAX


def test_no_server_is_told_in_one_line() -> None:
    with pytest.raises(ControlError, match="cannot be reached") as caught:
        postgres.connect("host=/nowhere user=x dbname=y")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value.__cause__, psycopg.Error)


async def test_another_zone_holds_at_once_though_the_key_is_remembered(conninfo: str, tmp_path: Path) -> None:
    pool = Postgres(conninfo)
    await pool.run(postgres.migrate)
    read_key = await pool.run(lambda connection: control.seed(connection, Config()))
    one = Control(pool, DataDirectory(tmp_path), ours=False)

    async def zone() -> str:
        project = await one.check_read_key(read_key)
        assert project is not None
        return project.time_zone

    assert await zone() == "UTC"
    assert await one.change_zone(1, "Europe/Berlin") == Project(1, "default", "Europe/Berlin")
    assert await zone() == "Europe/Berlin"
    # By a command line, which is another process: the next look of `keep_keys` sees it.
    await pool.run(lambda connection: projects.change_zone(connection, 1, "Asia/Tokyo"))
    await one.write_keys()
    assert await zone() == "Asia/Tokyo"

    # A look that began before a change says nothing of it.
    class Slow:
        async def run(self, work: Callable[[Connection], object]) -> object:
            found = await pool.run(work)
            if work is keys.key_file:
                await changing()
            return found

    async def changing() -> None:
        await one.change_zone(1, "America/Lima")

    one._postgres = Slow()  # type: ignore[assignment]
    await one.write_keys()
    assert await zone() == "America/Lima"
    with pytest.raises(ControlError, match="no project 7"):
        await one.change_zone(7, "UTC")
    await pool.close()


@pytest.mark.parametrize(
    ("said", "near"),
    [
        ("Berlin", "Europe/Berlin?"),
        ("europe/berlin", "Europe/Berlin?"),
        ("New York", "America/New_York?"),
        ("Europe/Berlni", "Europe/Berlin or"),
        ("Mars/Phobos", ""),
        ("", ""),
        ("localtime", ""),
        ("../../etc/passwd", ""),
        ("x" * 10_000, ""),
        ("UTC\0", "UTC"),
    ],
)
def test_what_is_no_zone_is_told_with_what_is_near(said: str, near: str) -> None:
    with pytest.raises(QuestionError) as caught:
        projects.check_zone(said)
    assert (caught.value.code, caught.value.field) == ("invalid_field", "time_zone")
    assert near in caught.value.message
    assert ("did you mean" in caught.value.message) == bool(near)
    assert len(caught.value.message) < 400
