"""Checks webhooks by the official livekit-api and prints the name of each event.

stdin: one webhook a line, as JSON with the header's value and the body. LIVEKIT_API_KEY and LIVEKIT_API_SECRET come from
the environment.
"""

import json
import sys

from livekit import api

receiver = api.WebhookReceiver(api.TokenVerifier())
for line in sys.stdin:
    webhook = json.loads(line)
    print(receiver.receive(webhook["body"], webhook["authorization"]).event, flush=True)
