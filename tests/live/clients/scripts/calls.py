"""The calls of SETTINGS, by the client of `module`: segment-analytics-python, or rudder-sdk-python."""

import importlib
import json
import os
from datetime import datetime

settings = json.loads(os.environ["SETTINGS"])
errors = []
client = importlib.import_module(settings["module"]).Client(
    settings["key"],
    host=settings["host"],
    upload_size=settings["flushAt"],
    upload_interval=0.2,
    gzip=settings["gzip"],
    on_error=lambda error, _: errors.append(str(error)),
)
WORDS = {"userId": "user_id", "anonymousId": "anonymous_id", "previousId": "previous_id", "groupId": "group_id"}
for call in settings["calls"]:
    said = {WORDS.get(name, name): value for name, value in call.items() if name != "type"}
    if "timestamp" in said:
        said["timestamp"] = datetime.fromisoformat(said["timestamp"].replace("Z", "+00:00"))
    taken, _ = getattr(client, call["type"])(**said)
    assert taken, "the queue is full"
client.shutdown()
print(json.dumps({"errors": errors}))
