//! The messages themselves.
use crate::failure::{Failure, Outcome};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Version of the protocol. A daemon and a client of different versions refuse each other.
pub(crate) const VERSION: u32 = 1;

/// What a client asks of the daemon.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Request {
    /// Put a process tree under protection. The frame's descriptors are userfaultfds, one for each of `tracked`.
    Register(Register),
    /// Take a checkpoint.
    Save(Save),
    /// How the save that was asked for with `notify` went.
    Ticket {
        /// The number the daemon gave it.
        ticket: u64,
    },
    /// The live jobs.
    Jobs,
    /// Bring a checkpoint back, detached.
    Restore {
        /// Its id.
        id: String,
        /// What becomes of TCP connections to the outside.
        #[serde(default)]
        tcp: ckpt_restore::OutsideConnections,
        /// What becomes of it when files are not what they were.
        #[serde(default)]
        files: ckpt_restore::ChangedFiles,
        /// Which pids it gets.
        #[serde(default)]
        pids: PidNamespace,
        /// Where its control groups go; None: it is in the daemon's.
        #[serde(default)]
        cgroups: Option<Vec<ckpt_restore::CgroupRoot>>,
        /// It runs before its memory is there.
        #[serde(default)]
        lazy: bool,
    },
}

/// Among which pids a job gets those that it had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PidNamespace {
    /// Those of a PID namespace of its own if it had one, else those that are here.
    #[default]
    AsItWas,
    /// Those that are here.
    Ours,
    /// Those of a PID namespace of its own.
    New,
}

impl From<PidNamespace> for ckpt_restore::PidNamespace {
    fn from(choice: PidNamespace) -> Self {
        match choice {
            PidNamespace::AsItWas => Self::AsItWas,
            PidNamespace::Ours => Self::Ours,
            PidNamespace::New => Self::New,
        }
    }
}

/// Who asks for a registration: it decides how conflicts are settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    /// `ckpt run`
    Run,
    /// `ckpt attach`, or `ckpt save` of a pid
    Attach,
    /// libckpt.so in the process itself
    Preload,
    /// `ckpt restore`
    Restore,
}

/// See [`Request::Register`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Register {
    /// The root process; `None` is the peer itself.
    #[serde(default)]
    pub(crate) pid: Option<i32>,
    /// Name that the user gave.
    #[serde(default)]
    pub(crate) name: Option<String>,
    /// Name to derive the job's from when the user gave none.
    #[serde(default)]
    pub(crate) default_name: Option<String>,
    /// Time between checkpoints, as the user wrote it.
    #[serde(default)]
    pub(crate) every: Option<String>,
    /// How many checkpoints are kept, as the user wrote it.
    #[serde(default)]
    pub(crate) keep: Option<String>,
    /// For how long they are kept, as the user wrote it.
    #[serde(default)]
    pub(crate) keep_for: Option<String>,
    /// Who asks.
    pub(crate) source: Source,
    /// The processes whose userfaultfds come with the frame, in their order; 0 is the peer.
    #[serde(default)]
    pub(crate) tracked: Vec<i32>,
    /// The checkpoint since which those userfaultfds have tracked writes.
    #[serde(default)]
    pub(crate) since: Option<String>,
    /// The peer is the parent of the root process and of all processes of the job that are left without one, and of no others.
    #[serde(default)]
    pub(crate) keeps: bool,
    /// Its memory is being filled: the last descriptor is the end of a pipe that tells when it is there ([`ckpt_restore::Filling`]).
    #[serde(default)]
    pub(crate) filling: bool,
}

/// See [`Request::Save`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Save {
    /// A job's name or a pid; `None` is the job of the peer itself.
    #[serde(default)]
    pub(crate) target: Option<String>,
    /// Take a full checkpoint even where an incremental one is possible.
    #[serde(default)]
    pub(crate) full: bool,
    /// End the job once it is saved.
    #[serde(default)]
    pub(crate) stop: bool,
    /// What becomes of TCP connections to the outside.
    #[serde(default)]
    pub(crate) tcp: ckpt_capture::OutsideConnections,
    /// What becomes of UNIX sockets that are connected to processes outside.
    #[serde(default)]
    pub(crate) unix_peer: ckpt_capture::UnixPeers,
    /// Answer at once with a ticket, for a program that saves itself and so must not hold a connection meanwhile.
    #[serde(default)]
    pub(crate) notify: bool,
}

/// A checkpoint that was taken, as `ckpt save --json` prints it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Saved {
    /// Id of the checkpoint.
    pub(crate) id: String,
    /// Name of the job.
    pub(crate) job: String,
    /// `full` or `incremental`.
    pub(crate) kind: String,
    /// Id of the checkpoint it needs.
    pub(crate) parent: Option<String>,
    /// Time in which no thread of the job ran, in microseconds.
    pub(crate) pause_us: u64,
    /// Pages that were copied in that time.
    pub(crate) pages_frozen: u64,
    /// Pages that were looked at.
    pub(crate) pages_scanned: u64,
    /// Pages that had changed.
    pub(crate) pages_dirty: u64,
    /// Bytes of memory that the checkpoint itself holds, before compression.
    pub(crate) bytes_memory: u64,
    /// Bytes written to the store.
    pub(crate) bytes_written: u64,
    /// Data files that the checkpoint holds.
    pub(crate) data_files: u64,
    /// Time from the request to the commit, in microseconds.
    pub(crate) duration_us: u64,
}

/// A job that runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LiveJob {
    /// Its name.
    pub(crate) job: String,
    /// Its root process.
    pub(crate) pid: i32,
    /// How it came under protection.
    pub(crate) source: Source,
    /// Time between checkpoints, in milliseconds.
    pub(crate) every_ms: Option<u64>,
    /// A checkpoint is being taken.
    pub(crate) saving: bool,
    /// Id of the last checkpoint of this run of it.
    pub(crate) last: Option<String>,
    /// Why the last attempt failed, if it did.
    pub(crate) last_error: Option<String>,
}

/// What the daemon answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The job's name.
    Registered {
        /// Its name.
        job: String,
    },
    /// The process already belongs to a job.
    Covered {
        /// That job's name.
        job: String,
    },
    /// The checkpoint.
    Saved(Saved),
    /// A save that was asked for with `notify`: ask again with this number.
    Ticket {
        /// The number.
        ticket: u64,
    },
    /// That save is not over yet.
    Pending,
    /// That save is over, and it is its checkpoint that runs here.
    IsRestored,
    /// The live jobs, oldest first.
    Jobs {
        /// The jobs.
        jobs: Vec<LiveJob>,
    },
    /// A restored job.
    Restored {
        /// Its name.
        job: String,
        /// Its root process.
        pid: i32,
    },
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    version: u32,
    request: T,
}

/// `version` and `ok` come first: libckpt.so, which has no JSON parser, looks for them there.
#[derive(Serialize, Deserialize)]
struct Reply<T> {
    version: u32,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

/// A request's payload.
pub(crate) fn encode_request<T: Serialize>(request: &T) -> Vec<u8> {
    encode(&Envelope { version: VERSION, request })
}

/// Reads a request.
///
/// # Errors
/// When it is of another version, or not understood.
pub(crate) fn decode_request<T: DeserializeOwned>(payload: &[u8]) -> Outcome<T> {
    check_version(payload, "client", "daemon")?;
    let envelope: Envelope<T> = parse(payload, "request")?;
    Ok(envelope.request)
}

/// A reply's payload.
pub(crate) fn encode_reply<T: Serialize>(outcome: Outcome<T>) -> Vec<u8> {
    let (ok, answer, error) = match outcome {
        Ok(answer) => (true, Some(answer), None),
        Err(failure) => (false, None, Some(failure)),
    };
    encode(&Reply { version: VERSION, ok, answer, error })
}

/// Reads a reply.
///
/// # Errors
/// The failure that the other side reports; or that the reply is of another version, or not understood.
pub(crate) fn decode_reply<T: DeserializeOwned>(payload: &[u8]) -> Outcome<T> {
    check_version(payload, "daemon", "client")?;
    let reply: Reply<T> = parse(payload, "reply")?;
    match (reply.answer, reply.error) {
        (Some(answer), _) => Ok(answer),
        (None, Some(failure)) => Err(failure),
        (None, None) => Err(Failure::new("the daemon's reply is empty")),
    }
}

fn check_version(payload: &[u8], theirs: &str, ours: &str) -> Outcome<()> {
    let VersionOnly { version } = parse(payload, "message")?;
    if version == VERSION {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the {theirs} speaks version {version} of the control protocol, this {ours} version {VERSION}"
    ))
    .remedy("end the daemon with SIGTERM (the jobs run on) and start one of the client's own version"))
}

fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    // Serialising these types into memory cannot fail: their map keys are strings and no number is a non-finite float.
    let mut payload = serde_json::to_vec(message).unwrap_or_default();
    payload.push(b'\n');
    payload
}

fn parse<T: DeserializeOwned>(payload: &[u8], what: &str) -> Outcome<T> {
    serde_json::from_slice(payload)
        .map_err(|error| Failure::new(format!("a {what} on the control socket was not understood: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_survives_the_way() {
        let payload = encode_request(&Request::Save(Save {
            target: Some("web".into()),
            full: true,
            stop: false,
            tcp: Default::default(),
            unix_peer: Default::default(),
            notify: false,
        }));
        assert_eq!(payload.last(), Some(&b'\n'));
        match decode_request::<Request>(&payload) {
            Ok(Request::Save(save)) => {
                assert_eq!(save.target.as_deref(), Some("web"));
                assert!(save.full && !save.stop);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_preload_library_finds_ok_where_it_looks() {
        let yes = encode_reply(Ok(Answer::Registered { job: "a".into() }));
        assert!(yes.starts_with(br#"{"version":1,"ok":true,"answer":{"is":"registered","#));
        let covered = encode_reply(Ok(Answer::Covered { job: "a".into() }));
        assert!(covered.starts_with(br#"{"version":1,"ok":true,"answer":{"is":"covered","#));
        let no = encode_reply::<Answer>(Err(Failure::new("x")));
        assert!(no.starts_with(br#"{"version":1,"ok":false,"error":{"code":1,"message":"x""#));
    }

    #[test]
    fn another_version_is_told_so() {
        let failure = decode_request::<Request>(br#"{"version":9,"request":{"op":"fly"}}"#).unwrap_err();
        assert!(failure.message.contains("version 9"), "{failure}");
        assert!(failure.remedy.is_some());
    }

    #[test]
    fn a_failure_survives_the_way() {
        let sent = Failure::usage("no such job").remedy("ckpt list");
        let failure = decode_reply::<Answer>(&encode_reply::<Answer>(Err(sent.clone()))).unwrap_err();
        assert_eq!(failure, sent);
    }
}
