//! Pure: names of snapshot files, and which ones make room for the next.

/// Ends every snapshot's name; other files in the folder are never touched.
pub const SUFFIX: &str = ".pb.gz";
const PREFIX: &str = "heap-";

/// A snapshot in the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// File name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// `heap-20261121T142412.123Z.pb.gz`: sorts by time.
pub fn file_name(unix_ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(unix_ms).unwrap_or_default();
    format!("{PREFIX}{}{SUFFIX}", time.strftime("%Y%m%dT%H%M%S.%3fZ"))
}

/// True for names that [`file_name`] makes.
pub fn is_snapshot(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// Snapshots to remove, oldest first, so that one more of `incoming` bytes keeps within both limits.
pub fn surplus(mut kept: Vec<Kept>, incoming: u64, most: usize, most_bytes: u64) -> Vec<String> {
    kept.sort_by(|a, b| a.name.cmp(&b.name));
    let mut bytes = kept
        .iter()
        .fold(incoming, |sum, k| sum.saturating_add(k.bytes));
    let mut files = kept.len() + 1;
    let mut gone = Vec::new();
    for oldest in kept {
        if files <= most && bytes <= most_bytes {
            break;
        }
        files -= 1;
        bytes -= oldest.bytes;
        gone.push(oldest.name);
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(sizes: &[u64]) -> Vec<Kept> {
        let name = |(i, &bytes): (i64, &u64)| Kept {
            name: file_name(i * 1000),
            bytes,
        };
        let mut kept: Vec<Kept> = (0..).zip(sizes).map(name).collect();
        kept.reverse();
        kept
    }

    #[test]
    fn names_sort_by_time_and_are_recognised() {
        let name = file_name(1_795_271_052_007);
        assert_eq!(name, "heap-20261121T142412.007Z.pb.gz");
        assert!(is_snapshot(&name) && file_name(1_795_271_052_008) > name);
        assert!(!is_snapshot("notes.txt") && !is_snapshot("heap-x.pb.gz.part"));
    }

    #[test]
    fn the_oldest_make_room() {
        assert!(surplus(kept(&[10, 10]), 10, 3, 100).is_empty());
        assert_eq!(surplus(kept(&[10, 10, 10]), 10, 3, 100), [file_name(0)]);
        assert_eq!(surplus(kept(&[50, 40, 5]), 50, 9, 100), [file_name(0)]);
        assert_eq!(surplus(kept(&[50, 40, 5]), 95, 9, 100).len(), 2);
        assert_eq!(surplus(kept(&[1, 1]), 101, 9, 100).len(), 2);
    }
}
