//! Pure: the tables of `gateway/tests/rfc6455`, taken as they are: writer and reader of frames, and the cases as seeds.
#![allow(missing_docs, clippy::missing_panics_doc)]

#[path = "../../../tests/rfc6455/case.rs"]
pub mod case;
#[path = "../../../tests/rfc6455/closing.rs"]
pub mod closing;
#[path = "../../../tests/rfc6455/control.rs"]
pub mod control;
#[path = "../../../tests/rfc6455/delivery.rs"]
pub mod delivery;
#[path = "../../../tests/rfc6455/fragments.rs"]
pub mod fragments;
#[path = "../../../tests/rfc6455/framing.rs"]
pub mod framing;
#[path = "../../../tests/rfc6455/opening.rs"]
pub mod opening;
#[path = "../../../tests/rfc6455/utf8.rs"]
pub mod utf8;
#[path = "../../../tests/rfc6455/wire.rs"]
pub mod wire;
