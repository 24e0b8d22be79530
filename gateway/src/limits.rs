//! Pure: every limit of the gateway, with its unit and its reason. Limits of the wire protocol are in `sluice_protocol::limits`.

use std::time::Duration;

/// Descriptors kept free for the broker, the HTTP ports, logs and sockets that are being closed.
pub const RESERVED_DESCRIPTORS: u64 = 512;

/// Connections when neither a flag nor the descriptor limit says otherwise.
pub const MAX_CONNECTIONS_FALLBACK: usize = 10_000;

/// Handshakes in progress at once; beyond it newcomers get 503. A handshake holds a parser's buffers (about 28 KB).
pub const HANDSHAKES_IN_PROGRESS: usize = 512;

/// From accept to the complete request head. Slower senders are holding a handshake permit for nothing.
pub const HANDSHAKE_HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// The same while fewer than [`HANDSHAKES_CROWDED_BELOW`] places are free: whoever sends slowly on purpose then holds a place
/// for a second, and the queue keeps moving.
pub const HANDSHAKE_HEADER_TIMEOUT_CROWDED: Duration = Duration::from_secs(1);

/// Free places for handshakes below which time gets short: a quarter.
pub const HANDSHAKES_CROWDED_BELOW: usize = HANDSHAKES_IN_PROGRESS / 4;

/// From accept to the answer.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest request head on the client port, bytes; hyper's smallest buffer. Holds a 6 KiB query and usual headers.
pub const HANDSHAKE_HEAD_BYTES: usize = 16 * 1024;

/// Most header lines of a request on the client port.
pub const HANDSHAKE_HEADERS: usize = 64;

/// Queue of connections that the kernel has accepted and the process has not: a fleet's reconnects for one second.
pub const LISTEN_BACKLOG: i32 = 4096;

/// Wait after a failed accept (out of descriptors or memory), so that the loop does not spin.
pub const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Kernel send buffer of a client socket, bytes. Left alone, the kernel takes 4 MB per reader that has stalled.
pub const SEND_BUFFER_BYTES: usize = 16 * 1024;

/// Unsent bytes in the kernel below which a socket counts as writable: keeps the queue in our hands.
pub const NOT_SENT_LOW_WATER_BYTES: u32 = 16 * 1024;

/// TCP keepalive of client sockets: idle time, interval and probes; beneath the protocol's own heartbeats.
pub const KEEPALIVE: (Duration, Duration, u32) =
    (Duration::from_mins(1), Duration::from_secs(5), 3);

/// `TCP_USER_TIMEOUT` of client sockets; longer than [`SLOW_AFTER`], so that a slow reader is closed as slow.
pub const TCP_USER_TIMEOUT: Duration = Duration::from_mins(1);

/// A socket that took nothing for this long is closed as slow.
pub const SLOW_AFTER: Duration = Duration::from_secs(45);

/// Most shards: one bit each in the hub's table. More processors than that are left to the kernel's network side.
pub const SHARDS_MAX: u16 = 64;

/// Threads of the control runtime, which serves publishers, the operator and the broker.
pub const CONTROL_THREADS: usize = 2;

/// Tasks that a shard runs before it looks at its sockets: at about 8 us for a write, half a millisecond.
pub const SHARD_TASKS_PER_POLL: u32 = 61;

/// Longest wait for a shard's answer to the control side; one that takes longer is stuck and not waited for.
pub const SHARD_ANSWER: Duration = Duration::from_secs(1);

/// Messages that wait for one shard; beyond it the shard is told to look into history instead.
pub const SHARD_QUEUE: usize = 8192;

/// Bytes of messages that wait for one shard, see [`SHARD_QUEUE`].
pub const SHARD_QUEUE_BYTES: usize = 16 * 1024 * 1024;

/// Places for deliveries that a shard keeps between bursts.
pub const SPARE_DELIVERIES: usize = 256;

/// Room for the text of an answer that a shard keeps for the next one, bytes: more than a welcome has.
pub const SPARE_TEXT_BYTES: usize = 2048;

/// Connections that a shard wakes before it lets them run: about 20 us.
pub const TOLD_PER_TURN: usize = 256;

/// Step of a shard's timer wheel, milliseconds. No deadline needs to be met more exactly.
pub const TIMER_TICK_MS: u64 = 25;

/// The buffer that all sockets of a shard are read into, bytes.
pub const SCRATCH_BYTES: usize = 16 * 1024;

/// Up to here a batch is copied into one piece before it is written, bytes: the kernel takes longer to read a list of slices than a
/// few hundred bytes take to be copied (`cargo bench-all fanout`: 0.89 instead of 0.82 of the floor's rate).
pub const COPIED_WRITE_BYTES: usize = 1024;

/// Reads from one socket before others run.
pub const READS_PER_TURN: usize = 2;

/// Client messages that one connection handles before others run; a ping of a client with many channels takes 10 us.
pub const CLIENT_MESSAGES_PER_TURN: usize = 32;

/// Bytes of answers that one connection gathers before they are written.
pub const REPLIES_PER_TURN_BYTES: usize = 16 * 1024;

/// Read buffer of a decoder, bytes. Only shards and connections in the middle of a client's frame have one.
pub const READ_BUFFER_BYTES: usize = 1024;

/// Slices of an outbox that are written with one call.
pub const OUTBOX_SLICES: usize = 64;

/// Room in the outbox beyond one largest frame, bytes, for pongs, answers and Close frames of a blocked socket.
/// A client that makes the server queue more than this without reading is closed as slow.
pub const OUTBOX_SLACK_BYTES: usize = 32 * 1024;

/// What a `message` frame adds to the published data, bytes: channel name (escaped), epoch, numbers.
pub const FRAME_OVERHEAD_BYTES: usize = 2 * 1024;

/// Messages that one connection writes before it lets others run.
pub const MESSAGES_PER_TURN: usize = 64;

/// Messages that one connection writes with one call: two slices each, and the kernel takes 1,024.
pub const MESSAGES_PER_WRITE: usize = 32;

/// Longest wait for a socket to take the last frames and the Close frame.
pub const FAREWELL_FLUSH: Duration = Duration::from_secs(2);

/// Longest wait for the peer's FIN after ours, reading and discarding, so that no reset destroys the last frames.
pub const REAP_TIMEOUT: Duration = Duration::from_secs(5);

/// Sockets that wait for a FIN at once; beyond it they are closed without waiting.
pub const REAPED_SOCKETS: usize = 1024;

/// How long the old connection goes on beside the one that replaced it.
pub const REPLACED_OVERLAP: Duration = Duration::from_secs(10);

/// A client that was asked to migrate is closed after this long.
pub const MIGRATE_DEADLINE: Duration = Duration::from_secs(10);

/// Step of the drain loop. Also the largest burst: a release is never more than 100 ms ahead of its rate.
pub const DRAIN_TICK: Duration = Duration::from_millis(50);

/// Part of the termination grace period kept for closing and exit.
pub const TERMINATION_RESERVE: Duration = Duration::from_secs(10);

/// Without an operator's word a terminating pod uses at least this share of the fleet's reconnect budget, so that a pod
/// with few connections does not take its whole grace period; ten pods may do so at once.
pub const UNSUPERVISED_BUDGET_SHARE: u32 = 10;

/// Retry-After of refused handshakes, seconds, the least and the most; each answer draws its own.
pub const RETRY_AFTER_SECONDS: (u64, u64) = (1, 4);

/// The same for a user or an address with all its connections, seconds: it can only wait for one of them to end.
pub const RETRY_AFTER_WHEN_FULL_SECONDS: (u64, u64) = (5, 20);

/// Clients that each rate limit remembers, at most about 40 bytes each. Only those count whose rate is not all theirs again;
/// whoever finds the table full shares one rate with all others who do.
pub const LIMITED_CLIENTS: usize = 65_536;

/// Interval in which limits forget quiet clients, and the token cache what has expired.
pub const LIMIT_SWEEP: Duration = Duration::from_secs(10);

/// Frames that a client may send at once, in seconds of its rate: subscribing to 128 channels after a welcome is one burst.
pub const MESSAGE_BURST_SECONDS: u32 = 10;

/// Frames that a channel keeps for readers that are a little behind: as many as one window.
pub const RING_MESSAGES: usize = 256;

/// Bytes of frames that a channel keeps.
pub const RING_BYTES: usize = 256 * 1024;

/// Lines of the table of last offsets, 8 bytes each. Channels that share one sometimes cost a history read too many.
pub const HEARD_LINES: usize = 65_536;

/// Bytes of frames that all channels together keep; beyond it each keeps only its newest one.
pub const RINGS_BYTES: usize = 64 * 1024 * 1024;

/// Frames older than this leave the ring at the next sweep, so that quiet channels hold no memory.
pub const RING_AGE: Duration = Duration::from_secs(30);

/// The same when all rings together have reached [`RINGS_BYTES`].
pub const RING_AGE_CROWDED: Duration = Duration::from_secs(1);

/// Interval of ring sweeps.
pub const RING_SWEEP: Duration = Duration::from_secs(5);

/// History reads towards the broker at once.
pub const HISTORY_READS: usize = 64;

/// Messages and bytes of one history read.
pub const HISTORY_BATCH_MESSAGES: usize = 128;
/// See [`HISTORY_BATCH_MESSAGES`].
pub const HISTORY_BATCH_BYTES: usize = 128 * 1024;

/// Bytes of recent history reads that are kept for other readers of the same stretch, and for how long.
pub const HISTORY_RECENT_BYTES: usize = 8 * 1024 * 1024;
/// See [`HISTORY_RECENT_BYTES`].
pub const HISTORY_RECENT_AGE: Duration = Duration::from_secs(2);

/// Wait after a failed history read; doubles up to [`HISTORY_RETRY_MAX`].
pub const HISTORY_RETRY: Duration = Duration::from_millis(50);
/// See [`HISTORY_RETRY`].
pub const HISTORY_RETRY_MAX: Duration = Duration::from_secs(2);

/// Reads that found nothing although a live message named a predecessor; then the predecessor is gone: a gap.
pub const FRUITLESS_READS: u8 = 4;

/// Longest idempotency key, bytes.
pub const PUBLISH_ID_BYTES: usize = 128;

/// Most messages of one batch.
pub const PUBLISH_BATCH_MESSAGES: usize = 1000;

/// Largest body of a batch, bytes.
pub const PUBLISH_BATCH_BYTES: usize = 4 * 1024 * 1024;

/// What a publish body may hold beside its data, bytes.
pub const PUBLISH_OVERHEAD_BYTES: usize = 4 * 1024;

/// Publishes of one batch that wait for the broker at once.
pub const PUBLISH_CONCURRENCY: usize = 64;

/// Longest time for one server to take a connection. A server whose pod is gone answers nothing at all; the next one is
/// tried after this, and publishes wait that long.
pub const BROKER_CONNECT: Duration = Duration::from_millis(400);

/// Longest time that one publish tries to get an acknowledgement, leader changes included.
pub const PUBLISH_TIMEOUT: Duration = Duration::from_millis(4500);

/// Wait for one acknowledgement before the same message is sent again under the same id: a leader change must not cost
/// a second, and a repeated message is recognised.
pub const PUBLISH_ATTEMPT: Duration = Duration::from_millis(200);

/// Attempts of that length before each next one waits twice as long.
pub const PUBLISH_ATTEMPTS_FAST: u32 = 4;

/// Wait before another try when nobody answers for the stream (an election runs).
pub const PUBLISH_RETRY: Duration = Duration::from_millis(40);

/// Window in which the broker recognises a repeated (channel, id).
pub const DUPLICATE_WINDOW: Duration = Duration::from_mins(2);

/// Ids that the memory broker remembers.
pub const MEMORY_DUPLICATES: usize = 100_000;

/// Limit of one broker request that is not a publish.
pub const BROKER_REQUEST: Duration = Duration::from_secs(2);

/// Messages from the broker that may wait for the dispatcher; beyond it the client library drops some and says so.
pub const LIVE_QUEUE_MESSAGES: usize = 8192;

/// Interval in which the live side is compared with what the broker holds.
pub const COMPARE_INTERVAL: Duration = Duration::from_secs(30);

/// Wait before a difference counts: messages in flight arrive meanwhile.
pub const COMPARE_SETTLE: Duration = Duration::from_millis(300);

/// Looks, one second apart, that must all find the stream shorter than it was before its positions count as reused.
pub const TAIL_MOVED_LOOKS: u32 = 4;

/// Messages of one read while filling a hole in the live side.
pub const FILL_BATCH_MESSAGES: usize = 256;

/// Margin by which a position must be younger than the history's age limit to be whole without asking the broker.
pub const HISTORY_AGE_MARGIN: Duration = Duration::from_mins(1);

/// Longest life of a session from its login on.
pub const SESSION_AGE: Duration = Duration::from_hours(24);

/// Clock difference allowed between issuer and gateway when tokens are checked.
pub const TOKEN_LEEWAY: Duration = Duration::from_secs(10);

/// Longest token, bytes.
pub const TOKEN_BYTES: usize = 8 * 1024;

/// Verified login tokens that are remembered, at most about 350 bytes each. Clients that reconnect show resume tokens, so it is
/// those that log in with the same token again and again.
pub const TOKEN_CACHE_ENTRIES: usize = 8192;

/// Handshakes that wait for a key set at once: a quarter of all, so that a source that hangs stops no resume tokens.
pub const JWKS_WAITERS: usize = HANDSHAKES_IN_PROGRESS / 4;

/// Key sets are read again at least this often.
pub const JWKS_REFRESH: Duration = Duration::from_mins(5);

/// A token with an unknown key id reads the key set again, but not more often than this.
pub const JWKS_MIN_INTERVAL: Duration = Duration::from_secs(10);

/// Limit of one key set request.
pub const JWKS_REQUEST: Duration = Duration::from_secs(3);

/// Largest key set, bytes.
pub const JWKS_BYTES: usize = 256 * 1024;

/// Time for a request's whole body on the publish and admin ports; a slower sender holds memory for nothing.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Largest body of an admin request, bytes.
pub const ADMIN_BODY_BYTES: usize = 16 * 1024;

/// `/livez` fails when the control runtime or a shard has not run for this long.
pub const LIVENESS_STUCK: Duration = Duration::from_mins(1);

/// Longest wait at exit for requests and sockets that are being closed.
pub const EXIT_WAIT: Duration = Duration::from_secs(5);

/// Interval in which the breaker looks and decides: a fleet's reconnects of one second fit between 95 % and the limit.
pub const BREAKER_INTERVAL: Duration = Duration::from_secs(1);

/// Connections from which on memory divided by their number says what one takes; with fewer, buffers that they share weigh more.
pub const MEASURED_FROM_CONNECTIONS: u64 = 1000;

/// Tasks that may exist beside two for each connection: handshakes, sockets that wait for a FIN, HTTP requests, the broker's.
pub const TASKS_BESIDE_CONNECTIONS: u64 = 4096;

/// Addresses with evictions that are remembered, at most about 300 bytes each.
pub const TRIPPED_ADDRESSES: usize = 4096;

/// How long the allocator keeps freed pages before they go back to the kernel. Short enough that a burst's memory is gone
/// 10 s later, long enough that the next second's handshakes find it.
pub const HEAP_DECAY: Duration = Duration::from_secs(2);

/// The same for pages that the kernel may take already, milliseconds: they go back at once, so that figures are honest.
pub const HEAP_MUZZY_DECAY: isize = 0;

/// Snapshots in the folder, and their bytes together: a day of half-hourly ones. The oldest make room.
pub const HEAP_FILES: usize = 48;
/// See [`HEAP_FILES`].
pub const HEAP_FOLDER_BYTES: u64 = 64 * 1024 * 1024;

/// Longest interval between scheduled snapshots, a day.
pub const HEAP_EVERY_MAX: Duration = Duration::from_hours(24);

/// Longest wait for a snapshot that somebody else takes.
pub const HEAP_SNAPSHOT_WAIT: Duration = Duration::from_secs(10);

/// Largest snapshot that is read, unpacked, bytes; ours have a few million. A small file can be packed from any number of zeros.
pub const HEAP_UNPACKED_BYTES: u64 = 256 * 1024 * 1024;

/// Functions of a call path that people see. More say how the runtime works, not who allocated.
pub const HEAP_PATH_FRAMES: usize = 6;

/// Characters of one function's name that people see; types of futures have thousands.
pub const HEAP_NAME_CHARS: usize = 120;

/// Functions inlined into one address. Real programs have some ten; broken debug information has any number.
pub const HEAP_INLINED_FRAMES: usize = 64;

/// Limit of one request of the doctor; a snapshot takes up to some seconds.
pub const DOCTOR_REQUEST: Duration = Duration::from_secs(30);

/// Growth of live memory that the doctor takes for noise: this many bytes, or this part of what there was.
pub const DOCTOR_LEAK_BYTES: i64 = 1024 * 1024;
/// See [`DOCTOR_LEAK_BYTES`]: one part in so many.
pub const DOCTOR_LEAK_SHARE: i64 = 50;

/// Live memory that a new connection explains, bytes: four times what an idle one with two channels may take.
pub const DOCTOR_CONNECTION_BYTES: i64 = 8 * 1024;

/// Socket buffers that a new connection explains, bytes: [`SEND_BUFFER_BYTES`], which the kernel doubles, and as much to read.
pub const DOCTOR_SOCKET_BYTES: i64 = 64 * 1024;

/// Growth of socket buffers that the doctor takes for noise, bytes.
pub const DOCTOR_BUFFERS_BYTES: i64 = 16 * 1024 * 1024;

/// Tasks or descriptors beyond those of new connections that the doctor takes for noise.
pub const DOCTOR_COUNT: i64 = 100;

/// Allocation from which on the doctor speaks of a storm, bytes per second: 2,000 handshakes per second take 56 MB.
pub const DOCTOR_STORM_BYTES_PER_SECOND: i64 = 64 * 1024 * 1024;

/// Resident memory without use from which on the doctor speaks of fragmentation: this many bytes, and this part of what is
/// in use.
pub const DOCTOR_FRAGMENTED_BYTES: i64 = 32 * 1024 * 1024;
/// See [`DOCTOR_FRAGMENTED_BYTES`]: one part in so many.
pub const DOCTOR_FRAGMENTED_SHARE: i64 = 2;
