//! One connection: one request, one reply.
use super::Daemon;
use super::save::Ticket;
use crate::failure::{Failure, Outcome};
use crate::protocol::frame::{self, Frame};
use crate::protocol::{self, Answer, Request, Save, Source};
use crate::tickets;
use crate::worker::RestoreOrder;
use ckpt_image::CheckpointId;
use nix::unistd::geteuid;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long a client may take to send its request, or to let go of the connection.
const CLIENT: Duration = Duration::from_secs(30);

impl Daemon {
    /// Serves the client behind `socket`.
    pub(super) async fn serve(self: &Rc<Self>, socket: UnixStream) {
        let outcome = match self.request(&socket).await {
            Ok(None) => return,
            Ok(Some((request, frame, peer))) => return self.answer(socket, request, frame, peer).await,
            Err(failure) => Err(failure),
        };
        reply(&socket, outcome).await;
    }

    /// The request, if the peer may make one.
    async fn request(&self, socket: &UnixStream) -> Outcome<Option<(Request, Frame, i32)>> {
        let peer =
            socket.peer_cred().map_err(|error| Failure::new(format!("cannot tell who asks: {error}")))?;
        let me = geteuid().as_raw();
        if peer.uid() != me && peer.uid() != 0 {
            return Err(Failure::new(format!("this daemon belongs to {}", crate::endpoint::user_name(me))));
        }
        let pid = peer.pid().unwrap_or(0);
        match timeout(CLIENT, frame::receive_async(socket)).await {
            Err(_) | Ok(Ok(None)) => Ok(None),
            Ok(Err(error)) => Err(Failure::new(format!("a request was not understood: {error}"))),
            Ok(Ok(Some(frame))) => Ok(Some((protocol::decode_request(&frame.payload)?, frame, pid))),
        }
    }

    async fn answer(self: &Rc<Self>, socket: UnixStream, request: Request, frame: Frame, peer: i32) {
        tracing::debug!(peer, ?request, "request");
        let outcome = match request {
            Request::Register(register) => match self.register(register, frame.fds, peer).await {
                Ok((answer, turn)) => {
                    reply(&socket, Ok(answer)).await;
                    closed(&socket).await;
                    drop(turn);
                    return;
                }
                Err(failure) => Err(failure),
            },
            Request::Save(save) if save.notify => return self.save_with_ticket(socket, save, peer).await,
            Request::Save(save) => self.save_for_client(&save, peer).await.map(Answer::Saved),
            Request::Ticket { ticket } => self.ticket(ticket, peer),
            Request::Jobs => {
                self.sweep();
                Ok(Answer::Jobs { jobs: self.jobs.borrow().iter().map(|job| job.live()).collect() })
            }
            Request::Restore { id, tcp, files, pids, cgroups, lazy } => match id.parse::<CheckpointId>() {
                Ok(id) => {
                    let (store, id) = (self.store.clone(), id.to_string());
                    self.restore(RestoreOrder { store, id, tcp, files, pids, cgroups, lazy }).await
                }
                Err(error) => Err(Failure::usage(error)),
            },
        };
        reply(&socket, outcome).await;
    }

    /// A program saves itself: it gets a number and lets go of the connection, which would be part of its state.
    async fn save_with_ticket(self: &Rc<Self>, socket: UnixStream, save: Save, peer: i32) {
        let job = match self.job_of_peer(peer) {
            Ok(job) => job,
            Err(failure) => return reply(&socket, Err(failure)).await,
        };
        let ticket = self.new_ticket();
        reply(&socket, Ok(Answer::Ticket { ticket })).await;
        closed(&socket).await;
        let outcome = self.save_for_client(&save, peer).await;
        tickets::tell(&self.endpoint, ticket, &job.name, &outcome);
        self.tickets.borrow_mut().insert(ticket, Ticket::Done(outcome));
    }

    fn ticket(&self, number: u64, peer: i32) -> Outcome<Answer> {
        // The restored copy of a program that waits for its own checkpoint asks for the ticket of the original.
        if self
            .job_of_peer(peer)
            .is_ok_and(|job| job.source == Source::Restore && number <= job.first_ticket.get())
        {
            return Ok(Answer::IsRestored);
        }
        match self.tickets.borrow().get(&number) {
            Some(Ticket::Pending) => Ok(Answer::Pending),
            Some(Ticket::Done(outcome)) => outcome.clone().map(Answer::Saved),
            None => Err(Failure::new(
                "the daemon has ended meanwhile; whether the checkpoint was taken, `ckpt list` tells",
            )),
        }
    }
}

async fn reply(socket: &UnixStream, outcome: Outcome<Answer>) {
    if let Err(error) = frame::send_async(socket, &protocol::encode_reply(outcome), &[]).await {
        tracing::debug!("a client went away before its reply: {error}");
    }
}

/// Waits until the client has closed its end.
async fn closed(socket: &UnixStream) {
    let end = async {
        let mut byte = [0];
        loop {
            match socket.async_io(Interest::READABLE, || socket.try_read(&mut byte)).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
    };
    let _ = timeout(CLIENT, end).await;
}
