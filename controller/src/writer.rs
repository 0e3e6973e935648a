//! The task behind the queue: takes office when this controller leads, decides in rounds, and proposes.
//!
//! At any moment at most one entry of this controller's is under way, and the image that decisions see is the applied one
//! plus what this round decided. When the fate of an entry is unknown, nothing more is decided in that term until it is
//! known: the next decisions would rest on a guess.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use rand::RngExt;
use tokio::sync::{mpsc, watch};
use vltava_metadata::Image;
use vltava_model::{ErrorCode, MetadataOffset};
use vltava_proto::v1::{MetadataEntry, MetadataRecord};
use vltava_raft_store::Command;

use crate::decide::{self, MAX_ENTRY_BYTES, View, entries};
use crate::liveness::{Liveness, Patience};
use crate::machine::{Outcome, Published};
use crate::queue::{Decided, Finish, Job, QueueError};
use crate::raft::leadership::{Leadership, Situation};
use crate::raft::local::Local;
use crate::raft::peers::Peers;
use crate::raft::{Raft, forming};
use crate::tenure::Tenure;

/// The most requests of one round.
const ROUND: usize = 1_024;

/// How long to wait before office is tried to be taken again.
const PAUSE: Duration = Duration::from_millis(50);

/// The single writer.
pub(crate) struct Writer {
    pub raft: Raft,
    pub published: Published,
    pub jobs: mpsc::Receiver<Box<dyn Job>>,
    pub situation: watch::Receiver<Situation>,
    pub tenure: watch::Sender<Option<Arc<Tenure>>>,
    pub settings: decide::Settings,
    pub patience: Patience,
    pub local: Arc<Local>,
    pub peers: Peers,
}

/// The place was lost, or the outcome of an entry is not known: nothing more is decided in this tenure.
struct OutOfOffice;

/// What a round has decided.
struct Round {
    /// The applied image with this round's records.
    image: Image,
    records: Vec<MetadataRecord>,
    bytes: usize,
    parked: Vec<Parked>,
}

/// Somebody who waits for records to be applied.
struct Parked {
    /// Where its records begin.
    start: MetadataOffset,
    /// It is answered when everything below is applied.
    end: MetadataOffset,
    finish: Finish,
}

impl Writer {
    /// Works until the queue is closed.
    pub(crate) async fn run(mut self) {
        loop {
            let situation = self.situation.borrow_and_update().clone();
            if situation.leads_in(situation.term) {
                let taken = self.take_office(situation.term).await;
                let go_on = taken.is_err() || self.serve(situation.term).await;
                self.tenure.send_replace(None);
                if !go_on {
                    return;
                }
                if taken.is_err() {
                    tokio::time::sleep(PAUSE).await;
                }
                continue;
            }
            tokio::select! {
                changed = self.situation.changed() => if changed.is_err() { return },
                job = self.jobs.recv() => match job {
                    Some(job) => job.refuse(self.not_active()),
                    None => return,
                },
            }
        }
    }

    fn not_active(&self) -> QueueError {
        // Where this node is named as the leader it is not ready yet; it says so by naming nobody.
        let leader = match &self.situation.borrow().leadership {
            Leadership::Following { leader, .. } => Some(*leader),
            _ => None,
        };
        QueueError::NotActive { leader }
    }

    /// Writes what a new cluster needs, and ends what the controller before left half-done.
    async fn take_office(&mut self, term: u64) -> Result<(), OutOfOffice> {
        let image = self.published.image();
        let tenure = Arc::new(Tenure::begin(term, self.patience, &image));
        if image.cluster_id().is_none() {
            let cluster = forming::choose_cluster(&self.raft, &self.local, &self.peers).await;
            self.own(term, &tenure, |view| decide::bootstrap::decide(view, cluster).map(|made| made.records))
                .await?;
        }
        self.own(term, &tenure, |view| Ok(decide::activate::decide(view).records)).await?;
        tracing::info!(term, offset = %self.published.image().offset(), "this controller is active");
        self.tenure.send_replace(Some(tenure));
        Ok(())
    }

    /// A decision of the controller's own.
    async fn own(
        &mut self,
        term: u64,
        tenure: &Tenure,
        decide: impl FnOnce(&View) -> Result<Vec<MetadataRecord>, decide::Refusal>,
    ) -> Result<(), OutOfOffice> {
        let mut round = self.new_round();
        let liveness = tenure.liveness().clone();
        let records = decide(&self.view(&round.image, &liveness, tenure));
        let records = records.map_err(|refusal| {
            tracing::error!(%refusal, "taking office failed");
            OutOfOffice
        })?;
        round.take(Decided { records, finish: Box::new(|_| {}) });
        self.propose(term, round).await
    }

    /// Decides until the place is lost (`true`) or the queue is closed (`false`).
    async fn serve(&mut self, term: u64) -> bool {
        let Some(tenure) = self.tenure.borrow().clone() else { return true };
        loop {
            let first = tokio::select! {
                biased;
                changed = self.situation.changed() => {
                    if changed.is_err() {
                        return false;
                    }
                    if !self.situation.borrow_and_update().leads_in(term) {
                        return true;
                    }
                    continue;
                }
                job = self.jobs.recv() => match job {
                    Some(job) => job,
                    None => return false,
                },
            };
            let round = self.decide_round(first, &tenure);
            if self.propose(term, round).await.is_err() {
                return true;
            }
        }
    }

    fn new_round(&self) -> Round {
        let image = Image::clone(&self.published.image());
        Round { image, records: Vec::new(), bytes: 0, parked: Vec::new() }
    }

    fn view<'a>(&'a self, image: &'a Image, liveness: &'a Liveness, tenure: &Tenure) -> View<'a> {
        let seed = rand::rng().random();
        View { image, settings: &self.settings, liveness, now: tenure.now(), seed }
    }

    fn decide_round(&mut self, first: Box<dyn Job>, tenure: &Tenure) -> Round {
        let liveness = tenure.liveness().clone();
        let mut round = self.new_round();
        let mut next = Some(first);
        while let Some(job) = next.take() {
            if job.is_wanted() {
                let decided = job.decide(&self.view(&round.image, &liveness, tenure));
                round.take(decided);
            }
            if round.parked.len() < ROUND && round.bytes < MAX_ENTRY_BYTES {
                next = self.jobs.try_recv().ok();
            }
        }
        round
    }

    /// Proposes a round and answers those who wait for it.
    async fn propose(&mut self, term: u64, round: Round) -> Result<(), OutOfOffice> {
        let Round { records, parked, .. } = round;
        let mut parked = parked.into_iter().peekable();
        let mut base = self.published.image().offset();
        for records in entries(records) {
            let end = MetadataOffset::new(base.get() + records.len() as u64);
            while let Some(ready) = parked.next_if(|waiting| waiting.end <= base) {
                (ready.finish)(Ok(()));
            }
            if let Err(error) = self.commit(term, base, records).await {
                for Parked { start, finish, .. } in parked {
                    finish(Err(match &error {
                        // A part of it is done already.
                        _ if start < base => QueueError::OutcomeUnknown,
                        // Nothing of it was proposed.
                        QueueError::OutcomeUnknown if start >= end => self.not_active(),
                        error => error.clone(),
                    }));
                }
                return Err(OutOfOffice);
            }
            base = end;
        }
        for Parked { finish, .. } in parked {
            finish(Ok(()));
        }
        Ok(())
    }

    /// Has one entry committed and applied.
    async fn commit(
        &mut self,
        term: u64,
        base: MetadataOffset,
        records: Vec<MetadataRecord>,
    ) -> Result<(), QueueError> {
        let entry = MetadataEntry { base_offset: base.get(), records };
        let command = Command(Bytes::from(entry.encode_to_vec()));
        let raft = self.raft.clone();
        let write = raft.client_write(command);
        tokio::pin!(write);
        loop {
            tokio::select! {
                biased;
                written = &mut write => {
                    return match written {
                        Ok(written) if Outcome::from_bytes(&written.data.outcome) == Outcome::Applied => Ok(()),
                        // Refused when it was applied, by every node: another leader came in between.
                        Ok(_) => Err(self.not_active()),
                        // Never appended, or taken out of the log again.
                        Err(error) if error.forward_to_leader().is_some() => Err(self.not_active()),
                        Err(error) => {
                            tracing::error!(%error, "a metadata entry could not be written");
                            Err(QueueError::OutcomeUnknown)
                        }
                    };
                }
                changed = self.situation.changed() => {
                    if changed.is_err() || !self.situation.borrow_and_update().leads_in(term) {
                        return Err(QueueError::OutcomeUnknown);
                    }
                }
            }
        }
    }
}

impl Round {
    /// Adds a decision. One whose records contradict the state is our own bug: it is dropped, loudly.
    fn take(&mut self, decided: Decided) {
        let Decided { records, finish } = decided;
        let start = self.image.offset();
        match self.image.replayed(start, &records) {
            Ok(after) => {
                self.image = after;
                self.bytes += records.iter().map(Message::encoded_len).sum::<usize>();
                self.records.extend(records);
                self.parked.push(Parked { start, end: self.image.offset(), finish });
            }
            Err(error) => {
                tracing::error!(%error, "a decision contradicts the metadata and is dropped; this is a bug");
                let why = format!("the decision contradicts the metadata: {error}");
                finish(Err(QueueError::Refused(decide::Refusal::new(ErrorCode::UnknownServerError, why))));
            }
        }
    }
}
