//! Waiting for the answers of certain tasks: one, or all of a list.

use std::time::Duration;

use tokio::sync::oneshot;

use super::TaskId;
use super::send::{Sender, Want};
use crate::{Error, Result};

/// While it is there, somebody waits for this one; afterwards a late answer is dropped.
struct Waiter<'s> {
    sender: &'s Sender,
    id: TaskId,
    answer: oneshot::Receiver<Result<Vec<u8>>>,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        // Not forgotten: it takes its room among the unanswered, and in the box, until it comes.
        if let Some(want) = self.sender.books().out.get_mut(&self.id.sequence) {
            *want = Want::Nobody;
        }
    }
}

impl Sender {
    /// Submits a task and waits for its answer, for at most `timeout` in all. An answer that comes later is dropped. Must be called inside a tokio runtime
    /// with I/O and time enabled.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::TaskLost`]; [`Error::TaskFailed`]; as [`submit`](Sender::submit).
    pub async fn task_wait(&self, data: &[u8], timeout: Duration) -> Result<Vec<u8>> {
        let answer = async {
            let mut waiter = self.submit_waiter(data).await?;
            self.settle(&mut waiter).await
        };
        tokio::time::timeout(timeout, answer).await.unwrap_or(Err(Error::Timeout { after: timeout }))
    }

    /// Submits all of `list` and waits for their answers, for at most `timeout` in all; one for each, in the order of the list. What has not come, or was not
    /// even submitted, by then is [`Error::Timeout`], and dropped when it comes. Must be called inside a tokio runtime with I/O and time enabled.
    pub async fn task_all<D: AsRef<[u8]>>(&self, list: &[D], timeout: Duration) -> Vec<Result<Vec<u8>>> {
        let mut answers: Vec<Option<Result<Vec<u8>>>> = list.iter().map(|_| None).collect();
        let mut waiters: Vec<Option<Waiter<'_>>> = list.iter().map(|_| None).collect();
        let all = async {
            for (n, data) in list.iter().enumerate() {
                match self.submit_waiter(data.as_ref()).await {
                    Ok(waiter) => waiters[n] = Some(waiter),
                    Err(error) => answers[n] = Some(Err(error)),
                }
            }
            for (waiter, answer) in waiters.iter_mut().zip(&mut answers) {
                if let Some(waiter) = waiter {
                    *answer = Some(self.settle(waiter).await);
                }
            }
        };
        let _ = tokio::time::timeout(timeout, all).await;
        for (waiter, answer) in waiters.iter_mut().zip(&mut answers) {
            // One that came while another was waited for.
            if let (Some(waiter), None) = (waiter, &answer) {
                *answer = waiter.answer.try_recv().ok();
            }
        }
        let late = || Err(Error::Timeout { after: timeout });
        answers.into_iter().map(|answer| answer.unwrap_or_else(late)).collect()
    }

    async fn submit_waiter(&self, data: &[u8]) -> Result<Waiter<'_>> {
        let (tell, answer) = oneshot::channel();
        let id = self.submit_for(data, Some(Want::One(tell))).await?;
        Ok(Waiter { sender: self, id, answer })
    }

    /// Waits for one answer, and books all others that come meanwhile, for nobody else may be there to do it.
    async fn settle(&self, waiter: &mut Waiter<'_>) -> Result<Vec<u8>> {
        loop {
            tokio::select! {
                biased;
                answer = &mut waiter.answer => return answer.unwrap_or(Err(Error::Closed)),
                lease = self.answers()?.recv_lease() => self.book(lease?)?,
            }
        }
    }
}
