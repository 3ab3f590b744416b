"""Drives a server by the official livekit-api: rooms, dispatches, participants, errors. Prints one line of JSON.

argv: room, agent name; a worker of that name must be there. LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET come
from the environment.
"""

import asyncio
import json
import sys

from livekit import api


async def status(call) -> int:
    try:
        await call
    except api.TwirpError as error:
        return error.status
    return 200


async def main() -> None:
    room, agent_name = sys.argv[1:3]
    async with api.LiveKitAPI() as client:
        made = await client.room.create_room(api.CreateRoomRequest(name=room, metadata="by python"))
        request = api.CreateAgentDispatchRequest(room=room, agent_name=agent_name, metadata="wish")
        dispatch = await client.agent_dispatch.create_dispatch(request)
        participants = []
        while not participants:
            found = await client.room.list_participants(api.ListParticipantsRequest(room=room))
            participants = list(found.participants)
        listed = await client.agent_dispatch.get_dispatch(dispatch.id, room)
        rooms = await client.room.list_rooms(api.ListRoomsRequest())
        who = api.RoomParticipantIdentity(room=room, identity=participants[0].identity)
        said = {
            "sid": made.sid,
            "metadata": made.metadata,
            "rooms": [found.name for found in rooms.rooms],
            "identity": participants[0].identity,
            "agent": participants[0].attributes["lk.agent_name"],
            "jobs": [job.state.participant_identity for job in listed.state.jobs],
            "removed": await status(client.room.remove_participant(who)),
            "removedAgain": await status(client.room.remove_participant(who)),
            "dispatchDeleted": await status(client.agent_dispatch.delete_dispatch(dispatch.id, room)),
            "roomDeleted": await status(client.room.delete_room(api.DeleteRoomRequest(room=room))),
            "roomDeletedAgain": await status(client.room.delete_room(api.DeleteRoomRequest(room=room))),
        }
        print(json.dumps(said), flush=True)


asyncio.run(main())
