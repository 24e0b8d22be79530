//! Pure: names of functions from what the program's debug information says.
//!
//! Line tables alone, which keep the binary small, name an inlined function without its module: `to_vec<u8, Global>`. Its
//! source file says where it belongs: `…/library/alloc/src/slice.rs` makes it `alloc::slice::to_vec`.

/// Folders of this workspace, whose names are not those of their crates.
const OWN: [(&str, &str); 2] = [
    ("gateway/protocol/src/", "sluice_protocol"),
    ("gateway/src/", "sluice_gateway"),
];

/// The function with its module.
pub fn qualified(function: &str, file: &str) -> String {
    let bare = &function[..function.find(['<', '(']).unwrap_or(function.len())];
    if bare.contains("::") {
        return function.to_owned();
    }
    let Some(module) = module(file) else {
        return function.to_owned();
    };
    if !bare.is_empty() {
        return format!("{module}::{bare}");
    }
    // `<type as trait>::method`: the type's crate is telling, unless a library's own code was put in for it.
    if file.contains("/library/") {
        module
    } else {
        function.to_owned()
    }
}

/// `tokio::sync::mpsc` from `/…/tokio-1.54.1/src/sync/mpsc/mod.rs`.
fn module(file: &str) -> Option<String> {
    let file = file.strip_suffix(".rs")?;
    let own = OWN.iter().find_map(|(folder, name)| {
        let relative = file.starts_with(folder) || file.contains(&format!("/{folder}"));
        let (_, inside) = relative.then(|| file.split_once(folder))??;
        Some((*name, inside))
    });
    let foreign = || {
        let (folder, inside) = file.rsplit_once("/src/")?;
        let folder = folder.rsplit('/').next()?;
        // Without the version that the registry adds.
        let name = match folder.rsplit_once('-') {
            Some((name, version)) if version.starts_with(|c: char| c.is_ascii_digit()) => name,
            _ => folder,
        };
        Some((name, inside))
    };
    let (name, inside) = own.or_else(foreign)?;
    let parts = inside.split('/');
    let parts = parts.filter(|part| !matches!(*part, "lib" | "main" | "mod"));
    let path = parts.fold(name.replace('-', "_"), |path, part| path + "::" + part);
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inlined_functions_get_their_module() {
        for (function, file, expected) in [
            (
                "to_vec<u8, alloc::alloc::Global>",
                "/rustc/5e6/library/alloc/src/slice.rs",
                "alloc::slice::to_vec",
            ),
            (
                "<u8 as <[_]>::to_vec_in::ConvertVec>::to_vec::<alloc::alloc::Global>",
                "/rustc/5e6/library/alloc/src/slice.rs",
                "alloc::slice",
            ),
            (
                "{async_block#0}<fn(axum::State) -> x::y>",
                "/home/me/registry/src/index-1/axum-0.8.9/src/handler/mod.rs",
                "axum::handler::{async_block#0}",
            ),
            (
                "store",
                "gateway/src/broker/memory.rs",
                "sluice_gateway::broker::memory::store",
            ),
            (
                "parse",
                "/build/gateway/protocol/src/channel.rs",
                "sluice_protocol::channel::parse",
            ),
            (
                "spawn_local<F>",
                "/r/tokio-util-0.7.20/src/task/mod.rs",
                "tokio_util::task::spawn_local",
            ),
        ] {
            assert_eq!(qualified(function, file), expected);
        }
    }

    #[test]
    fn whole_names_and_functions_of_c_stay() {
        for (function, file) in [
            ("sluice_gateway::hub::Hub::push", "gateway/src/hub/mod.rs"),
            ("imalloc_body", "/j/jemalloc/src/jemalloc.c"),
            ("<a::B as c::D>::e", "gateway/src/hub/mod.rs"),
            ("main", ""),
        ] {
            assert_eq!(qualified(function, file), function);
        }
    }
}
