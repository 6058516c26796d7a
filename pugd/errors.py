"""Stable codes of refusals, and the few exceptions.

A sender's fault is a `model.Refusal` with one of these codes. The world's fault (disk, ClickHouse, network) is an
exception that names operation, object and remedy. Our own fault is an `assert`.
"""

from __future__ import annotations

from typing import Final

# What a sender did wrong. Clients and operators key on these; a code is never renamed or reused.
INVALID_REQUEST: Final = "invalid_request"
INVALID_JSON: Final = "invalid_json"
INVALID_FIELD: Final = "invalid_field"
MISSING_FIELD: Final = "missing_field"
INVALID_ID: Final = "invalid_id"
INVALID_KEY: Final = "invalid_key"
FORBIDDEN: Final = "forbidden"
INVALID_SIGNATURE: Final = "invalid_signature"
UNSIGNED: Final = "unsigned"
NOT_FOUND: Final = "not_found"
METHOD_NOT_ALLOWED: Final = "method_not_allowed"
INVALID_PROTOBUF: Final = "invalid_protobuf"
COOKIELESS_OFF: Final = "cookieless_off"
COOKIELESS_LATE: Final = "cookieless_late"
COOKIELESS_CALL: Final = "cookieless_call"
TOO_LARGE: Final = "too_large"
TOO_DEEP: Final = "too_deep"
UNSUPPORTED_ENCODING: Final = "unsupported_encoding"
EVENT_ID_REUSED: Final = "event_id_reused"
RATE_LIMITED: Final = "rate_limited"
QUOTA_EXCEEDED: Final = "quota_exceeded"
TIMEOUT: Final = "timeout"
UNAVAILABLE: Final = "unavailable"
INTERNAL: Final = "internal_error"

# Why a link was refused: stored with the proposal.
BOTH_IDENTIFIED: Final = "both_identified"
ILLEGAL_ID: Final = "illegal_id"
TOO_MANY_IDS: Final = "too_many_ids"
UNLINKED_BY_HAND: Final = "unlinked_by_hand"
SELF_LINK: Final = "self_link"

# Why the console could not explain, unlink or merge.
UNKNOWN_ID: Final = "unknown_id"
NOT_LINKED: Final = "not_linked"

_STATUS_OF: Final = {
    INVALID_KEY: 401,
    INVALID_SIGNATURE: 401,
    FORBIDDEN: 403,
    UNSIGNED: 403,
    NOT_FOUND: 404,
    METHOD_NOT_ALLOWED: 405,
    TIMEOUT: 408,
    TOO_LARGE: 413,
    UNSUPPORTED_ENCODING: 415,
    RATE_LIMITED: 429,
    QUOTA_EXCEEDED: 429,
    UNAVAILABLE: 503,
    INTERNAL: 500,
}


def status_of(code: str) -> int:
    """The status, in HTTP's own words, of a request that was refused as a whole."""
    return _STATUS_OF.get(code, 400)


class PugdError(Exception):
    """The world failed us: what was tried, on what, and what mends it."""


class ConfigError(PugdError):
    """A setting is wrong: names it and the allowed range. Stops the start."""


class JournalError(PugdError):
    """The journal's disk failed, or its files are not what they should be."""


class JournalFullError(PugdError):
    """There is no room in the journal for now, and nothing was changed."""


class StoreError(PugdError):
    """ClickHouse could not be reached or refused."""

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        """ClickHouse's own error number, where it gave one."""


class StoreRefusedError(StoreError):
    """ClickHouse refused the data itself: sending the same again cannot help."""


class StoreUnavailableError(StoreError):
    """ClickHouse is away: try again later."""


class CollectorAwayError(PugdError):
    """The collector could not be asked: what only it can do was not done, or it is not known whether it was."""


class ControlError(PugdError):
    """Postgres could not be reached or refused."""
