//! Members of classic groups, by frames: as many as a benchmark needs, over few connections.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ottla_wire::message::{
    COORDINATOR_GROUP, FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest, JoinGroupRequestProtocol, Request,
    SyncGroupRequest, SyncGroupRequestAssignment,
};
use ottla_wire::{ApiVersion, ErrorCode, Message, RequestHeader, decode_response, encode_request};

use crate::load::connect;

/// The last versions before flexible ones; JoinGroup takes a member without asking it to come again with an id.
const JOIN_VERSION: i16 = 3;
const SYNC_VERSION: i16 = 2;
const HEARTBEAT_VERSION: i16 = 2;
const FIND_VERSION: i16 = 4;

/// Time that a coordinator gets to make its topic and to load its groups.
const COORDINATOR_PATIENCE: Duration = Duration::from_mins(1);

/// Longer than any run: no member is removed for its silence.
const SESSION_TIMEOUT_MS: i32 = 600_000;
/// What a member says of its subscription, and what it is assigned, about.
const METADATA: [u8; 60] = [7; 60];

/// A connection with at most one request under way.
pub(crate) struct Line {
    socket: TcpStream,
    frame: Vec<u8>,
}

impl Line {
    pub(crate) fn open(addr: SocketAddr) -> Result<Self> {
        Ok(Self { socket: connect(addr)?, frame: Vec::new() })
    }

    fn send<'a, M: Message<'a>>(&mut self, version: i16, message: &M) -> Result<()> {
        self.frame.clear();
        encode_request(&RequestHeader::of::<M>(version, 1, Some("ottla-bench".into())), message, &mut self.frame);
        self.socket.write_all(&self.frame)?;
        Ok(())
    }

    /// The next answer, which is one to a request `M` of this version.
    fn receive<'a, M: Request<'a>>(&'a mut self, version: i16) -> Result<M::Response<'a>> {
        let mut length = [0; 4];
        self.socket.read_exact(&mut length)?;
        self.frame.resize(u32::from_be_bytes(length) as usize, 0);
        self.socket.read_exact(&mut self.frame)?;
        Ok(decode_response::<M::Response<'a>>(ApiVersion(version), &self.frame)?.1)
    }

    /// Looks for the coordinator of a group, which makes the topic of the groups the first time, and waits until it is ready.
    pub(crate) fn find_coordinator(&mut self, group: &str) -> Result<()> {
        let begin = Instant::now();
        loop {
            let request = FindCoordinatorRequest {
                key_type: COORDINATOR_GROUP,
                coordinator_keys: vec![group.into()],
                ..FindCoordinatorRequest::default()
            };
            self.send(FIND_VERSION, &request)?;
            let answer = self.receive::<FindCoordinatorRequest<'_>>(FIND_VERSION)?;
            if answer.coordinators.first().is_some_and(|found| found.error_code == ErrorCode::None) {
                // A group that is loaded knows that it has no such member.
                let request = HeartbeatRequest {
                    group_id: group.into(),
                    generation_id: 1,
                    member_id: "unknown".into(),
                    group_instance_id: None,
                };
                self.send(HEARTBEAT_VERSION, &request)?;
                if self.receive::<HeartbeatRequest<'_>>(HEARTBEAT_VERSION)?.error_code == ErrorCode::UnknownMemberId {
                    return Ok(());
                }
            }
            ensure!(begin.elapsed() < COORDINATOR_PATIENCE, "the coordinator of {group} is not ready");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Says that a member lives.
    pub(crate) fn heartbeat(&mut self, group: &Group, member: usize) -> Result<()> {
        let code = self.ask_heartbeat(group, member)?;
        ensure!(code == ErrorCode::None, "a heartbeat was answered {code}");
        Ok(())
    }

    fn ask_heartbeat(&mut self, group: &Group, member: usize) -> Result<ErrorCode> {
        let request = HeartbeatRequest {
            group_id: group.id.as_str().into(),
            generation_id: group.generation,
            member_id: group.members[member].as_str().into(),
            group_instance_id: None,
        };
        self.send(HEARTBEAT_VERSION, &request)?;
        Ok(self.receive::<HeartbeatRequest<'_>>(HEARTBEAT_VERSION)?.error_code)
    }
}

/// A group whose members are on one line each.
#[derive(Debug)]
pub(crate) struct Group {
    id: String,
    generation: i32,
    members: Vec<String>,
    leader: usize,
}

impl Group {
    /// A group of one member for each line. The broker waits for all of them, as `group.initial.rebalance.delay.ms` says.
    pub(crate) fn form(id: String, lines: &mut [Line]) -> Result<Self> {
        lines.first_mut().context("a group without lines")?.find_coordinator(&id)?;
        let mut group = Self { id, generation: 0, members: vec![String::new(); lines.len()], leader: 0 };
        group.rebalance(lines)?;
        Ok(group)
    }

    /// The leader begins a rebalance, all others follow, and each gets its assignment.
    pub(crate) fn rebalance(&mut self, lines: &mut [Line]) -> Result<()> {
        let others = (0..lines.len()).filter(|member| *member != self.leader);
        for member in std::iter::once(self.leader).chain(others) {
            let request = JoinGroupRequest {
                group_id: self.id.as_str().into(),
                session_timeout_ms: SESSION_TIMEOUT_MS,
                rebalance_timeout_ms: SESSION_TIMEOUT_MS,
                member_id: self.members[member].as_str().into(),
                group_instance_id: None,
                protocol_type: "consumer".into(),
                protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: &METADATA }],
                reason: None,
            };
            lines[member].send(JOIN_VERSION, &request)?;
            // A member that joins before the leader has is told the generation that it is in already.
            if member == self.leader && self.generation > 0 {
                let other = (member + 1) % self.members.len();
                while lines[other].ask_heartbeat(self, other)? == ErrorCode::None {}
            }
        }
        let mut joined = 0;
        for (member, line) in lines.iter_mut().enumerate() {
            let answer = line.receive::<JoinGroupRequest<'_>>(JOIN_VERSION)?;
            ensure!(answer.error_code == ErrorCode::None, "a join was answered {}", answer.error_code);
            self.generation = answer.generation_id;
            self.members[member] = answer.member_id.to_string();
            if answer.leader == answer.member_id {
                (self.leader, joined) = (member, answer.members.len());
            }
        }
        ensure!(joined == lines.len(), "{joined} of {} members are in generation {}", lines.len(), self.generation);
        for (member, line) in lines.iter_mut().enumerate() {
            let assigned = self.members.iter().filter(|_| member == self.leader);
            let assignments =
                assigned.map(|id| SyncGroupRequestAssignment { member_id: id.as_str().into(), assignment: &METADATA });
            let request = SyncGroupRequest {
                group_id: self.id.as_str().into(),
                generation_id: self.generation,
                member_id: self.members[member].as_str().into(),
                group_instance_id: None,
                protocol_type: None,
                protocol_name: None,
                assignments: assignments.collect(),
            };
            line.send(SYNC_VERSION, &request)?;
        }
        for line in lines {
            let answer = line.receive::<SyncGroupRequest<'_>>(SYNC_VERSION).context("waiting for an assignment")?;
            ensure!(answer.error_code == ErrorCode::None, "a sync was answered {}", answer.error_code);
            ensure!(answer.assignment == METADATA, "a member was assigned something else");
        }
        Ok(())
    }
}
