//! Pure test: a session against a simulated fleet. Random steps publish, deliver, cut, drain, stall, restart and mix up
//! connections. Whatever happens, the application must see every message once and in order, and at peace again the
//! session must be live and complete.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::time::Duration;

use proptest::prelude::*;

use super::event::{Command, Ended};
use super::machine::Session;
use super::resume::Resume;
use crate::client::ClientMessage;
use crate::close::CloseCode;
use crate::ids::{Offset, Payload};
use crate::seq::Seq;
use crate::server::{ErrorMessage, Message, ServerMessage};
use world::{Act, World, act, epoch, name};

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_message_comes_once_and_in_order(acts in proptest::collection::vec(act(), 1..150)) {
        let mut world = World::new();
        world.tick(Duration::from_millis(1));
        for act in &acts {
            world.act(act);
        }
        world.settle();
        world.check();
        prop_assert!(world.gaps.is_empty(), "history reached back, yet a gap was told");
    }

    #[test]
    fn what_left_history_is_told(
        acts in proptest::collection::vec(prop_oneof![9 => act(), 1 => (0_u8..3).prop_map(Act::Forget)], 1..150)
    ) {
        let mut world = World::new();
        world.tick(Duration::from_millis(1));
        for act in &acts {
            world.act(act);
        }
        world.settle();
        world.check();
    }
}

#[test]
fn a_drain_moves_the_session_without_a_break() {
    let mut world = World::new();
    world.tick(Duration::from_millis(1));
    world.settle();
    let old = world.session.live().unwrap();
    world.act(&Act::Drain {
        not_before_ms: 1000,
    });
    for n in 0..40 {
        world.act(&Act::Publish(n % 3));
        world.act(&Act::Pump(2));
        world.act(&Act::Accept);
        world.tick(Duration::from_millis(100));
    }
    world.settle();
    world.check();
    assert_eq!(world.migrated, 1);
    assert_ne!(world.session.live().unwrap(), old);
    assert_eq!(world.delivered.values().map(Vec::len).sum::<usize>(), 40);
}

#[test]
fn silence_ends_the_connection_and_the_session_goes_on() {
    let mut world = World::new();
    world.tick(Duration::from_millis(1));
    world.settle();
    let old = world.session.live().unwrap();
    world.act(&Act::Stall);
    world.act(&Act::Publish(1));
    world.tick(Duration::from_secs(24));
    assert_eq!(world.session.live(), None);
    world.settle();
    world.check();
    assert!(world.session.live().unwrap() > old);
}

#[test]
fn a_refused_login_stops_and_a_refused_token_logs_in() {
    let refused = || Ended::Refused {
        status: 401,
        retry_after: None,
    };
    let mut world = World::new();
    world.session = Session::new(Resume {
        resume_token: Some("old".into()),
        ..Resume::default()
    });
    world.tick(Duration::from_millis(1));
    let first = world.asked.pop_front().unwrap();
    assert_eq!(first.query.resume.as_deref(), Some("old"));
    world.with_session(|s, step, out| s.ended(first.link, refused(), step, out));
    world.tick(Duration::from_millis(1));
    let second = world.asked.pop_front().unwrap();
    assert_eq!(second.query.resume, None);
    world.with_session(|s, step, out| s.ended(second.link, refused(), step, out));
    assert!(world.stopped && world.session.is_stopped());
    assert_eq!(world.session.next_wake(), None);
}

#[test]
fn a_wait_given_by_the_server_is_taken_as_it_is() {
    let mut world = World::new();
    world.tick(Duration::from_millis(1));
    world.settle();
    let id = world.session.live().unwrap();
    let error = ServerMessage::Error(ErrorMessage {
        code: crate::ErrorCode::Overload,
        message: "full".into(),
        retry_after_ms: Some(7000),
        reference: None,
    });
    world.with_session(|s, step, out| s.frame(id, error, 10, step, out));
    world.cut(&Ended::Closed(CloseCode::Overload));
    assert_eq!(
        world.session.next_wake(),
        Some(world.now + Duration::from_secs(7))
    );
}

#[test]
fn a_skipped_number_ends_the_connection() {
    let mut world = World::new();
    world.tick(Duration::from_millis(1));
    world.settle();
    let id = world.session.live().unwrap();
    let data = Payload::new("1".into()).unwrap();
    let message = Message {
        seq: Seq::new(5),
        channel: name(1),
        epoch: epoch(),
        offset: Offset::new(90).unwrap(),
        time: 0,
        data,
    };
    world.with_session(|s, step, out| s.frame(id, ServerMessage::Message(message), 10, step, out));
    assert_eq!(world.session.live(), None);
    assert!(world.peers.is_empty());
    assert!(
        world.delivered.is_empty(),
        "what comes after a hole must wait"
    );
}

#[test]
fn a_stop_acknowledges_what_was_taken() {
    let mut world = World::new();
    world.tick(Duration::from_millis(1));
    world.settle();
    world.act(&Act::Publish(1));
    world.act(&Act::Pump(3));
    let mut out = Vec::new();
    world.session.stop(&mut out);
    let ack = ClientMessage::Ack { seq: Seq::new(1) };
    assert!(matches!(&out[0], Command::Send { message, .. } if *message == ack));
    assert!(matches!(
        out[1],
        Command::Close {
            code: CloseCode::Normal,
            ..
        }
    ));
    assert_eq!(world.session.next_wake(), None);
}

#[test]
fn a_snapshot_brings_the_session_back_where_it_was() {
    let mut world = World::new();
    world.tick(Duration::from_millis(1));
    world.settle();
    world.act(&Act::Publish(1));
    world.settle();
    let kept = serde_json::to_string(&world.kept).unwrap();
    world.act(&Act::Publish(1));
    world.peers.clear();
    world.session = Session::new(serde_json::from_str(&kept).unwrap());
    world.settle();
    world.check();
}
