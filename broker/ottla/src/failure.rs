//! How a command ends when it does not succeed: one exit code per kind of failure, words that say what to do next.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use ottla_client::{
    AdminError, Classify, ConfigError, ConnectionError, ConsumeError, ErrorCode, ProduceError, SendError,
};

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    /// What happened, without a full stop.
    message: String,
    /// What to try, if there is something to try.
    hint: Option<String>,
    /// Kafka's code, if a broker gave one.
    code: Option<ErrorCode>,
}

/// The kinds of failure; each has its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The reader of our output stopped reading: no failure of ours.
    ReaderGone,
    /// None of those below.
    Failed,
    /// The command line is wrong.
    Usage,
    /// No broker could be reached.
    Unreachable,
    /// What was named does not exist.
    NotFound,
    /// What was to be made exists.
    Exists,
    /// The broker does not accept it.
    Refused,
}

impl Kind {
    fn exit_code(self) -> u8 {
        match self {
            Self::ReaderGone => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::NotFound => 4,
            Self::Exists => 5,
            Self::Refused => 6,
        }
    }

    fn of(code: ErrorCode) -> Self {
        match code {
            ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownTopicId
            | ErrorCode::ResourceNotFound
            | ErrorCode::GroupIdNotFound => Self::NotFound,
            ErrorCode::TopicAlreadyExists => Self::Exists,
            code if code.is_retriable() => Self::Failed,
            _ => Self::Refused,
        }
    }
}

impl Failure {
    pub(crate) fn new(kind: Kind, message: impl Display) -> Self {
        Self { kind, message: message.to_string(), hint: None, code: None }
    }

    /// Adds what to try.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says it in other words.
    pub(crate) fn say(self, message: impl Display) -> Self {
        Self { message: message.to_string(), ..self }
    }

    #[cfg(test)]
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// What broker code it comes from.
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        self.code
    }

    /// Says it on stderr and returns the exit code.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        let exit = self.kind.exit_code();
        if self.kind != Kind::ReaderGone {
            let mut stderr = io::stderr().lock();
            let words = if json { self.to_json(exit) } else { self.to_text() };
            // That end may be closed too.
            let _ = writeln!(stderr, "{words}");
        }
        ExitCode::from(exit)
    }

    fn to_json(&self, exit: u8) -> String {
        let code = self.code.map(ErrorCode::name);
        serde_json::json!({ "error": self.message, "code": code, "hint": self.hint, "exit": exit }).to_string()
    }

    fn to_text(&self) -> String {
        match &self.hint {
            Some(hint) => format!("ottla: {}\n  {hint}", self.message),
            None => format!("ottla: {}", self.message),
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Kind::ReaderGone, error),
            _ => Self::new(Kind::Failed, error),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Kind::Usage, error)
    }
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Self {
        match &error {
            // The error's own words end in what to do; say that on a line of its own.
            ConnectionError::Unreachable { address, reason, hint } => {
                let failure = Self::new(Kind::Unreachable, format!("cannot reach {address}: {reason}"));
                match hint.trim_start_matches([';', ' ']) {
                    "" => failure,
                    hint => failure.hint(hint),
                }
            }
            ConnectionError::NotKafka { .. }
            | ConnectionError::Lost { .. }
            | ConnectionError::TimedOut { .. }
            | ConnectionError::UnknownBroker { .. } => Self::new(Kind::Unreachable, error),
            ConnectionError::Unsupported { .. } => {
                Self::new(Kind::Refused, error).hint("plugins need an Ottla broker; other commands work with any Kafka")
            }
            _ => Self::new(Kind::Failed, error),
        }
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Connection(error) => error.into(),
            AdminError::Refused { code, message: Some(message), subject } => {
                // The broker's own sentence says it best, unless it leaves out what it is about.
                let message =
                    if message.contains(&*subject) { message.to_string() } else { format!("{subject}: {message}") };
                Self { kind: Kind::of(code), message, hint: None, code: Some(code) }
            }
            AdminError::Refused { code, message: None, ref subject } => Self {
                kind: Kind::of(code),
                message: format!("{subject}: {} ({})", code.message().trim_end_matches('.'), code.name()),
                hint: None,
                code: Some(code),
            },
            error => Self::new(Kind::Failed, error),
        }
    }
}

impl From<ConsumeError> for Failure {
    fn from(error: ConsumeError) -> Self {
        let code = error.code();
        let kind = match &error {
            ConsumeError::Connection(error) => return error.clone().into(),
            ConsumeError::UnknownTopic { .. } | ConsumeError::NoSuchPartition { .. } => Kind::NotFound,
            ConsumeError::Refused { code, .. } => Kind::of(*code),
            _ => Kind::Failed,
        };
        Self { code, ..Self::new(kind, error) }
    }
}

impl From<ProduceError> for Failure {
    fn from(error: ProduceError) -> Self {
        let code = error.code();
        let kind = match &error {
            ProduceError::UnknownTopic { .. } | ProduceError::NoSuchPartition { .. } => Kind::NotFound,
            ProduceError::InvalidRecord { .. } => Kind::Refused,
            ProduceError::Refused { code, .. } => Kind::of(*code),
            _ => Kind::Failed,
        };
        Self { code, ..Self::new(kind, error) }
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Failed(error) => error.into(),
            SendError::NoSuchPartition { .. } => Self::new(Kind::NotFound, error),
            SendError::InvalidTopic(_) => Self::new(Kind::Usage, error),
            error => Self::new(Kind::Failed, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_can_tell_failures_apart() {
        let refused = |code| AdminError::Refused { subject: "t".into(), code, message: None };
        for (code, kind, exit) in [
            (ErrorCode::UnknownTopicOrPartition, Kind::NotFound, 4),
            (ErrorCode::TopicAlreadyExists, Kind::Exists, 5),
            (ErrorCode::InvalidConfig, Kind::Refused, 6),
            (ErrorCode::RequestTimedOut, Kind::Failed, 1),
        ] {
            let failure = Failure::from(refused(code));
            assert_eq!((failure.kind(), failure.kind().exit_code()), (kind, exit));
            assert!(failure.to_text().contains(code.name()), "{}", failure.to_text());
        }
        let gone = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!(gone.kind().exit_code(), 0);
    }

    #[test]
    fn the_way_out_of_a_failure_has_a_line_of_its_own() {
        let failure = Failure::from(ConnectionError::Unreachable {
            address: "127.0.0.1:9092".into(),
            reason: "connection refused".into(),
            hint: "; is the broker running? start it with `ottla serve`".into(),
        });
        assert_eq!(
            failure.to_text(),
            "ottla: cannot reach 127.0.0.1:9092: connection refused\n  is the broker running? start it with `ottla serve`"
        );
        let json: serde_json::Value = serde_json::from_str(&failure.to_json(3)).unwrap();
        assert_eq!(json["exit"], 3);
    }
}
