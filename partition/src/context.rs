//! What a role may see and change during one step: the log, the settings, the time, and the list of effects.

use vltava_model::{BrokerEpoch, ErrorCode, NodeId, Offset};

use crate::effect::{Acked, Effect};
use crate::event::{Ability, Assignment, Durability, ProposalId, ReplicaIdentity, Settings, Token};
use crate::offsets::LogState;
use crate::time::Time;

/// Everything of a step but the role itself.
pub(crate) struct Context<'a> {
    pub(crate) local: ReplicaIdentity,
    pub(crate) settings: &'a Settings,
    pub(crate) assignment: &'a Assignment,
    pub(crate) log: &'a mut LogState,
    pub(crate) ability: Ability,
    pub(crate) proposals: &'a mut u64,
    pub(crate) now: Time,
    pub(crate) effects: &'a mut Vec<Effect>,
}

impl Context<'_> {
    pub(crate) fn emit(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(crate) fn durability(&self) -> Durability {
        self.settings.durability
    }

    /// The registration under which a replica may be in the ISR now.
    pub(crate) fn eligible(&self, node: NodeId) -> Option<BrokerEpoch> {
        self.assignment.eligible.iter().find(|(other, _)| *other == node).map(|(_, epoch)| *epoch)
    }

    /// `min.insync.replicas`, which more than all replicas cannot be.
    pub(crate) fn min_insync(&self) -> usize {
        let wanted = usize::try_from(self.settings.min_insync).unwrap_or(usize::MAX);
        wanted.min(self.assignment.state.replicas.len()).max(1)
    }

    pub(crate) fn next_proposal(&mut self) -> ProposalId {
        *self.proposals += 1;
        ProposalId::new(*self.proposals)
    }

    pub(crate) fn acknowledge(&mut self, token: Token, base_offset: Offset) {
        let log_start = self.log.offsets().log_start;
        self.emit(Effect::Ack { token, result: Ok(Acked { base_offset, log_start }) });
    }

    pub(crate) fn refuse(&mut self, token: Token, code: ErrorCode) {
        self.emit(Effect::Ack { token, result: Err(code) });
    }
}
