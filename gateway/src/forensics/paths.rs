//! Pure: call paths for people. Frames of the allocator, the standard library and the runtime's own plumbing say nothing about
//! who asked for memory; without them, paths of the same origin fall together.

use std::collections::BTreeMap;

use super::pprof::{Counts, Profile};
use crate::limits;

/// Between a function and its caller.
const ARROW: &str = " ← ";

/// A call path whose program has no function names.
const NAMELESS: &str = "(no function names: the program was stripped)";

/// Where a path's functions come from when none of them says anything.
const PLUMBING: [&str; 9] = [
    "alloc::",
    "core::",
    "std::",
    "hashbrown::",
    "tikv_jemallocator::",
    "tokio::loom::",
    "tokio::runtime::",
    "tokio::task::",
    "backtrace::",
];

/// What each call path allocated; the keys are what people read.
pub fn by_path(profile: &Profile) -> BTreeMap<String, Counts> {
    let mut table: BTreeMap<String, Counts> = BTreeMap::new();
    for sample in &profile.samples {
        let names = sample
            .stack
            .iter()
            .filter_map(|&place| profile.locations.get(place))
            .flat_map(|location| &location.frames)
            .map(|frame| frame.function.as_str());
        let sum = table.entry(call_path(names)).or_default();
        let add = sample.counts;
        sum.alloc_objects = sum.alloc_objects.saturating_add(add.alloc_objects);
        sum.alloc_bytes = sum.alloc_bytes.saturating_add(add.alloc_bytes);
        sum.inuse_objects = sum.inuse_objects.saturating_add(add.inuse_objects);
        sum.inuse_bytes = sum.inuse_bytes.saturating_add(add.inuse_bytes);
    }
    table
}

/// The functions that say something, the one that allocated first, at most [`limits::HEAP_PATH_FRAMES`].
pub fn call_path<'a>(functions: impl Iterator<Item = &'a str> + Clone) -> String {
    let telling = functions.clone().filter(|f| !is_plumbing(f));
    let path = joined(telling);
    if !path.is_empty() {
        return path;
    }
    let all = joined(functions);
    if all.is_empty() {
        NAMELESS.to_owned()
    } else {
        all
    }
}

fn joined<'a>(functions: impl Iterator<Item = &'a str>) -> String {
    let mut path = String::new();
    let mut last = "";
    let mut frames = 0;
    for function in functions {
        let name = short(function);
        // A closure inside its function, and recursion, are one step.
        if name == last {
            continue;
        }
        if frames == limits::HEAP_PATH_FRAMES {
            break;
        }
        if frames > 0 {
            path.push_str(ARROW);
        }
        path.push_str(name);
        last = name;
        frames += 1;
    }
    path
}

/// Without what the compiler puts behind a function's name, and not longer than a line has room for.
fn short(function: &str) -> &str {
    let end = function.find("::{").unwrap_or(function.len());
    let name = &function[..end];
    match name.char_indices().nth(limits::HEAP_NAME_CHARS) {
        Some((cut, _)) => &name[..cut],
        None => name,
    }
}

fn is_plumbing(function: &str) -> bool {
    // `<type as trait>::method` belongs to the type's crate.
    let bare = function
        .trim_start_matches('<')
        .trim_start_matches('&')
        .trim_start_matches("mut ");
    // Functions of C have no path: jemalloc's own, and the thread's first ones.
    !bare.contains("::") || bare.starts_with("__") || PLUMBING.iter().any(|p| bare.starts_with(p))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forensics::pprof::{Frame, Location, Sample};

    fn path(functions: &[&str]) -> String {
        call_path(functions.iter().copied())
    }

    #[test]
    fn plumbing_is_left_out() {
        let stack = [
            "prof_backtrace_impl",
            "_rjem_malloc",
            "<tikv_jemallocator::Jemalloc as core::alloc::global::GlobalAlloc>::alloc",
            "__rustc::__rust_alloc",
            "alloc::raw_vec::RawVecInner<A>::try_allocate_in",
            "<alloc::vec::Vec<T> as core::clone::Clone>::clone",
            "sluice_gateway::hub::Hub::push",
            "sluice_gateway::publish::one::{closure#0}",
            "sluice_gateway::publish::one",
            "<axum::handler::future::IntoServiceFuture<F> as core::future::future::Future>::poll",
            "tokio::runtime::task::core::Core<T,S>::poll",
            "std::sys::thread::Thread::new::thread_start",
            "start_thread",
        ];
        assert_eq!(
            path(&stack),
            "sluice_gateway::hub::Hub::push ← sluice_gateway::publish::one ← <axum::handler::future::IntoServiceFuture<F> as core::future::future::Future>::poll"
        );
    }

    #[test]
    fn a_path_of_plumbing_alone_is_shown_whole() {
        assert_eq!(path(&["malloc", "std::rt::init"]), "malloc ← std::rt::init");
        assert!(path(&[]).contains("stripped"));
    }

    #[test]
    fn long_paths_end() {
        let deep: Vec<String> = (0..99).map(|i| format!("a::f{i}")).collect();
        let shown = call_path(deep.iter().map(String::as_str));
        assert_eq!(shown.matches(ARROW).count(), limits::HEAP_PATH_FRAMES - 1);
    }

    #[test]
    fn paths_of_the_same_origin_fall_together() {
        let at = |function: &str| Location {
            address: 1,
            frames: vec![Frame {
                function: function.to_owned(),
                ..Frame::default()
            }],
        };
        let sample = |stack: &[usize]| Sample {
            stack: stack.to_vec(),
            counts: Counts {
                inuse_bytes: 5,
                ..Counts::default()
            },
        };
        let profile = Profile {
            locations: vec![at("a::one"), at("std::x"), at("b::two")],
            samples: vec![sample(&[0, 2]), sample(&[0, 1, 2]), sample(&[2])],
            ..Profile::default()
        };
        let table: Vec<_> = by_path(&profile)
            .into_iter()
            .map(|(path, counts)| (path, counts.inuse_bytes))
            .collect();
        assert_eq!(
            table,
            [("a::one ← b::two".to_owned(), 10), ("b::two".to_owned(), 5)]
        );
    }
}
