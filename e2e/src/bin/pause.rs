//! Effects: the process that holds a pod's namespaces: it waits to be told to end, and collects orphans.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

fn main() {
    let mut awaited = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGCHLD] {
        awaited.add(signal);
    }
    if awaited.thread_block().is_err() {
        std::process::exit(1);
    }
    loop {
        match awaited.wait() {
            Ok(Signal::SIGCHLD) => {
                while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(s) if s != WaitStatus::StillAlive)
                {
                }
            }
            Ok(_) => return,
            Err(_) => std::process::exit(1),
        }
    }
}
