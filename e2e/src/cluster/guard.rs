//! Effects: a cluster that ends with the value that holds it.

use anyhow::Result;

use super::{Cluster, teardown};
use crate::progress::note;

/// Takes the cluster away when dropped, also when a future that holds it is.
pub struct Guard {
    cluster: Cluster,
    armed: bool,
}

impl std::ops::Deref for Guard {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Guard {
    /// The cluster stays, also after this program has ended.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub fn keep(&mut self) -> Result<()> {
        self.armed = false;
        self.cluster.keep()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        if let Err(error) = teardown::if_still(&self.cluster.state) {
            note(&format!("error: {error:#}"));
        }
    }
}

impl Cluster {
    /// Holds the cluster so that it ends with the guard.
    pub fn guard(self) -> Guard {
        Guard {
            cluster: self,
            armed: true,
        }
    }
}
