//! Effects (prints): results go to standard output, what is going on meanwhile to standard error.

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::limits::HEARTBEAT;

/// Time between two redraws of the running step's line on a terminal.
const REDRAW: Duration = Duration::from_millis(250);

/// Prints one line of results on standard output.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // A reader that went away (`| head`) is no reason to stop.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints one line about what is going on, on standard error.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Does `work` and shows one line for it with the time it takes: live on a terminal, otherwise at its end (and now and
/// then before, so that a log shows that something happens).
///
/// # Errors
/// Those of `work`.
pub async fn step<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let begun = Instant::now();
    let terminal = std::io::stderr().is_terminal();
    let pace = if terminal { REDRAW } else { HEARTBEAT };
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + pace, pace);
    tokio::pin!(work);
    let outcome = loop {
        tokio::select! {
            biased;
            outcome = &mut work => break outcome,
            _ = ticks.tick() => draw(terminal, &line("…", what, begun.elapsed()), false),
        }
    };
    let mark = if outcome.is_ok() { "✓" } else { "✗" };
    draw(terminal, &line(mark, what, begun.elapsed()), true);
    outcome
}

fn line(mark: &str, what: &str, elapsed: Duration) -> String {
    format!("{mark} {what}  {:.1} s", elapsed.as_secs_f32())
}

fn draw(terminal: bool, line: &str, last: bool) {
    let mut out = std::io::stderr().lock();
    let _ = match (terminal, last) {
        (true, false) => write!(out, "\r\x1b[K{line}"),
        (true, true) => writeln!(out, "\r\x1b[K{line}"),
        (false, _) => writeln!(out, "{line}"),
    };
    let _ = out.flush();
}

/// Shows a line that the next output overwrites; nothing when standard error is no terminal.
pub fn live(text: &str) {
    let mut out = std::io::stderr().lock();
    if out.is_terminal() {
        // A terminal that is gone is no reason to end a drain half-way.
        let _ = write!(out, "\r\x1b[K{text}\r");
        let _ = out.flush();
    }
}
