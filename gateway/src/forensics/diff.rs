//! Pure: what grew between two heap snapshots, by call path.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::paths::by_path;
use super::pprof::{Counts, Kind, Profile};
use super::size::{show, show_change};

/// One call path in both snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Function that allocated, then its callers.
    pub path: String,
    /// Bytes in the first snapshot.
    pub before: i64,
    /// Bytes in the second one.
    pub after: i64,
    /// By how many objects it grew.
    pub objects: i64,
}

impl Row {
    /// Bytes by which it grew; negative when it shrank.
    pub fn growth(&self) -> i64 {
        self.after.saturating_sub(self.before)
    }
}

/// Every call path that changed, the one that grew most first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Paths that changed.
    pub rows: Vec<Row>,
    /// Bytes of all paths in the first snapshot.
    pub before: i64,
    /// Bytes of all paths in the second one.
    pub after: i64,
}

/// Why a comparison fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Excess {
    /// All paths together grew too much.
    Total(i64),
    /// One path did, even if others shrank.
    Path(String, i64),
}

/// Compares one column of two snapshots.
pub fn diff(before: &Profile, after: &Profile, kind: Kind) -> Diff {
    let column = |counts: &Counts| match kind {
        Kind::Inuse => (counts.inuse_bytes, counts.inuse_objects),
        Kind::Allocs => (counts.alloc_bytes, counts.alloc_objects),
    };
    let mut both: BTreeMap<String, (Counts, Counts)> = BTreeMap::new();
    for (path, counts) in by_path(before) {
        both.entry(path).or_default().0 = counts;
    }
    for (path, counts) in by_path(after) {
        both.entry(path).or_default().1 = counts;
    }
    let mut found = Diff::default();
    for (path, (old, new)) in both {
        let ((before, objects_before), (after, objects_after)) = (column(&old), column(&new));
        found.before = found.before.saturating_add(before);
        found.after = found.after.saturating_add(after);
        if before != after {
            let objects = objects_after.saturating_sub(objects_before);
            found.rows.push(Row {
                path,
                before,
                after,
                objects,
            });
        }
    }
    // Sorted by name already, so equal growth stays in that order.
    found
        .rows
        .sort_by_key(|row| std::cmp::Reverse(row.growth()));
    found
}

impl Diff {
    /// Bytes by which everything together grew.
    pub fn total(&self) -> i64 {
        self.after.saturating_sub(self.before)
    }

    /// The same comparison without paths that pass through `module`.
    #[must_use]
    pub fn without(mut self, module: &str) -> Self {
        self.rows.retain(|row| {
            let own = row.path.contains(module);
            if own {
                self.before = self.before.saturating_sub(row.before);
                self.after = self.after.saturating_sub(row.after);
            }
            !own
        });
        self
    }

    /// What is above `limit` bytes: the sum, or one path that others hide by shrinking.
    pub fn excess(&self, limit: u64) -> Option<Excess> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        if self.total() > limit {
            return Some(Excess::Total(self.total()));
        }
        let worst = self.rows.first().filter(|row| row.growth() > limit)?;
        Some(Excess::Path(worst.path.clone(), worst.growth()))
    }

    /// A table of the `most` largest changes, growth first, and the sums.
    pub fn table(&self, most: usize) -> String {
        let mut text = format!(
            "{:>12} {:>10} {:>12} {:>12}  call path\n",
            "growth", "objects", "before", "after"
        );
        for row in self.rows.iter().take(most) {
            let _ = writeln!(
                text,
                "{:>12} {:>+10} {:>12} {:>12}  {}",
                show_change(row.growth()),
                row.objects,
                show(row.before),
                show(row.after),
                row.path
            );
        }
        if self.rows.len() > most {
            let left: i64 = self.rows[most..].iter().map(Row::growth).sum();
            let _ = writeln!(
                text,
                "{:>12} in {} more paths (--top shows more)",
                show_change(left),
                self.rows.len() - most
            );
        }
        text.push_str(&self.sums());
        text
    }

    fn sums(&self) -> String {
        let sum = |part: &dyn Fn(i64) -> bool| {
            let chosen = self.rows.iter().map(Row::growth).filter(|g| part(*g));
            chosen.fold((0usize, 0i64), |(n, sum), g| (n + 1, sum.saturating_add(g)))
        };
        let (grew, grown) = sum(&|g| g > 0);
        let (shrank, shrunk) = sum(&|g| g < 0);
        format!(
            "{:>12} in all, from {} to {}: {grew} paths grew by {}, {shrank} shrank by {}\n",
            show_change(self.total()),
            show(self.before),
            show(self.after),
            show(grown),
            show(-shrunk)
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::forensics::pprof::{Frame, Location, Sample};

    /// A profile with one path per name, its live bytes and its bytes since the start.
    fn profile(paths: &[(&str, i64, i64)]) -> Profile {
        let mut profile = Profile::default();
        for (name, live, all) in paths {
            profile.samples.push(Sample {
                stack: vec![profile.locations.len()],
                counts: Counts {
                    inuse_objects: live / 100,
                    inuse_bytes: *live,
                    alloc_objects: all / 100,
                    alloc_bytes: *all,
                },
            });
            let function = (*name).to_owned();
            let frame = Frame {
                function,
                ..Frame::default()
            };
            profile.locations.push(Location {
                address: 1,
                frames: vec![frame],
            });
        }
        profile
    }

    fn growths(diff: &Diff) -> Vec<(&str, i64)> {
        let rows = diff.rows.iter();
        rows.map(|row| (row.path.as_str(), row.growth())).collect()
    }

    #[test]
    fn growth_is_sorted_and_unchanged_paths_are_left_out() {
        let before = profile(&[("a::old", 500, 500), ("a::same", 7, 7), ("a::up", 100, 100)]);
        let after = profile(&[("a::same", 7, 9), ("a::up", 900, 900), ("a::new", 300, 300)]);
        let live = diff(&before, &after, Kind::Inuse);
        assert_eq!(
            growths(&live),
            [("a::up", 800), ("a::new", 300), ("a::old", -500)]
        );
        assert_eq!((live.before, live.after, live.total()), (607, 1207, 600));
        let made = diff(&before, &after, Kind::Allocs);
        assert_eq!(made.rows[2].path, "a::same");
    }

    #[test]
    fn the_sum_and_each_path_are_held_against_the_limit() {
        let before = profile(&[("a::down", 5000, 0), ("a::up", 0, 0)]);
        let after = profile(&[("a::down", 1000, 0), ("a::up", 4500, 0)]);
        let diff = diff(&before, &after, Kind::Inuse);
        assert_eq!(diff.total(), 500);
        assert_eq!(diff.excess(499), Some(Excess::Total(500)));
        assert_eq!(
            diff.excess(4499),
            Some(Excess::Path("a::up".to_owned(), 4500))
        );
        assert_eq!(diff.excess(4500), None);
    }

    #[test]
    fn equal_snapshots_have_no_rows() {
        let one = profile(&[("a::x", 5, 5)]);
        let none = diff(&one, &one, Kind::Inuse);
        assert!(none.rows.is_empty() && none.excess(0).is_none());
        assert!(none.table(5).contains("0 B in all, from 5 B to 5 B"));
    }

    #[test]
    fn one_module_can_be_left_out() {
        let before = profile(&[("a::x", 0, 0)]);
        let after = profile(&[("a::x", 0, 10), ("own::y", 0, 90)]);
        let made = diff(&before, &after, Kind::Allocs).without("own::");
        assert_eq!((growths(&made), made.total()), (vec![("a::x", 10)], 10));
    }

    #[test]
    fn the_table_says_what_it_leaves_out() {
        let after = profile(&[("a::x", 3 << 20, 0), ("a::y", 2048, 0), ("a::z", 10, 0)]);
        let table = diff(&Profile::default(), &after, Kind::Inuse).table(1);
        assert!(table.contains("+3.0 MiB     +31457          0 B      3.0 MiB  a::x"));
        assert!(table.contains("+2.0 KiB in 2 more paths"));
        assert!(!table.contains("a::y"));
    }
}
