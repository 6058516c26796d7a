"""Our datagram: one JSON event, or several with line feeds between, each a Segment message with its own `writeKey`.

`{"writeKey":"…","type":"track","anonymousId":"anon-1","event":"scroll","properties":{"percent":72}}`; without a type it
is a track. Nothing is ever answered, because a source address can be forged; what is refused is counted. A wake-up's
datagrams are read as one text, and line by line where something in it is wrong. Lines are independent of one another,
whoever sent them: each must be a whole event by itself, however it would fit together with its neighbours. That a
datagram may be signed, and then says what it is of, is signature.py's.
"""

from __future__ import annotations

import msgspec

from pugd import errors
from pugd.dialects import salvage, storable
from pugd.dialects.message import Decoded, Message
from pugd.model import Refusal

_message = msgspec.json.Decoder(Message)
_messages = msgspec.json.Decoder(list[Message])
_values = msgspec.json.Decoder(list[msgspec.Raw])


def decode(lines: bytes) -> list[Decoded | Refusal]:
    """Read datagrams put end to end, each ended by a line feed.

    returns  a Decoded for each run of events with the same write key; a Refusal for each line that is none
    cost     as for a batch by HTTP
    """
    lines = lines.strip()
    if not lines:
        return []
    # JSON has no raw line feed inside a string, so the lines of good events are the elements of an array.
    array = b"[" + lines.replace(b"\n", b",") + b"]"
    found = storable.scan(array)
    # Only if every value is just its line: a line may not open what another closes.
    if found.storable and not found.duplicate_keys and _lengths(array) == list(map(len, lines.split(b"\n"))):
        try:
            return _by_key(_messages.decode(array))
        except msgspec.MsgspecError:
            pass
    return [_line(line) for line in lines.split(b"\n") if line.strip()]


def decode_signed(datagrams: list[tuple[bytes, str]]) -> list[Decoded | Refusal]:
    """Read what was signed, each with its signature, together: a quarter of the cost of one by one.

    An event without a `messageId` gets one of the signature and of its number, so that the same datagram, sent again,
    has it too.
    """
    texts = [signed.strip() for signed, _ in datagrams]
    found = decode(b"\n".join(texts))
    messages = [message for one in found if isinstance(one, Decoded) for message in one.messages]
    counts = [text.count(b"\n") + 1 for text in texts] if len(texts) > 1 else [len(messages)]
    if len(messages) != sum(counts):
        # Some line is no event: only by itself does a datagram tell which of its events are which.
        return [one for alone in datagrams for one in decode_signed([alone])]
    begin = 0
    for (_, signature), count in zip(datagrams, counts, strict=True):
        for number in range(count):
            message = messages[begin + number]
            if not message.messageId:
                message.messageId = f"{signature[:32]}-{number}"
        begin += count
    return found


def _lengths(array: bytes) -> list[int]:
    return list(map(len, _values.decode(array)))


def _by_key(messages: list[Message]) -> list[Decoded | Refusal]:
    key = messages[0].writeKey
    if all(message.writeKey == key for message in messages):
        return [_decoded(messages)]
    runs: list[Decoded | Refusal] = []
    begin = 0
    for at in range(1, len(messages) + 1):
        if at == len(messages) or messages[at].writeKey != messages[begin].writeKey:
            runs.append(_decoded(messages[begin:at]))
            begin = at
    return runs


def _line(line: bytes) -> Decoded | Refusal:
    line, wrong = salvage.checked(line)
    if wrong is not None:
        return wrong
    try:
        return _decoded([_message.decode(line)])
    except msgspec.ValidationError as error:
        return salvage.wrong_type(error)
    except msgspec.DecodeError as error:
        return salvage.unreadable(error)


def _decoded(messages: list[Message]) -> Decoded | Refusal:
    key = messages[0].writeKey
    if key is None:
        return Refusal(errors.INVALID_KEY, "writeKey is missing: each event of a datagram carries its own.", "writeKey")
    for message in messages:
        if message.type is None:
            message.type = "track"
    return Decoded(messages, key)
