//! The fleet's objects other than pods (pure).

use super::action::{Action, Plan};
use super::settled::Settled;
use crate::fleet::render;
use crate::limits;
use sluice_crds::names;
use std::collections::BTreeSet;

/// Whatever pods need, before any pod: the Secret they mount, the revision they are of, the Services.
pub fn ensure(settled: &Settled<'_>, plan: &mut Plan) {
    let observed = settled.observed;
    if !observed.secret_present {
        plan.actions.push(Action::CreateSecret {
            name: names::fleet_secret(&settled.fleet.name),
            keys: names::FLEET_KEYS.map(str::to_owned).to_vec(),
            bytes: limits::SECRET_BYTES,
        });
    }
    if !observed
        .revisions
        .iter()
        .any(|view| view.hash == settled.hash)
    {
        let newest = observed
            .revisions
            .iter()
            .map(|view| view.number)
            .max()
            .unwrap_or(0);
        let object = render::controller_revision(
            settled.fleet,
            &settled.hash,
            newest.saturating_add(1),
            &settled.revision,
        );
        plan.actions.push(Action::CreateRevision {
            object: Box::new(object),
        });
    }
    for (kind, name, object) in render::children(settled.fleet, settled.spec) {
        let as_rendered = observed
            .children
            .iter()
            .any(|child| child.kind == kind && render::contains(&child.object, &object));
        if !as_rendered {
            plan.actions
                .push(Action::EnsureChild { kind, name, object });
        }
    }
}

/// Past revisions that nothing uses, beyond the history limit, oldest first.
pub fn forget(settled: &Settled<'_>, plan: &mut Plan) {
    let observed = settled.observed;
    let mut used: BTreeSet<&str> = observed
        .pods
        .iter()
        .map(|pod| pod.revision.as_str())
        .collect();
    used.insert(&settled.hash);
    used.extend(observed.fleet.status.stable_revision.as_deref());
    let mut past: Vec<_> = observed
        .revisions
        .iter()
        .filter(|view| !used.contains(view.hash.as_str()))
        .collect();
    past.sort_by_key(|view| (view.number, view.name.clone()));
    let beyond = past.len().saturating_sub(limits::REVISION_HISTORY);
    plan.actions.extend(
        past.into_iter()
            .take(beyond)
            .map(|view| Action::DeleteRevision {
                name: view.name.clone(),
            }),
    );
}
