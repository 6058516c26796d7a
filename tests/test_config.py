"""Settings: what wins over what, and what a wrong one says."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pugd import config
from pugd.config import Address, Config
from pugd.errors import ConfigError

MIB = 1 << 20


def test_defaults_are_within_their_own_bounds() -> None:
    """Every default, written out and given back, is taken as it is."""
    default = Config()
    texts = {
        config.variable(name): ",".join(value) if isinstance(value, (tuple, list)) else str(value)
        for name, value in msgspec.to_builtins(default).items()
    }
    assert config.load(environment=texts) == default


def test_options_win_over_environment_over_file(tmp_path: Path) -> None:
    file = tmp_path / "pugd.toml"
    file.write_text('drain_rows_max = 1\ndrain_interval_ms = 2\nread_wait_s = 3\nroles = ["keeper"]\n')
    environment = {"PUGD_DRAIN_INTERVAL_MS": "20", "PUGD_READ_WAIT_S": "30", "PUGD_CONFIG": "/x", "HOME": "/"}
    loaded = config.load(file=file, environment=environment, options={"read_wait_s": "300"})
    assert (loaded.drain_rows_max, loaded.drain_interval_ms, loaded.read_wait_s) == (1, 20, 300.0)
    assert loaded.roles == ("keeper",)


def test_empty_variable_is_not_given(tmp_path: Path) -> None:
    assert config.load(environment={"PUGD_DRAIN_ROWS_MAX": ""}) == Config()


def test_no_proxy_may_be_trusted() -> None:
    assert Config().trusted_networks == ("127.0.0.0/8", "::1")
    for said in ("none", "10.0.0.0/8, ::1,192.0.2.7"):
        given = config.load(environment={"PUGD_TRUSTED_PROXIES": said}).trusted_networks
        assert given == (() if said == "none" else ("10.0.0.0/8", "::1", "192.0.2.7"))


def test_cluster_variables_are_passed_over() -> None:
    """A Kubernetes service that is called pugd puts these into every container."""
    given = {"PUGD_SERVICE_HOST": "10.0.0.1", "PUGD_PORT": "tcp://10.0.0.1:7080", "PUGD_PORT_7080_TCP_ADDR": "x"}
    assert config.load(environment={**given, "PUGD_SERVICE_PORT": "7080", "PUGD_SERVICE_PORT_HTTP": "7"}) == Config()


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PUGD_DRAIN_ROWS_MAX", "0", "from 1 to 1000000"),
        ("PUGD_DRAIN_ROWS_MAX", "1000001", "from 1 to 1000000"),
        ("PUGD_DRAIN_ROWS_MAX", "many", "a whole number"),
        ("PUGD_DRAIN_ROWS_MAX", "1.5", "a whole number"),
        ("PUGD_READ_WAIT_S", "nan", "from 0 to 300"),
        ("PUGD_READ_WAIT_S", "inf", "from 0 to 300"),
        ("PUGD_COLLECTOR", "7080", "host:port"),
        ("PUGD_COLLECTOR", "::1:7080", "[::1]:7080"),
        ("PUGD_COLLECTOR", "localhost:99999", "port 0 to 65535"),
        ("PUGD_COLLECTOR", "localhost:-1", "port 0 to 65535"),
        ("PUGD_ROLES", "collector,janitor", "collector,keeper or one of them"),
        ("PUGD_ROLES", "collector,collector", "collector,keeper or one of them"),
        ("PUGD_LOG_LEVEL", "loud", "debug, info, warning, error"),
        ("PUGD_CLICKHOUSE_URL", "localhost:8123", "http://"),
        ("PUGD_POSTGRES_URL", "mysql://x/", "postgresql://"),
        ("PUGD_COLLECTOR_NAME", "a b", "letters, digits"),
        ("PUGD_TRUSTED_PROXIES", "10.0.0.1/8", "networks, separated by commas"),
        ("PUGD_TRUSTED_PROXIES", "proxy.internal", "networks, separated by commas"),
        ("PUGD_TRUSTED_PROXIES", "none,10.0.0.0/8", "or none"),
        ("PUGD_JOURNAL_BYTES_MAX", str(16 * MIB), "2 × journal_file_bytes_max"),
        ("PUGD_HELD_BYTES_MAX", str(2 * MIB), "body_bytes_max"),
    ],
)
def test_wrong_value_names_setting_place_value_and_range(variable: str, value: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(environment={variable: value})
    message = str(caught.value)
    assert "\n" not in message
    name = variable.removeprefix("PUGD_").lower()
    shown = "(hidden)" if name in config.SECRETS else value.split(",")[0]
    for part in (name, variable, shown, said):
        assert part in message, message


@pytest.mark.parametrize("name", sorted(config.SECRETS))
def test_secrets_are_not_repeated(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(environment={config.variable(name): "ftp://user: hunter2@host"})
    assert "hunter2" not in str(caught.value)
    assert name in str(caught.value)


def test_unknown_setting_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"PUGD_JORNAL_BYTES_MAX.*did you mean PUGD_JOURNAL_BYTES_MAX"):
        config.load(environment={"PUGD_JORNAL_BYTES_MAX": "1"})
    file = tmp_path / "pugd.toml"
    file.write_text("[journal]\nbytes_max = 1\n")
    with pytest.raises(ConfigError, match=r"unknown setting journal in .*pugd\.toml"):
        config.load(file=file)


@pytest.mark.parametrize("text", ["drain_rows_max = ", "\xff"])
def test_broken_file_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "pugd.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"pugd\.toml is not TOML"):
        config.load(file=file)
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(file=tmp_path / "absent.toml")


def test_types_in_the_file_are_exact(tmp_path: Path) -> None:
    """TOML has types, so a truth value is no number there."""
    file = tmp_path / "pugd.toml"
    file.write_text("drain_rows_max = true\n")
    with pytest.raises(ConfigError, match="drain_rows_max"):
        config.load(file=file)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:7080", "127.0.0.1", 7080),
        ("[::1]:7080", "::1", 7080),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
        ("events.example:0", "events.example", 0),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert config.address(text) == Address(host, port)
    assert str(config.address(text)) == text


@pytest.mark.parametrize("text", ["", ":1", "a", "a:", "a:b", "[::1]", "[a]:1", "a b:1", "http://a:1", "a:1:2"])
def test_no_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        config.address(text)


def test_settings_page_agrees_with_the_code() -> None:
    """docs/settings.md has one row a setting, in order, as `describe` says it."""
    page = (Path(__file__).parents[1] / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert rows == config.table().splitlines()[2:], "run `make settings`"
