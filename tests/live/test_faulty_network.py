"""The daemon with ClickHouse as a server, through a network that resets, stalls, cuts replies short, answers errors and
delivers twice, and a server that is killed meanwhile: acks go on, and everything acked is stored once."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from clickhouse_server import Server
from live.daemon import Daemon
from live.faulty_proxy import FAULTS, Proxy
from live.test_crash import Clients, check_console, check_stored, wait_caught_up


@pytest.mark.parametrize("seed", [1])
def test_everything_acked_is_stored_once_through_a_faulty_network(tmp_path: Path, seed: int) -> None:
    (tmp_path / "server").mkdir()
    server = Server(tmp_path / "server")
    proxy = Proxy(server.port, seed, odds=0.3)
    daemon = Daemon(tmp_path, PUGD_CLICKHOUSE_URL=Server.url_at(proxy.port, "pugd"), PUGD_DRAIN_INTERVAL_MS="20")
    try:
        daemon.launch()
        while not (daemon.data / "keys.json").exists():
            time.sleep(0.05)
        clients = Clients(daemon, seed)
        clients.pause_s = 0.03
        clients.start()
        deadline = time.monotonic() + 60
        killed = False
        while not all(proxy.met[fault] for fault in FAULTS):
            assert time.monotonic() < deadline, f"{proxy.met}\n{daemon.said()}"
            # Whoever asks makes the drain try again sooner.
            assert daemon.ask("/v1/people?limit=1").status in (200, 503)
            if not killed and sum(proxy.met.values()) > 8:
                server.kill()
                acked = len(clients.acked)
                time.sleep(1.0)
                assert len(clients.acked) > acked, "acks go on while ClickHouse is away"
                server.start()
                killed = True
        assert killed
        proxy.odds = 0.0
        clients.stop()
        assert not clients.faults, clients.faults[:5]
        wait_caught_up(daemon)
        daemon.wait_ready()
        check_console(daemon, clients)
        assert daemon.metric("pugd_drain_doubled_rows_total") == 0
        assert daemon.metric("pugd_drain_quarantined_total") == 0
        assert daemon.metric("pugd_drain_retries_total") >= len(FAULTS) - 1
        assert daemon.stop() == 0, daemon.said()
        server.kill()
        events = check_stored(SimpleNamespace(data=server.directory), clients)  # type: ignore[arg-type]
        print(f"{events:,} events, each once; {dict(proxy.met)}")
    finally:
        proxy.close()
        daemon.destroy()
        server.kill()
