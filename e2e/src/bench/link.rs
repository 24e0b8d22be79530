//! Effects (sockets, threads): one loopback connection with a reader that throws everything away, to measure ways of writing.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use super::machine;

/// Bytes that the reader takes at once.
const CHUNK: usize = 256 * 1024;

/// A connection whose far end is read by a thread on the load's core.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    reader: JoinHandle<()>,
}

impl Link {
    /// Connects.
    ///
    /// # Errors
    /// When loopback refuses.
    pub fn new() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let stream = TcpStream::connect(listener.local_addr()?)?;
        stream.set_nodelay(true)?;
        let (mut far, _) = listener.accept()?;
        let reader = machine::on_core(machine::LOAD_CORE, || {
            let read = move || {
                let mut chunk = vec![0; CHUNK];
                while matches!(far.read(&mut chunk), Ok(1..)) {}
            };
            Ok(std::thread::Builder::new()
                .name("reader".into())
                .spawn(read)?)
        })?;
        Ok(Self { stream, reader })
    }

    /// Runs `write` on the server's core; the CPU time that it took, seconds.
    ///
    /// # Errors
    /// Those of `write`.
    pub fn cpu_of(self, write: impl FnOnce(&TcpStream) -> Result<()> + Send) -> Result<f64> {
        let Self { stream, reader } = self;
        let measured = std::thread::scope(|scope| {
            let work = || -> Result<f64> {
                machine::pin(machine::SERVER_CORE)?;
                let before = cpu_of_thread()?;
                write(&stream)?;
                Ok(cpu_of_thread()? - before)
            };
            scope.spawn(work).join()
        });
        drop(stream);
        reader.join().map_err(|_| anyhow!("the reader failed"))?;
        measured.map_err(|_| anyhow!("the writer failed"))?
    }
}

/// CPU time of this thread so far, seconds.
///
/// # Errors
/// When the kernel does not say.
pub fn cpu_of_thread() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).context("getrusage")?;
    let microseconds =
        usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(microseconds as f64 / 1e6)
}
