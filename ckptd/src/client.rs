//! The command's side of the control socket, and how a missing daemon is started.
use crate::endpoint::Endpoint;
use crate::failure::{Failure, Outcome};
use crate::protocol::{self, Answer, LiveJob, Request, frame};
use crate::roster::Roster;
use ckpt_image::Store;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why there is no answer.
enum Broken {
    /// The daemon refused, and says why.
    Refused(Failure),
    /// It ended before it had read the request.
    Unread,
    /// It ended with the request in its hands.
    Died,
    /// The connection failed.
    Other(io::Error),
}

/// The daemon of one store.
pub(crate) struct Client {
    store: PathBuf,
    endpoint: Endpoint,
}

impl Client {
    /// The daemon of the store at `store`, if that exists.
    pub(crate) fn of_existing(store: &Path) -> Outcome<Self> {
        let store = store
            .canonicalize()
            .map_err(|error| Failure::new(format!("{}: cannot use this store: {error}", store.display())))?;
        let endpoint = Endpoint::of_store(&store);
        Ok(Self { store, endpoint })
    }

    /// The daemon of the store at `store`, which is made if it does not exist.
    pub(crate) fn of_store(store: &Path) -> Outcome<Self> {
        Store::open_or_create(store)?;
        Self::of_existing(store)
    }

    /// Sends a request to the daemon, which is started if need be, and waits for the answer.
    pub(crate) fn call(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Outcome<Answer> {
        self.call_and_hold(request, fds).map(|(answer, _)| answer)
    }

    /// Like [`Client::call`], and keeps the connection. Until it is dropped, the daemon saves nothing of a job that
    /// was registered by it.
    pub(crate) fn call_and_hold(
        &self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Outcome<(Answer, UnixStream)> {
        let mut retried = false;
        loop {
            let socket = match self.connect()? {
                Some(socket) => socket,
                None => {
                    self.start()?;
                    self.connect()?.ok_or_else(|| self.gone("ended as soon as it had started"))?
                }
            };
            match self.exchange(&socket, request, fds) {
                // It ended without having read the request: another one will.
                Err(Broken::Unread) if !retried => retried = true,
                Err(broken) => return Err(self.failure(broken)),
                Ok(answer) => return Ok((answer, socket)),
            }
        }
    }

    /// Like [`Client::call`], but only if a daemon runs.
    pub(crate) fn call_running(&self, request: &Request) -> Outcome<Option<Answer>> {
        match self.connect()? {
            Some(socket) => match self.exchange(&socket, request, &[]) {
                Ok(answer) => Ok(Some(answer)),
                Err(Broken::Unread) => Ok(None),
                Err(broken) => Err(self.failure(broken)),
            },
            None => Ok(None),
        }
    }

    /// Jobs of a daemon that is gone, which run on without one.
    pub(crate) fn orphans(&self) -> Vec<LiveJob> {
        Roster::read(&self.endpoint).survivors().into_iter().map(LiveJob::from).collect()
    }

    /// To be called before a job is restored by anybody but the daemon.
    pub(crate) fn forget_tickets(&self, job: &str) {
        crate::tickets::forget(&self.endpoint, Some(job));
    }

    fn connect(&self) -> Outcome<Option<UnixStream>> {
        match self.endpoint.connect() {
            Ok(socket) => Ok(Some(socket)),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                Ok(None)
            }
            Err(error) => Err(Failure::new(format!(
                "cannot reach the daemon at {}: {error}",
                self.endpoint.socket().display()
            ))
            .remedy("use the daemon's own user, or another CKPT_RUNTIME_DIR")),
        }
    }

    fn exchange(
        &self,
        socket: &UnixStream,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Answer, Broken> {
        // A daemon that refuses the peer replies and closes without reading: the reply counts, not the broken pipe.
        let sent = frame::send(socket, &protocol::encode_request(request), fds);
        match frame::receive(socket) {
            Ok(Some(frame)) => protocol::decode_reply(&frame.payload).map_err(Broken::Refused),
            Ok(None) => Err(Broken::Died),
            // What unix(7) says of a listener that was closed before it had accepted, or read what was sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Err(Broken::Unread),
            Err(error) => Err(Broken::Other(sent.err().unwrap_or(error))),
        }
    }

    fn failure(&self, broken: Broken) -> Failure {
        match broken {
            Broken::Refused(failure) => failure,
            Broken::Unread => self.gone("died before it read the request"),
            Broken::Died => self.gone("died before it answered"),
            Broken::Other(error) => self.gone(&format!("broke off ({error})")),
        }
    }

    fn gone(&self, how: &str) -> Failure {
        Failure::new(format!("the daemon {how}")).remedy(format!(
            "its log is {}; the jobs run on, the next command starts a new one, `ckpt list` shows what is saved",
            self.endpoint.log().display()
        ))
    }

    fn start(&self) -> Outcome<()> {
        let fail = |why: String| {
            Failure::new(format!("cannot start the daemon: {why}"))
                .remedy("`ckpt daemon` runs it in the foreground")
        };
        // The link itself would make `exe` the daemon's name; it is the way to an executable that was replaced.
        let executable = std::env::current_exe().ok().filter(|path| path.exists());
        let output = Command::new(executable.unwrap_or_else(|| "/proc/self/exe".into()))
            .args(["daemon", "--background", "--store"])
            .arg(&self.store)
            // libckpt.so has no business in the daemon.
            .env_remove("LD_PRELOAD")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .map_err(|error| fail(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().next().unwrap_or_default();
        Err(fail(match line.strip_prefix("ckpt: ").unwrap_or(line) {
            "" => format!("it ended with {}", output.status),
            line => line.to_owned(),
        }))
    }
}
