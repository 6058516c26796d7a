"""What PostHog's libraries ask before and beside what they send: flags, settings, scripts. pugd has none of it, and
says so in the words that let them go on: no flags, no surveys, no recordings; autocapture and gzip are welcome.

An answer that they cannot use does not stop them from sending either, but some of them would ask again and again.
"""

from __future__ import annotations

import json
import uuid
from typing import Final

import msgspec

from pugd import errors
from pugd.dialects.dialect import Asked, Reply

_encode = msgspec.json.Encoder().encode
_SCRIPT: Final = "application/javascript; charset=utf-8"
_SETTINGS: Final[dict[str, object]] = {
    "supportedCompression": ["gzip", "gzip-js"],
    "hasFeatureFlags": False,
    "autocapture_opt_out": False,
    "captureDeadClicks": False,
    "capturePerformance": False,
    "autocaptureExceptions": False,
    "elementsChainAsString": True,
    "sessionRecording": False,
    "heatmaps": False,
    "surveys": False,
    "defaultIdentifiedOnly": True,
    "siteApps": [],
    "isAuthenticated": False,
    "toolbarParams": {},
}
_FLAGS: Final[dict[str, object]] = {
    "flags": {},
    "featureFlags": {},
    "featureFlagPayloads": {},
    "errorsWhileComputingFlags": False,
}
_NOTHING: Final[dict[str, dict[str, object]]] = {
    "definitions": {"flags": [], "group_type_mapping": {}, "cohorts": {}},
    "recording": {"status": 1},
    "surveys": {"surveys": []},
    "features": {"earlyAccessFeatures": []},
    "experiments": {"experiments": []},
}


def reply(asked: Asked) -> Reply:
    """The answer to a path that only asks."""
    if asked.call == "flags":
        request_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{asked.base}?{asked.query.decode('latin-1')}"))
        return Reply(200, _encode(_FLAGS | {"requestId": request_id}))
    if asked.call == "decide":
        return Reply(200, _encode(_FLAGS | _SETTINGS | {"config": {"enable_collect_everything": True}}))
    if asked.call == "config":
        return Reply(200, _encode({"token": asked.part} | _SETTINGS))
    if asked.call == "config.js":
        return Reply(200, _config_script(asked.part), _SCRIPT, (("X-Content-Type-Options", "nosniff"),))
    if asked.call == "static":
        told = {
            "type": "invalid_request",
            "code": errors.NOT_FOUND,
            "detail": "pugd serves no scripts of PostHog's: bundle posthog-js from npm, best as module.no-external.",
            "attr": None,
        }
        return Reply(404, _encode(told))
    return Reply(200, _encode(_NOTHING[asked.call]))


def _config_script(key: str) -> bytes:
    """The settings as the script that posthog-js loads; escapes keep the key a string of JavaScript, whatever it is."""
    name = json.dumps(key).replace("<", "\\u003c")
    settings = json.dumps({"token": key} | _SETTINGS).replace("<", "\\u003c")
    return (
        "(function(){window._POSTHOG_REMOTE_CONFIG=window._POSTHOG_REMOTE_CONFIG||{};"
        f"window._POSTHOG_REMOTE_CONFIG[{name}]={{config:{settings},siteApps:[]}}}})();"
    ).encode()
