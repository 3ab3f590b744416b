"""Creates a dispatch by the official livekit-api and prints it as JSON.

argv: room, agent name, metadata. LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET come from the environment.
"""

import asyncio
import sys

from google.protobuf.json_format import MessageToJson
from livekit import api


async def main() -> None:
    room, agent_name, metadata = sys.argv[1:4]
    async with api.LiveKitAPI() as client:
        request = api.CreateAgentDispatchRequest(room=room, agent_name=agent_name, metadata=metadata)
        dispatch = await client.agent_dispatch.create_dispatch(request)
        print(MessageToJson(dispatch, indent=None), flush=True)


asyncio.run(main())
