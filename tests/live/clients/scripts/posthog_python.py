"""One visitor's story, by posthog for Python."""

import json
import logging
import os
import time
from datetime import datetime

from posthog import Posthog

settings = json.loads(os.environ["SETTINGS"])
tag = settings["tag"]
anon, user, old = f"anon-{tag}", f"user-{tag}", f"old-{tag}"
errors: list[str] = []


class Told(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        errors.append(record.getMessage())


if settings["faults"] == 0:
    logging.getLogger("posthog").addHandler(Told(logging.WARNING))
posthog = Posthog(
    settings["key"],
    host=settings["host"],
    flush_at=5,
    flush_interval=0.2,
    gzip=settings["gzip"],
    capture_mode=settings["mode"],
    on_error=lambda error, _: errors.append(str(error)),
    sync_mode=False,
)
page = {"$current_url": "https://shop.example/pricing"}
posthog.capture("$pageview", distinct_id=anon, properties=page)
posthog.capture("$screen", distinct_id=anon, properties={"$screen_name": "Cart"})
posthog.capture("Product Viewed", distinct_id=anon, properties=settings["viewed"])
long_ago = datetime.fromisoformat(settings["longAgo"].replace("Z", "+00:00"))
posthog.capture("Long Ago", distinct_id=anon, properties={"n": 1}, timestamp=long_ago)
posthog.capture("From Another Device", distinct_id=old)
for n in range(settings["fillers"]):
    posthog.capture("Filler", distinct_id=anon, properties={"n": n})
posthog.capture("$identify", distinct_id=user, properties={"$anon_distinct_id": anon})
posthog.set(distinct_id=user, properties=settings["traits"])
posthog.set_once(distinct_id=user, properties={"plan": "free", "source": "ad"})
time.sleep(0.01)  # Of two changes in one millisecond the event id decides, and here it is random.
bought = {"revenue": 416.21, "$set": {"orders": 1}, "$set_once": {"first": "scarf"}}
posthog.capture("Order Completed", distinct_id=user, properties=bought, groups={"company": f"acme-{tag}"})
posthog.set(distinct_id=user, properties={"plan": "team"})
posthog.set_once(distinct_id=user, properties={"source": "mail"})
posthog.capture("$set", distinct_id=user, properties={"$unset": ["age"]})
posthog.group_identify("company", f"acme-{tag}", {"seats": 5}, distinct_id=user)
posthog.alias(previous_id=old, distinct_id=user)
posthog.capture_ai("$ai_generation", distinct_id=user, properties={"$ai_model": "m", "$ai_input_tokens": 3})
flag = posthog.feature_enabled("beta", user)
posthog.shutdown()
print(json.dumps({"errors": errors, "flag": flag}))
