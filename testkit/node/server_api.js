// Drives a server by the official livekit-server-sdk: rooms, dispatches, participants, errors. Prints one line of JSON.
//
// argv: room, agent name; a worker of that name must be there. LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET come
// from the environment; the package is found by NODE_PATH.

const { AgentDispatchClient, RoomServiceClient, TwirpError } = require("livekit-server-sdk");

const [room, agentName] = process.argv.slice(2);
const { LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET } = process.env;
const host = LIVEKIT_URL.replace(/^ws/, "http");
const rooms = new RoomServiceClient(host, LIVEKIT_API_KEY, LIVEKIT_API_SECRET);
const dispatches = new AgentDispatchClient(host, LIVEKIT_API_KEY, LIVEKIT_API_SECRET);

async function status(call) {
  try {
    await call;
    return 200;
  } catch (error) {
    if (!(error instanceof TwirpError)) throw error;
    return error.status;
  }
}

async function main() {
  const made = await rooms.createRoom({ name: room, metadata: "by node" });
  const dispatch = await dispatches.createDispatch(room, agentName, { metadata: "wish" });
  let participants = [];
  while (participants.length === 0) participants = await rooms.listParticipants(room);
  const listed = await dispatches.getDispatch(dispatch.id, room);
  const said = {
    sid: made.sid,
    metadata: made.metadata,
    rooms: (await rooms.listRooms()).map(({ name }) => name),
    identity: participants[0].identity,
    agent: participants[0].attributes["lk.agent_name"],
    jobs: listed.state.jobs.map(({ state }) => state.participantIdentity),
    removed: await status(rooms.removeParticipant(room, participants[0].identity)),
    removedAgain: await status(rooms.removeParticipant(room, participants[0].identity)),
    dispatchDeleted: await status(dispatches.deleteDispatch(dispatch.id, room)),
    roomDeleted: await status(rooms.deleteRoom(room)),
    roomDeletedAgain: await status(rooms.deleteRoom(room)),
  };
  console.log(JSON.stringify(said));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
