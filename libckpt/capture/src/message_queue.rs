//! System V message queues. Messages are copied (MSG_COPY of msgrcv(2)): nothing is taken.
use crate::error::CaptureResult;
use crate::sysv_users::are_of_job;
use ckpt_image::record::MessageQueueV1;
use ckpt_sys::SysResult;
use ckpt_sys::sysv_msg::{self, Queue};

/// The queues that processes of the job were the last to use or wait at, and no living process outside of it. `waits`: the ids of those that
/// threads of the job wait at.
pub(crate) fn capture_message_queues(pids: &[i32], waits: &[i32]) -> CaptureResult<Vec<MessageQueueV1>> {
    let mut found = Vec::new();
    for queue in sysv_msg::list()? {
        let (sender, receiver) = queue.last_users;
        let users = [sender, receiver].into_iter().filter(|pid| *pid != 0).collect();
        if !are_of_job(users, waits.contains(&queue.id), pids) {
            continue;
        }
        match capture_queue(&queue) {
            Ok(record) => found.push(record),
            // Nobody but the job is using it, but it may be removed from outside.
            Err(error) if sysv_msg::is_missing(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found)
}

fn capture_queue(queue: &Queue) -> SysResult<MessageQueueV1> {
    let &Queue { id, key, mode, owner, .. } = queue;
    let mut messages = Vec::new();
    let mut number = 0;
    while let Some(message) = sysv_msg::peek(id, number)? {
        messages.push(message);
        number += 1;
    }
    Ok(MessageQueueV1 { id, key, mode, owner, most_bytes: sysv_msg::most_bytes(id)?, messages })
}
