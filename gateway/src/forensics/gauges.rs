//! Effects (counters): the heap's numbers on `/metrics`.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::allocator;

type Amount = Gauge<u64, AtomicU64>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// The heap's numbers.
#[derive(Clone, Debug, Default)]
pub struct HeapGauges {
    allocated: Amount,
    resident: Amount,
    /// Only rises. A counter's name would have to end in `_total`, and then clash with `allocated`.
    allocated_total: Amount,
    allocations: Amount,
    snapshots: Family<ResultLabel, Counter>,
}

impl HeapGauges {
    /// Adds the numbers to `/metrics`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "sluice_heap_allocated_bytes",
            "Heap that the program holds",
            self.allocated.clone(),
        );
        registry.register(
            "sluice_heap_resident_bytes",
            "Memory behind the heap, free but not given back included",
            self.resident.clone(),
        );
        registry.register(
            "sluice_heap_allocated_total_bytes",
            "Heap handed out since the start; only rises",
            self.allocated_total.clone(),
        );
        registry.register(
            "sluice_heap_allocations",
            "Allocations since the start; only rises",
            self.allocations.clone(),
        );
        registry.register(
            "sluice_heap_snapshots",
            "Heap snapshots for the folder by how they ended",
            self.snapshots.clone(),
        );
        for result in ["kept", "failed"] {
            drop(self.snapshots.get_or_create(&ResultLabel { result }));
        }
    }

    /// Reads the allocator.
    pub fn refresh(&self) {
        let figures = allocator::figures();
        self.allocated.set(figures.allocated);
        self.resident.set(figures.resident);
        self.allocated_total.set(figures.allocated_total);
        self.allocations.set(figures.allocations);
    }

    /// Counts a snapshot that was to be kept.
    pub fn snapshot(&self, kept: bool) {
        let result = if kept { "kept" } else { "failed" };
        self.snapshots.get_or_create(&ResultLabel { result }).inc();
    }
}
