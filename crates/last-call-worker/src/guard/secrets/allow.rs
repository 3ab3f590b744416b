//! What guard signs for a child that does not have the secret.
//!
//! Owns the table of the server's methods and of the grants that each needs. Refuses every grant that the child's own
//! token lacks, that the method does not need, or that is not listed.

use std::fmt;

use clap::ValueEnum;
use livekit_token::{Claims, SIPGrants, VideoGrants};

/// What the child may ask of the server, as `--allow` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Right {
    /// RoomService in rooms that the worker has jobs in
    #[value(name = "room:own")]
    RoomOwn,
    /// RoomService in every room
    #[value(name = "room:any")]
    RoomAny,
    /// Create and delete rooms, any
    #[value(name = "room:create")]
    RoomCreate,
    /// List rooms
    #[value(name = "room:list")]
    RoomList,
    /// Egress, of any room
    #[value(name = "room:record")]
    RoomRecord,
    /// Dispatches in rooms that the worker has jobs in
    #[value(name = "dispatch:own")]
    DispatchOwn,
    /// Dispatches in every room
    #[value(name = "dispatch:any")]
    DispatchAny,
    /// Make and transfer telephone calls
    #[value(name = "sip:call")]
    SipCall,
    /// Trunks and dispatch rules of SIP
    #[value(name = "sip:admin")]
    SipAdmin,
    /// Ingress, into any room
    #[value(name = "ingress:admin")]
    IngressAdmin,
}

impl Right {
    /// What is allowed where nothing is said.
    pub(crate) const USUAL: [Self; 2] = [Self::RoomOwn, Self::DispatchOwn];
}

/// The grants of one token that guard signs.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Signed {
    pub(super) video: VideoGrants,
    pub(super) sip: SIPGrants,
}

/// The grants that `method` needs, of those that the child's token `claims`; or why not.
pub(super) fn signed(
    service: &str,
    method: &str,
    claims: &Claims,
    allowed: &[Right],
    owns: impl Fn(&str) -> bool,
) -> Result<Signed, String> {
    if !claims.sha256.is_empty() {
        return Err("guard signs no hash of a body: that is for webhooks".to_owned());
    }
    let asked = Asked { what: format!("{service}/{method}"), claims, allowed };
    let mut signed = Signed::default();
    let Signed { video, sip } = &mut signed;
    match (service, method) {
        ("RoomService", "CreateRoom" | "DeleteRoom") => {
            video.room_create = asked.may(claims.video.room_create, Right::RoomCreate)?;
        }
        ("RoomService", "ListRooms") => {
            video.room_list = asked.may(claims.video.room_list, Right::RoomList)?
        }
        ("RoomService", "ForwardParticipant" | "MoveParticipant") => {
            asked.admin(video, Right::RoomOwn, Right::RoomAny, &owns)?;
            let destination = &claims.video.destination_room;
            asked.room(destination, Right::RoomOwn, Right::RoomAny, &owns)?;
            video.destination_room.clone_from(destination);
        }
        ("RoomService", _) => asked.admin(video, Right::RoomOwn, Right::RoomAny, &owns)?,
        ("AgentDispatchService", _) => {
            asked.admin(video, Right::DispatchOwn, Right::DispatchAny, &owns)?;
        }
        ("Egress", _) => video.room_record = asked.may(claims.video.room_record, Right::RoomRecord)?,
        ("Ingress", _) => video.ingress_admin = asked.may(claims.video.ingress_admin, Right::IngressAdmin)?,
        ("SIP", "CreateSIPParticipant") => sip.call = asked.may(claims.sip.call, Right::SipCall)?,
        ("SIP", "TransferSIPParticipant") => {
            sip.call = asked.may(claims.sip.call, Right::SipCall)?;
            asked.admin(video, Right::RoomOwn, Right::RoomAny, &owns)?;
        }
        ("SIP", _) => sip.admin = asked.may(claims.sip.admin, Right::SipAdmin)?,
        _ => return Err(format!("guard holds the secret, and signs nothing for {:?}", asked.what)),
    }
    Ok(signed)
}

/// A request, for what is said of it.
struct Asked<'a> {
    what: String,
    claims: &'a Claims,
    allowed: &'a [Right],
}

impl Asked<'_> {
    /// True, or why not.
    fn may(&self, claimed: bool, right: Right) -> Result<bool, String> {
        if !self.allowed.contains(&right) {
            return Err(format!(
                "guard holds the secret, and signs {} only with --allow {}",
                self.what, right
            ));
        }
        if claimed { Ok(true) } else { Err(self.lacking()) }
    }

    /// Administers the room of the token.
    fn admin(
        &self,
        video: &mut VideoGrants,
        own: Right,
        any: Right,
        owns: impl Fn(&str) -> bool,
    ) -> Result<(), String> {
        let room = &self.claims.video.room;
        self.room(room, own, any, owns)?;
        if !self.claims.video.room_admin {
            return Err(self.lacking());
        }
        video.room_admin = true;
        video.room.clone_from(room);
        Ok(())
    }

    fn room(&self, room: &str, own: Right, any: Right, owns: impl Fn(&str) -> bool) -> Result<(), String> {
        if self.allowed.contains(&any) || self.allowed.contains(&own) && owns(room) {
            return Ok(());
        }
        Err(if self.allowed.contains(&own) {
            format!(
                "guard holds the secret, and signs {} only for rooms that this worker has a job in, which {room:?} is \
                 not; --allow {any} takes all",
                self.what
            )
        } else {
            format!("guard holds the secret, and signs {} only with --allow {} or {any}", self.what, own)
        })
    }

    fn lacking(&self) -> String {
        format!("the token lacks the grant that {} needs", self.what)
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_possible_value().map_or(Ok(()), |value| f.write_str(value.get_name()))
    }
}
