//! Pure: what others may order a connection to do.

use std::sync::Arc;
use std::time::Duration;

/// One order.
#[derive(Clone, Debug)]
pub enum Control {
    /// Ask the client to connect elsewhere.
    Migrate {
        /// Why, one snake_case word.
        reason: Arc<str>,
        /// Earliest moment for its new connection, from now.
        not_before: Duration,
    },
    /// The drain was taken back: nobody has to go.
    Stay,
    /// Another connection took over the session; this one goes on for so long.
    Replaced(Duration),
    /// Close with 1012 now.
    Drained,
}

/// Orders that a connection has not looked at yet. Repeated ones of a kind replace each other, so there are never many.
#[derive(Debug, Default)]
pub struct Orders(Vec<Control>);

impl Orders {
    /// Adds an order.
    pub fn push(&mut self, order: Control) {
        let kind = std::mem::discriminant(&order);
        self.0.retain(|known| std::mem::discriminant(known) != kind);
        self.0.push(order);
    }

    /// Takes all, in the order in which they came.
    pub fn take(&mut self) -> Vec<Control> {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_kind_counts() {
        let mut orders = Orders::default();
        for order in [
            Control::Stay,
            Control::Replaced(Duration::MAX),
            Control::Stay,
            Control::Replaced(Duration::ZERO),
        ] {
            orders.push(order);
        }
        let left = orders.take();
        assert!(
            matches!(left[..], [Control::Stay, Control::Replaced(Duration::ZERO)]),
            "{left:?}"
        );
        assert!(orders.take().is_empty());
    }
}
