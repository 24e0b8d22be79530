//! `kubectl sluice status` (effects around pure rendering).

use super::live::Live;
use super::table::{Table, age};
use crate::fleet::observed::{FleetView, GatewayView, PodPhase, PodView, SpecView};
use crate::fleet::views;
use crate::watch;
use jiff::Timestamp;
use std::fmt::Write as _;

/// All fleets of the namespace.
pub async fn fleets(live: &Live) -> anyhow::Result<String> {
    let fleets = live.list(&watch::fleets()).await?;
    if fleets.is_empty() {
        return Ok(format!(
            "No NotifyGateway in namespace {}.\n",
            live.namespace
        ));
    }
    let mut table = Table::new(&[
        "FLEET",
        "DESIRED",
        "READY",
        "DRAINING",
        "CONNECTIONS",
        "BUDGET",
        "DRILL",
        "STATE",
    ]);
    for object in &fleets {
        let fleet = views::fleet(object);
        let status = &fleet.status;
        table.row([
            fleet.name.clone(),
            desired(&fleet),
            status.ready_replicas.to_string(),
            status.draining_replicas.to_string(),
            status.connections.to_string(),
            status.reconnect_budget.clone().unwrap_or_default(),
            status.drill.clone().unwrap_or_default(),
            state(&fleet),
        ]);
    }
    Ok(table.text())
}

/// One fleet with its pods.
pub async fn fleet(live: &Live, name: &str) -> anyhow::Result<String> {
    let fleet = views::fleet(&live.get(&watch::fleets(), name).await?);
    let pods = live.pods(&fleet).await?;
    Ok(render(&fleet, &pods, Timestamp::now()))
}

fn render(fleet: &FleetView, pods: &[PodView], now: Timestamp) -> String {
    let status = &fleet.status;
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let mut text = format!(
        "Fleet        {}/{}\nPods         {} ready of {}, {} draining\nConnections  about {}\n\
         Reconnects   {} per second in use / allowed\nRevision     {} (stable {})\nDrill        {}\n",
        fleet.namespace,
        fleet.name,
        status.ready_replicas,
        desired(fleet),
        status.draining_replicas,
        status.connections,
        or_dash(&status.reconnect_budget),
        or_dash(&status.current_revision),
        or_dash(&status.stable_revision),
        or_dash(&status.drill),
    );
    if let SpecView::Unreadable(why) = &fleet.spec {
        let _ = writeln!(text, "Spec         cannot be read: {why}");
    }
    text += "\n";
    let mut conditions = Table::new(&["CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"]);
    for condition in &status.conditions {
        let since = now
            .duration_since(condition.last_transition_time.0)
            .as_secs();
        conditions.row([
            condition.type_.clone(),
            condition.status.clone(),
            condition.reason.clone(),
            age(since),
            condition.message.clone(),
        ]);
    }
    text += &conditions.text();
    text += "\n";
    let mut table = Table::new(&[
        "POD",
        "SLOT",
        "ZONE",
        "NODE",
        "REVISION",
        "STATE",
        "CONNECTIONS",
        "AGE",
    ]);
    for pod in pods {
        table.row([
            pod.name.clone(),
            pod.slot.map(|slot| slot.to_string()).unwrap_or_default(),
            pod.zone.clone(),
            pod.node.clone().unwrap_or_default(),
            pod.revision.clone(),
            pod_state(pod),
            connections(pod),
            age(now.duration_since(pod.created).as_secs()),
        ]);
    }
    text + &table.text()
}

fn desired(fleet: &FleetView) -> String {
    match &fleet.spec {
        SpecView::Read(spec) => spec.replicas.to_string(),
        SpecView::Unreadable(_) => "?".to_owned(),
    }
}

/// The most important thing its conditions say.
fn state(fleet: &FleetView) -> String {
    let find = |kind: &str, value: &str| {
        let mut all = fleet.status.conditions.iter();
        all.find(|c| c.type_ == kind && c.status == value)
    };
    if let SpecView::Unreadable(_) = fleet.spec {
        return "SpecUnreadable".to_owned();
    }
    let worst = find("SpecValid", "False")
        .or_else(|| find("Draining", "True"))
        .or_else(|| find("Progressing", "True"))
        .or_else(|| find("Ready", "False"))
        .or_else(|| find("Ready", "True"));
    worst
        .map(|condition| condition.reason.clone())
        .unwrap_or_default()
}

fn pod_state(pod: &PodView) -> String {
    let state = match (pod.killed_at, &pod.drain, pod.phase) {
        (Some(_), _, _) => "terminating".to_owned(),
        (None, Some(mark), _) => format!("draining ({})", mark.reason.as_str()),
        (None, None, PodPhase::Running) if pod.ready && pod.accepting => "serving".to_owned(),
        (None, None, PodPhase::Running) if pod.ready => "ready, takes no new clients".to_owned(),
        (None, None, PodPhase::Running) => "not ready".to_owned(),
        (None, None, phase) => format!("{phase:?}").to_lowercase(),
    };
    match pod.unschedulable_since {
        Some(_) => format!("{state}, no node fits"),
        None => state,
    }
}

fn connections(pod: &PodView) -> String {
    match &pod.gateway {
        GatewayView::Seen(state) => state.connections.to_string(),
        GatewayView::Unseen => String::new(),
    }
}
