"""What passes the scan is what the plain twin takes; each fault has its code, its place and a message that mends it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import json_scan

from pugd import errors
from pugd.dialects.storable import Scan, mend, scan

REFUSED = [
    # text, offset, words of the message
    (b"", 0, "empty"),
    (b" \n\t\r ", 5, "empty"),
    (b"{", 1, "too early"),
    (b'{"a"', 4, "too early"),
    (b'{"a":', 5, "too early"),
    (b'{"a":1', 6, "too early"),
    (b'{"a":1,', 7, "too early"),
    (b"[", 1, "too early"),
    (b"[1,", 3, "too early"),
    (b'"abc', 4, "too early"),
    (b'"\\', 2, "too early"),
    (b'"\\u00', 5, "too early"),
    (b"tru", 3, "too early"),
    (b"-", 1, "too early"),
    (b"1.", 2, "too early"),
    (b"1e", 2, "too early"),
    (b"1e+", 3, "too early"),
    (b'{"a":1,}', 7, "key"),
    (b"{'a':1}", 1, "key"),
    (b"{a:1}", 1, "key"),
    (b"{1:1}", 1, "key"),
    (b"{,}", 1, "key"),
    (b'{"a" 1}', 5, "does not allow"),
    (b'{"a":1 "b":2}', 7, "does not allow"),
    (b'{"a":1]', 6, "does not allow"),
    (b"[1,]", 3, "does not allow"),
    (b"[1}", 2, "does not allow"),
    (b"[1 2]", 3, "does not allow"),
    (b"[\x0b1]", 1, "does not allow"),
    (b"[/*c*/1]", 1, "does not allow"),
    (b"True", 0, "does not allow"),
    (b"truthy", 0, "does not allow"),
    (b"undefined", 0, "does not allow"),
    (b"\xc2\xa01", 0, "does not allow"),
    (b"{} {}", 3, "nothing after"),
    (b"1 2", 2, "nothing after"),
    (b"nulll", 4, "nothing after"),
    (b"\x00", 0, "does not allow"),
    (b"{}\x00", 2, "nothing after"),
    (b'"\xff"', 1, "UTF-8"),
    (b'"\x80"', 1, "UTF-8"),
    (b'"\xc0\xaf"', 1, "UTF-8"),
    (b'"\xc1\xbf"', 1, "UTF-8"),
    (b'"\xc3"', 1, "UTF-8"),
    (b'"\xe0\x9f\xbf"', 1, "UTF-8"),
    (b'"\xed\xa0\x80"', 1, "UTF-8"),
    (b'"\xef\xbf"', 1, "UTF-8"),
    (b'"\xf0\x8f\xbf\xbf"', 1, "UTF-8"),
    (b'"\xf4\x90\x80\x80"', 1, "UTF-8"),
    (b'"\xf5\x80\x80\x80"', 1, "UTF-8"),
    (b'"0123456789abcdef0123456789\xc3\xa4\xff"', 29, "UTF-8"),
    (b"\xff", 0, "UTF-8"),
    (b"{\xff:1}", 1, "UTF-8"),
    (b"[1\xff]", 2, "UTF-8"),
    (b'"\x00"', 1, "control"),
    (b'"\x1f"', 1, "control"),
    (b'"a\nb"', 2, "control"),
    (b'{"\t":1}', 2, "control"),
    (b'"\\x41"', 1, "escape"),
    (b'"\\\'"', 1, "escape"),
    (b'"\\u00g0"', 1, "escape"),
    (b'"\\U0041"', 1, "escape"),
    (b'"\\u+041"', 1, "escape"),
    (b'"\\ud800\\u00gg"', 7, "escape"),
    (b'"\\ud800"', 1, "surrogate"),
    (b'"\\udc00"', 1, "surrogate"),
    (b'"\\ud800x\\udc00"', 1, "surrogate"),
    (b'"\\ud800\\ud800"', 1, "surrogate"),
    (b'"\\ud800\\u0041"', 1, "surrogate"),
    (b'"\\udbff\\n\\udfff"', 1, "surrogate"),
    (b'"\\udc00\\ud800"', 1, "surrogate"),
    (b"+1", 0, "number"),
    (b".5", 0, "number"),
    (b"-.5", 0, "number"),
    (b"--1", 0, "number"),
    (b"1.e3", 0, "number"),
    (b"1.x", 0, "number"),
    (b"1ee3", 0, "number"),
    (b"01", 0, "zero"),
    (b"-01", 0, "zero"),
    (b"00", 0, "zero"),
    (b"0x10", 1, "nothing after"),
    (b"NaN", 0, "finite"),
    (b'{"a":Infinity}', 5, "finite"),
    (b'{"a":-Infinity}', 5, "finite"),
    (b'{"a":1e400}', 5, "finite"),
    (b'{"a":-1e309}', 5, "finite"),
    (b"1" + b"0" * 309, 0, "finite"),
    (b"1.7976931348623159e308", 0, "finite"),
    (b"0.00001e314", 0, "finite"),
    (b"1e99999999999999999999999999999999", 0, "finite"),
    (b"1" * 400 + b"e-50", 0, "finite"),
    (str(2**1024 - 2**970).encode(), 0, "finite"),
    (b"\xef\xbb\xbf{}", 0, "byte order mark"),
]

TAKEN = [
    b"{}",
    b"[]",
    b' \r\n\t{ "a" : [ 1 , 2 ] , "b" : { } } \n',
    b"null",
    b"true",
    b"false",
    b'""',
    b"-0",
    b"0.0",
    b"0e99999999999999",
    b"-0.000E+4000",
    b"1e-400",
    b"1e308",
    b"1.7976931348623157e308",
    str(2**1024 - 2**970 - 1).encode(),
    b"9" * 308,
    b"1" * 400 + b"e-100",
    b"0." + b"0" * 400 + b"1e700",
    b'"\\ud83d\\ude00 \\uD83D\\uDE00 \xf0\x9f\x98\x80"',
    b'"\\"\\\\\\/\\b\\f\\n\\r\\t\\u20ac"',
    b'"\xef\xbb\xbf"',
    b'"\x7f"',
    b'"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"',
    b'{"":1}',
    b'{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]}',
    b"[" * 64 + b"]" * 64,
    b'{"a":' * 63 + b"{}" + b"}" * 63,
]


@pytest.mark.parametrize(("text", "offset", "words"), REFUSED)
def test_each_fault_has_its_place_and_a_message(text: bytes, offset: int, words: str) -> None:
    found = scan(text)
    assert not found.storable
    assert found.code == errors.INVALID_JSON
    assert found.offset == offset
    assert words in found.message
    assert not json_scan.storable(text)[0]


@pytest.mark.parametrize("text", TAKEN)
def test_taken(text: bytes) -> None:
    assert scan(text) == Scan(is_object=text.lstrip().startswith(b"{"))
    assert json_scan.storable(text) == (True, False, False)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_too_deep(opening: bytes) -> None:
    found = scan(opening * 65)
    assert found.code == errors.TOO_DEEP
    assert "64" in found.message
    assert scan(b"[" * 3_000_000).code == errors.TOO_DEEP


def test_a_deep_place_does_not_remember_what_stood_there_before() -> None:
    assert scan(b'[{"a":1},["a",1],{"a":[{}]},[[1],{"a":1}]]').storable
    assert not scan(b'[{"a":1},["a":1]]').storable
    assert not scan(b'[["a",1],{"a",1}]').storable


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":2}',
        b'{"a":1,"\\u0061":2}',
        b'{"\\u0061":1,"\\u0061":2}',
        b'{"":1,"":2}',
        b'{"\xe2\x82\xac":1,"\\u20AC":2}',
        b'{"\\ud83d\\ude00":1,"\xf0\x9f\x98\x80":2}',
        b'{"\\n\\/\\"\\\\":1,"\\u000a/\\u0022\\u005c":2}',
        b'[1,{"x":{"long key of more than sixteen bytes":1,"y":[],"long key of more than sixteen bytes":1}}]',
        b'{"a":{"x":1},"b":{"y":1},"a":{"z":1}}',
        json.dumps({f"k{i}": i for i in range(10_000)}).encode()[:-1] + b',"k7":1}',
        b'{"k":1,' + json.dumps({f"k{i}": i for i in range(63)}).encode()[1:-1] + b',"k":1}',
        b'{"k":1,' + json.dumps({f"k{i}": i for i in range(64)}).encode()[1:-1] + b',"k":1}',
        b'{"' + b"\\u0061" * 100 + b'":1,"' + b"a" * 100 + b'":1}',
    ],
)
def test_duplicate_keys_are_flagged_and_mended(text: bytes) -> None:
    found = scan(text)
    assert found.storable
    assert found.duplicate_keys
    mended = mend(text)
    assert json.loads(mended) == json.loads(text)
    assert scan(mended) == Scan(is_object=found.is_object)


def test_an_object_of_many_keys_is_no_duplicate() -> None:
    nested = {f"k{i}": {f"k{i}": i} for i in range(50_000)}
    assert scan(json.dumps(nested).encode()) == Scan(is_object=True)
    assert scan(json.dumps(nested | {"one": "more"}).encode()) == Scan(is_object=True, many=True)


def test_many_values_are_told() -> None:
    assert scan(b"[" + b"1," * 999_998 + b"1]") == Scan()
    assert scan(b"[" + b"1," * 999_998 + b"1,[]]") == Scan(many=True)


def test_mend_keeps_the_text_of_numbers() -> None:
    text = (
        b'{"a":1,"n":[1.50,1E5,-0.0,123456789012345678901234567890],"s":"\\u00e4\\ud83d\\ude00\\u0000","a":'
        + b"9" * 300
    )
    assert mend(text + b"}") == (
        b'{"a":'
        + b"9" * 300
        + b',"n":[1.50,1E5,-0.0,123456789012345678901234567890],"s":"\xc3\xa4\xf0\x9f\x98\x80\\u0000"}'
    )


def test_nul_is_flagged() -> None:
    assert scan(b'["\\u0000"]') == Scan(nul=True)
    assert scan(b'{"\\u0000":1}') == Scan(nul=True, is_object=True)
    assert scan(b'["\\\\u0000"]') == Scan()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer(kind: type) -> None:
    assert scan(kind(b'{"a":1}')) == Scan(is_object=True)
    assert scan(kind(b'{"a":\x01}')).offset == 5
    assert scan(kind(b"")).code == errors.INVALID_JSON
    assert mend(kind(b'{"a":1,"a":2}')) == b'{"a":2}'


def test_twenty_mebibytes() -> None:
    text = json.dumps(
        {"batch": [{"event": "e", "properties": {"n": i, "ü": "x" * 40}} for i in range(250_000)]}
    ).encode()
    assert len(text) > 20 << 20
    assert scan(text) == Scan(is_object=True, many=True)
    assert scan(text[:-1]).offset == len(text) - 1


def compare(text: bytes) -> None:
    found = scan(text)
    storable, duplicates, nul = json_scan.storable(text)
    assert found.storable == storable, found
    if storable:
        assert (found.duplicate_keys, found.nul) == (duplicates, nul)
        if duplicates:
            mended = mend(text)
            assert json.loads(mended) == json.loads(text)
            assert not scan(mended).duplicate_keys
    else:
        assert 0 <= found.offset <= len(text)
        assert found.message


white = st.sampled_from([b"", b"", b" ", b"\n", b"\t \r"])
string_parts = st.one_of(
    st.text(st.characters(exclude_characters='"\\', exclude_categories=["Cc", "Cs"]), max_size=20).map(str.encode),
    st.sampled_from(
        [b"\\n", b'\\"', b"\\\\", b"\\/", b"\\u0061", b"a", b"\\ud83d\\ude00", b"\\u0000", b"\\u00E4", b"\xc3\xa4"]
    ),
)
strings = st.lists(string_parts, max_size=4).map(lambda parts: b'"' + b"".join(parts) + b'"')
keys = st.one_of(st.sampled_from([b'"a"', b'"\\u0061"', b'"b"', b'""']), strings)
numbers = st.one_of(
    st.integers().map(lambda n: str(n).encode()),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda f: repr(f).encode()),
    st.from_regex(rb"-?(0|[1-9][0-9]{0,320})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?", fullmatch=True),
)
scalars = st.one_of(strings, numbers, st.sampled_from([b"true", b"false", b"null"]))


def containers(values: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    def spaced(opening: bytes, parts: list[tuple[bytes, bytes]], closing: bytes) -> bytes:
        return opening + b",".join(space + part + space for space, part in parts) + closing

    arrays = st.lists(st.tuples(white, values), max_size=6).map(lambda parts: spaced(b"[", parts, b"]"))
    member = st.tuples(keys, white, values).map(lambda m: m[0] + m[1] + b":" + m[1] + m[2])
    objects = st.lists(st.tuples(white, member), max_size=12).map(lambda parts: spaced(b"{", parts, b"}"))
    return st.one_of(arrays, objects)


texts = st.recursive(scalars, containers, max_leaves=30)


@given(texts)
def test_valid_text_as_the_twin(text: bytes) -> None:
    compare(text)


@given(st.data(), texts)
def test_damaged_text_as_the_twin(data: st.DataObject, text: bytes) -> None:
    damaged = bytearray(text)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged)))
        kind = data.draw(st.sampled_from(["cut", "insert", "remove", "change"]))
        byte = data.draw(st.one_of(st.integers(0, 255), st.sampled_from(b'"\\{}[]:,-.eE0u \xff\xed\xc3\x80')))
        if kind == "cut":
            del damaged[at:]
        elif kind == "insert":
            damaged.insert(at, byte)
        elif at < len(damaged):
            damaged[at : at + 1] = b"" if kind == "remove" else bytes([byte])
    compare(bytes(damaged))


@given(st.binary(max_size=40).map(lambda content: b'"' + content + b'"'))
def test_any_bytes_in_a_string_as_the_twin(text: bytes) -> None:
    compare(text)


@given(st.integers(300, 312), st.text("0123456789", min_size=1, max_size=25), st.booleans(), st.integers(0, 330))
def test_numbers_near_the_bound_as_the_twin(exponent: int, digits: str, minus: bool, zeros: int) -> None:
    number = f"{'-' if minus else ''}{digits[0]}.{digits}e{exponent}"
    compare(number.encode())
    compare(f"0.{'0' * zeros}{digits}e{exponent + zeros}".encode())
    compare(f"1{'0' * zeros}{digits}.5e{exponent - zeros - len(digits)}".encode())
