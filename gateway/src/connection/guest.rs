//! Effects (counts): what a client takes up while it is connected, given back once it has said goodbye.

use super::DisconnectReason;
use crate::handshake::admission::Admitted;
use crate::health::visitors::Visitor;
use crate::registry::Place;

/// Whatever counts a client. Dropping it uncounts.
#[derive(Debug)]
pub struct Guest {
    /// Boxed, because addresses are watched on few gateways.
    visitor: Option<Box<Visitor>>,
    /// Of its user and its address.
    _admitted: Admitted,
    /// Last, so that whoever waits for the last place finds nothing else counted.
    _place: Place,
}

impl Guest {
    /// One client was let in.
    pub fn new(place: Place, admitted: Admitted, visitor: Option<Visitor>) -> Self {
        Self {
            visitor: visitor.map(Box::new),
            _admitted: admitted,
            _place: place,
        }
    }

    /// It has left; some reasons count against where it came from.
    pub(super) fn left(self, reason: DisconnectReason) {
        if let Some(visitor) = self.visitor {
            visitor.left(reason);
        }
    }
}
