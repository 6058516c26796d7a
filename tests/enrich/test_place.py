"""Places of addresses, out of files in MaxMind's format."""

from __future__ import annotations

import ipaddress
import logging
import os
from pathlib import Path
from typing import Any

import mmdb
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdb import CITY, GRAZ, LONDON, USA, written

from pugd.enrich import place
from pugd.enrich.place import DEVICE, NOWHERE, REMOTE, SERVER, Places, Whence
from pugd.errors import ConfigError

Triple = tuple[str, str, str]
NONE: Triple = ("", "", "")


def unpacked(packed: bytes) -> Triple:
    country, region, city = msgspec.msgpack.decode(b"\x93" + packed)
    return country, region, city


def opened(path: Path, data: bytes) -> Places:
    path.write_bytes(data)
    places = Places(str(path))
    places.renew()
    return places


def placed(places: Places, address: str) -> Triple:
    return unpacked(places.find(address))


@pytest.mark.parametrize("bits", [24, 28, 32])
def test_an_address_has_its_networks_place(tmp_path: Path, bits: int) -> None:
    places = opened(tmp_path / "places.mmdb", written(CITY, record_bits=bits))
    assert placed(places, LONDON) == ("GB", "England", "London")
    assert placed(places, GRAZ) == ("AT", "6", "Graz")  # a code, where there is no name
    assert placed(places, USA) == ("US", "", "")
    assert placed(places, f"::ffff:{LONDON}") == ("GB", "England", "London")
    assert placed(places, f" {LONDON} ") == ("GB", "England", "London")
    assert placed(places, "81.2.70.1") == NONE


@pytest.mark.parametrize(
    "address",
    [
        "", "10.0.0.1", "127.0.0.1", "192.168.7.7", "169.254.1.1", "100.64.0.1", "0.0.0.0", "255.255.255.255", "::1",
        "::", "fe80::1", "fe80::1%eth0", f"{GRAZ}%eth0", "fd00::1", "::ffff:10.0.0.1", "localhost", "81.2.69",
        "81.2.69.999", "81.2.69.142, 8.8.8.8", "81.2.69.142:80", "\x00", "ü", "1" * 10_000, "\ud800",
    ],
)  # fmt: skip
def test_what_is_no_public_address_has_no_place(tmp_path: Path, address: str) -> None:
    everywhere = written({"0.0.0.0/1": {"country": {"iso_code": "GB"}}, "128.0.0.0/1": CITY["8.8.0.0/16"],
                          "8000::/1": CITY["8.8.0.0/16"], "2000::/3": CITY["8.8.0.0/16"]})  # fmt: skip
    assert placed(opened(tmp_path / "places.mmdb", everywhere), address) == NONE


def test_a_file_of_ipv4_knows_no_ipv6(tmp_path: Path) -> None:
    places = opened(tmp_path / "places.mmdb", written({"81.2.69.0/24": CITY["81.2.69.0/24"]}, version=4))
    assert placed(places, LONDON) == placed(places, f"::ffff:{LONDON}") == ("GB", "England", "London")
    assert placed(places, GRAZ) == NONE


COUNTRIES = st.sampled_from(["GB", "AT", "US", "FR", "JP"])
FOUR = st.builds(
    lambda at, length: str(ipaddress.ip_network((at >> (32 - length) << (32 - length), length))),
    st.integers(0, (1 << 32) - 1), st.integers(1, 32),
)  # fmt: skip
SIX = st.builds(
    lambda at, length: str(ipaddress.ip_network((at >> (128 - length) << (128 - length), length))),
    st.integers(1 << 125, (1 << 126) - 1), st.integers(3, 128),
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(FOUR | SIX, COUNTRIES, min_size=1, max_size=12),
    st.lists(st.integers(0, (1 << 32) - 1), max_size=5),
    st.sampled_from([24, 28, 32]),
)
def test_it_tells_what_the_narrowest_network_of_a_dict_tells(
    tmp_path_factory: pytest.TempPathFactory, networks: dict[str, str], others: list[int], bits: int
) -> None:
    records = {network: {"country": {"iso_code": code}} for network, code in networks.items()}
    parsed = {ipaddress.ip_network(network): code for network, code in networks.items()}
    path = tmp_path_factory.getbasetemp() / "twin.mmdb"
    places = opened(path, written(records, record_bits=bits))
    edges = [edge for network in parsed for edge in (network[0], network[-1])]
    for address in [*edges, *map(ipaddress.IPv4Address, others)]:
        around = [network for network in parsed if network.version == address.version and address in network]
        code = parsed[max(around, key=lambda network: network.prefixlen)] if around and address.is_global else ""
        mapped = isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None
        assert mapped or placed(places, str(address)) == (code, "", ""), address


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({}, NONE),
        ({"country": {"iso_code": "at"}}, ("AT", "", "")),
        ({"country": {"names": {"en": "Austria"}}}, NONE),
        ({"country": "AT", "region": "Styria", "city": "Graz"}, ("AT", "Styria", "Graz")),  # as IPinfo has it
        ({"country": "Austria", "country_code": "AT"}, ("AT", "", "")),
        ({"country_code": "AT", "state1": "Styria", "city": "Graz"}, ("AT", "Styria", "Graz")),
        ({"country": {"iso_code": "AT"}, "subdivisions": [{"names": {"en": "Styria"}}, {"names": {"en": "X"}}]},
         ("AT", "Styria", "")),
        ({"city": {"names": {"de": "Wien"}}}, NONE),
        ({"country": "-", "region": "-", "city": "-"}, NONE),  # as IP2Location has it
        ({"country": [1], "subdivisions": {"a": 1}, "city": 7, "region": True}, NONE),
        ({"country": {"iso_code": 7}, "subdivisions": [7], "city": {"names": ["en"]}}, NONE),
        ({"country": {"iso_code": "ÄÖ"}, "subdivisions": [], "city": {"names": {"en": "x" * 500}}},
         ("", "", "x" * 100)),
    ],
)  # fmt: skip
def test_what_files_say_in_their_ways(tmp_path: Path, record: dict[str, Any], told: Triple) -> None:
    assert place.of_record(record) == told
    data = written({"81.2.69.0/24": record, "8.8.0.0/16": CITY["8.8.0.0/16"]})
    packed = opened(tmp_path / "places.mmdb", data).find(LONDON)
    assert unpacked(packed) == told
    assert len(packed) <= place.PLACE_BYTES_MAX


def test_the_longest_place_is_as_long_as_is_said(tmp_path: Path) -> None:
    record = {"country": "AT", "region": "\U0001f600" * 500, "city": "\U0001f600" * 500}
    packed = opened(tmp_path / "places.mmdb", written({"81.2.69.0/24": record})).find(LONDON)
    assert len(packed) == place.PLACE_BYTES_MAX


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=60) | st.ip_addresses().map(str))
def test_nothing_that_is_asked_raises(tmp_path_factory: pytest.TempPathFactory, address: str) -> None:
    places = opened(tmp_path_factory.getbasetemp() / "any.mmdb", written(CITY))
    country, region, city = placed(places, address)
    assert (country, region, city) == placed(places, address)


def test_few_addresses_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "CACHE_MAX", 10)
    places = opened(tmp_path / "places.mmdb", written(CITY))
    for last in range(100):
        assert placed(places, f"81.2.69.{last}") == ("GB", "England", "London")
        assert len(places._held.found) <= 10
    places.find("x" * 1000)
    assert all(len(address) <= place.ADDRESS_LENGTH_MAX for address in places._held.found)


def test_in_a_wake_up_some_new_addresses_are_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "NEW_MAX", 10)
    places = opened(tmp_path / "places.mmdb", written(CITY))
    addresses = [f"81.2.69.{last}" for last in range(15)]
    known = ("GB", "England", "London")
    assert [placed(places, address) for address in addresses] == [known] * 10 + [NONE] * 5
    assert placed(places, addresses[0]) == known, "it was met before"
    assert places.statistics() == place.PlacesStatistics(1_790_000_000, 10, 5)
    places.turn()
    assert [placed(places, address) for address in addresses] == [known] * 15


# ---- files


def wrong(tmp_path: Path, data: bytes) -> str:
    path = tmp_path / "places.mmdb"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as told:
        place.check(str(path))
    line = str(told.value)
    assert line.startswith(f"setting places: {path}")
    assert line.endswith("; allowed: a file in MaxMind's format (.mmdb) that tells countries or cities")
    assert "\n" not in line
    return line.removeprefix(f"setting places: {path} ").partition(";")[0]


def test_a_file_is_looked_at_before_it_is_used(tmp_path: Path) -> None:
    whole = written(CITY)
    path = tmp_path / "places.mmdb"
    path.write_bytes(whole)
    place.check(str(path))
    damaged = "is not in MaxMind's format, or damaged"
    assert wrong(tmp_path, b"") == damaged
    assert wrong(tmp_path, b"country,city\nAT,Graz\n") == damaged
    assert wrong(tmp_path, whole[:-100]) == damaged
    assert wrong(tmp_path, whole[2000:]) == damaged  # its end alone, metadata and all
    marker = whole.rindex(mmdb.MARKER)
    data = whole.index(b"\xe3", 200)
    assert wrong(tmp_path, whole[:data] + b"\xff" * (marker - data) + whole[marker:]) == damaged
    asn = written({"81.2.69.0/24": {"autonomous_system_number": 20712}}, kind="GeoLite2-ASN")
    assert wrong(tmp_path, asn) == "('GeoLite2-ASN') tells no places"


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    for path, told in (
        (tmp_path / "none.mmdb", "cannot be read: No such file or directory"),
        (tmp_path, "is no file"),
        (Path("/dev/zero"), "is no file"),
    ):
        with pytest.raises(ConfigError, match=f"^setting places: {path} {told}; allowed: "):
            place.check(str(path))
    os.mkfifo(tmp_path / "pipe")  # which nobody waits for
    with pytest.raises(ConfigError, match="is no file"):
        place.check(str(tmp_path / "pipe"))


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_or_answers_without_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole = bytearray(written(CITY))
    for _ in range(data.draw(st.integers(1, 20))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    del whole[data.draw(st.integers(0, len(whole)) | st.just(len(whole))) :]
    places = opened(tmp_path_factory.getbasetemp() / "damaged.mmdb", bytes(whole))
    for address in (LONDON, GRAZ, USA, "1.1.1.1", "2600::1"):
        placed(places, address)


def replaced(path: Path, data: bytes) -> None:
    beside = path.with_suffix(".new")
    beside.write_bytes(data)
    beside.rename(path)


def test_a_file_that_is_replaced_is_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "places.mmdb"
    places = opened(path, written(CITY))
    assert placed(places, LONDON) == ("GB", "England", "London")
    held = places._held
    places.renew()
    assert places._held is held, "it is the same file"
    assert caplog.messages == []

    path.write_bytes(b"half of anoth")  # overwritten where it lies: what was read of it is ours
    places.renew()
    replaced(path, b"another half")
    places.renew()
    path.unlink()
    places.renew()
    assert placed(places, LONDON) == ("GB", "England", "London")
    assert placed(places, "81.2.69.1") == ("GB", "England", "London")
    assert caplog.messages == [
        f"places: {path} is not in MaxMind's format, or damaged; until it is mended, the places of the file before it"
        " stay"
    ]

    replaced(path, written({"81.2.69.0/24": {"country": {"iso_code": "IE"}}}))
    places.renew()
    assert placed(places, LONDON) == ("IE", "", "")
    assert caplog.messages[1:] == [f"places: {path} is in use"]


def test_a_file_that_comes_late_is_read_then(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "places.mmdb"
    places = Places(str(path))
    places.renew()
    assert placed(places, LONDON) == NONE
    assert caplog.messages == [
        f"places: {path} cannot be read: No such file or directory; until it is mended, there are none"
    ]
    replaced(path, written(CITY))
    places.renew()
    assert placed(places, LONDON) == ("GB", "England", "London")


def test_reading_a_file_again_and_again_leaves_no_descriptor_open(tmp_path: Path) -> None:
    path = tmp_path / "places.mmdb"
    places = opened(path, written(CITY))
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        replaced(path, written(CITY) if number % 2 else b"no such file")
        places.renew()
    assert len(os.listdir("/proc/self/fd")) <= before


# ---- whose


@pytest.mark.parametrize(
    ("said", "sender", "is_browser", "user_agent", "city"),
    [
        (None, "", True, "Mozilla/5.0", "London"),
        (None, DEVICE, True, "", "London"),
        (None, DEVICE, False, "okhttp/4.12", "London"),
        (None, DEVICE, False, "", "London"),
        (None, "", False, "Mozilla/5.0", ""),  # nobody says that it is a visitor's own
        (None, SERVER, False, "", ""),
        (None, SERVER, True, "", ""),
        (None, DEVICE, False, "python-requests/2.31", ""),  # who sends on what a device said
        (None, DEVICE, False, "node", ""),
        (GRAZ, SERVER, False, "", "Graz"),
        (GRAZ, DEVICE, True, "", "Graz"),
        (REMOTE, "", False, "", "London"),
        ("", DEVICE, True, "", ""),
        ("0.0.0.0", DEVICE, True, "", ""),  # how Segment's customers say that they want none
        ("somewhere", DEVICE, True, "", ""),
    ],
)
def test_whose_address_an_event_has(
    tmp_path: Path, said: str | None, sender: str, is_browser: bool, user_agent: str, city: str
) -> None:
    places = opened(tmp_path / "places.mmdb", written(CITY))
    assert unpacked(Whence(places, LONDON, is_browser, user_agent)(said, sender))[2] == city
    if said is None or said == REMOTE:
        assert Whence(places, "", is_browser, user_agent)(said, sender) == NOWHERE
