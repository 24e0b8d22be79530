//! What limits how many pods may go at once (pure): ready pods, room for clients, and the budget.

use super::census::{Census, Member, Stage};
use super::drains::{Drain, budget_left};
use super::roster::Roster;
use super::settled::Settled;
use crate::fleet::pacing::{self, Load};
use jiff::Timestamp;

/// What limits how many pods may go at once.
pub struct Gate<'a> {
    ready: usize,
    open: Vec<&'a str>,
    room: u64,
    heard_of: bool,
    budget_milli: u64,
    loads: Vec<Load>,
}

impl<'a> Gate<'a> {
    /// Counts what there is before anyone else goes.
    pub fn of(
        settled: &Settled<'_>,
        census: &Census<'_>,
        roster: &Roster<'a, '_>,
        drains: &[Drain<'_, '_>],
    ) -> Self {
        let moving: u64 = census
            .going()
            .map(|member| member.connections_at_most(settled))
            .sum();
        let open: Vec<_> = roster
            .accepting
            .iter()
            .filter(|(member, accepting)| *accepting && !member.doomed && !member.outdated)
            .map(|(member, _)| *member)
            .collect();
        let room: u64 = open.iter().map(|member| member.room(settled)).sum();
        Self {
            ready: census.staying().filter(|member| member.pod.ready).count()
                + roster
                    .taken_back
                    .iter()
                    .filter(|member| member.stage != Stage::Staying)
                    .count(),
            room: room.saturating_sub(moving),
            budget_milli: budget_left(settled, census),
            heard_of: open.iter().any(|member| member.gateway.is_some()),
            open: open
                .into_iter()
                .map(|member| member.pod.uid.as_str())
                .collect(),
            loads: drains.iter().map(|drain| drain.load.clone()).collect(),
        }
    }

    /// Lets a pod go with a deadline it can meet, or says what it waits for.
    pub fn admit(
        &mut self,
        settled: &Settled<'_>,
        member: &Member<'_>,
    ) -> Result<Timestamp, String> {
        let clients = member.connections_at_most(settled);
        if member.pod.ready && self.ready <= settled.wanted as usize {
            return Err("its replacement to become ready".to_owned());
        }
        // The pod's own room does not count for its own clients.
        let own = if self.open.contains(&member.pod.uid.as_str()) {
            member.room(settled)
        } else {
            0
        };
        let room = self.room.saturating_sub(own);
        let last_one = settled.wanted == 0;
        if room < clients && !last_one {
            return Err(if self.heard_of {
                "room for its clients on the pods that stay".to_owned()
            } else {
                "the gateways that stay to answer on their admin port".to_owned()
            });
        }
        let mut loads = self.loads.clone();
        loads.push(Load {
            remaining: clients,
            deadline: settled.drain_deadline(),
            hard: false,
            current_milli: 0,
        });
        let busy = !self.loads.is_empty() || self.budget_milli < settled.budget_milli;
        if busy && !pacing::feasible(&loads, self.budget_milli, settled.now) {
            return Err("the reconnect budget, which running drains use up".to_owned());
        }
        let reachable = pacing::reachable(clients, settled.budget_milli, settled.now);
        let deadline = settled.drain_deadline().max(reachable);
        if let Some(load) = loads.last_mut() {
            load.deadline = deadline;
        }
        self.loads = loads;
        self.room = room - clients.min(room);
        self.ready -= usize::from(member.pod.ready);
        Ok(deadline)
    }
}
