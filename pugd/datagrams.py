"""Datagrams of a wake-up: whose they are, signed or not, and their events as calls of its batch.

A datagram gets no answer, so what is refused of it is told to the operator alone. All lines of a wake-up are read
together, but where a key has a signing secret (dialects/signature.py): signed datagrams of one key that follow one
another are read by themselves, and what an unsigned line of such a key says links nobody.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence

from pugd import errors
from pugd.dialects import datagram, signature
from pugd.dialects.message import Decoded, read
from pugd.enrich import clock
from pugd.enrich.event import enriched
from pugd.enrich.place import PLACE_BYTES_MAX, Places, Whence
from pugd.model import Batch, Keys, Refusal, WriteKey
from pugd.refusals import Refusals

log = logging.getLogger(__name__)


class Datagrams:
    """Reads those of each wake-up. Never awaits."""

    def __init__(
        self,
        *,
        keys: Keys,
        mint: Callable[[], str],
        places: Places | None,
        codes: Counter[str],
        refusals: Refusals,
    ) -> None:
        """`codes`, `refusals`: where what is refused is counted and told"""
        self._keys = keys
        self._mint = mint
        self._places = places
        self._codes = codes
        self._refusals = refusals
        self.refused = 0
        """Lines, where a datagram holds several; accept.py adds those that it could not keep."""

    def read(self, lines: bytes, offsets: Sequence[int], batch: Batch, received_at: int) -> int:
        """Add the calls of datagrams to a batch; a fault of ours takes those alone that were read with it.

        `lines`    end to end, each ended by a line feed
        `offsets`  where in `lines` each datagram begins, and where the last one ends; without them none is signed
        returns    bytes that their rows have beyond what was sent
        """
        read_before = batch.length
        parts = signature.parts(lines, offsets) if self._keys.signs else [signature.Part(lines)]
        at = 0
        while at < len(parts):
            signed_by, proven, end = self._signed_run(parts, at, received_at)
            before = batch.length
            try:
                if signed_by is None:
                    self._read_lines(datagram.decode(parts[at].lines), batch, received_at)
                elif proven:
                    self._read_lines(datagram.decode_signed(proven), batch, received_at, signed_by)
            except Exception:
                log.exception("reading %d bytes of datagrams failed", sum(len(part.lines) for part in parts[at:end]))
                batch.cut(before)
                self.refused += end - at
                self._codes[errors.INTERNAL] += end - at
            at = end
        return 0 if self._places is None else PLACE_BYTES_MAX * (batch.length - read_before)

    def _signed_run(
        self, parts: Sequence[signature.Part], begin: int, received_at: int
    ) -> tuple[str | None, list[tuple[bytes, str]], int]:
        """Of the parts from `begin` on, those that are signed datagrams of one key that signs, to be read together.

        returns  that write key; what was signed, and the signature, of those that are proven; where another part
                 begins. None, nothing and the next part where the first is none
        """
        first = parts[begin].signed
        key = self._keys.open(first.write_key) if first is not None else None
        if first is None or not isinstance(key, WriteKey) or not key.signing:
            return None, [], begin + 1
        proven: list[tuple[bytes, str]] = []
        end = begin
        while end < len(parts) and (signed := parts[end].signed) is not None and signed.write_key == first.write_key:
            proof = signature.proven(signed, key.signing, received_at)
            if isinstance(proof, Refusal):
                self.refused += 1
                self._note(proof, key, received_at)
            else:
                proven.append((signed.lines, proof))
            end += 1
        return first.write_key, proven, end

    def _read_lines(
        self, found: list[Decoded | Refusal], batch: Batch, received_at: int, signed_by: str | None = None
    ) -> None:
        """Read what was decoded of lines. `signed_by`: the write key whose events among them are signed"""
        for decoded in found:
            if isinstance(decoded, Refusal):
                refused, key, lost = [decoded], None, 1
            else:
                lost = len(decoded.messages)
                before = batch.length
                refused, key = self._read_run(decoded, batch, received_at, signed_by)
                lost -= batch.length - before
            self.refused += lost
            for refusal in refused:
                self._note(refusal, key, received_at)

    def _read_run(
        self, decoded: Decoded, batch: Batch, received_at: int, signed_by: str | None
    ) -> tuple[list[Refusal], WriteKey | None]:
        key = self._keys.open(decoded.write_key or "")
        if isinstance(key, Refusal):
            return [key] * len(decoded.messages), None
        over = self._keys.admit(key, received_at)
        if over is not None:
            return [over] * len(decoded.messages), key
        before = batch.length
        unsigned = bool(key.signing) and decoded.write_key != signed_by
        # Where a datagram comes from can be forged.
        whence = Whence(self._places) if self._places is not None else None
        refused = read(
            decoded, batch, project=key.project, secret=key.secret, received_at=received_at, transport="udp",
            clock=clock, mint=self._mint, enrich=enriched, unsigned=unsigned, where=whence,
        )  # fmt: skip
        self._keys.count(key, batch.length - before, received_at)
        return refused, key

    def _note(self, why: Refusal, key: WriteKey | None, received_at: int) -> None:
        self._codes[why.code] += 1
        self._refusals.note(why, received_at, key=key, dialect="datagram", transport="udp")
