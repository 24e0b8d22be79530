//! The election against a simulated API server and clocks that run apart (test): whatever is lost,
//! late or committed without an answer, no two lead at once, and someone leads in the end.

use super::election::{Answer, Candidate, Draft, Record, Request, Term, Timing};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::time::Duration;

const TIMING: Timing = Timing {
    lease: Duration::from_secs(15),
    renew: Duration::from_secs(10),
    retry: Duration::from_secs(2),
};
const STEP: Duration = Duration::from_millis(250);
/// Three requests fit into the time to renew.
const GIVE_UP: Duration = Duration::from_secs(3);

/// The API server: one object, compare-and-swap.
#[derive(Default)]
struct Server {
    lease: Option<Record>,
    writes: u64,
}

impl Server {
    fn handle(&mut self, request: &Request) -> Answer {
        match (request, &self.lease) {
            (Request::Look, Some(record)) => Answer::Now(record.clone()),
            (Request::Look | Request::Replace { .. }, None) => Answer::Absent,
            (Request::Create(draft), None) => self.write(draft),
            (Request::Replace { version, draft }, Some(record)) if *version == record.version => {
                self.write(draft)
            }
            (Request::Create(_) | Request::Replace { .. }, Some(_)) => Answer::Conflict,
        }
    }

    fn write(&mut self, draft: &Draft) -> Answer {
        self.writes += 1;
        let record = Record {
            uid: "uid".to_owned(),
            version: self.writes.to_string(),
            holder: draft.holder.clone(),
            transitions: draft.transitions,
            duration: TIMING.lease,
            beat: self.writes.to_string(),
        };
        self.lease = Some(record.clone());
        Answer::Now(record)
    }
}

/// What happens to a request on its way.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Handled and answered after this long each.
    Answered(Duration, Duration),
    /// Never arrives.
    Lost,
    /// Handled after this long, never answered.
    Unanswered(Duration),
}

struct Flight {
    request: Request,
    sent: Duration,
    handled_at: Option<Duration>,
    answered_at: Option<Duration>,
    gives_up: Duration,
    answer: Option<Answer>,
}

struct Process {
    candidate: Candidate,
    /// Thousandths of a local second per second.
    rate: u32,
    flight: Option<Flight>,
    /// Given up by the process, still on the way to the server.
    late: Vec<(Duration, Request)>,
    next: Duration,
    /// Stopped by the system until then.
    frozen: Duration,
}

impl Process {
    fn new(name: &str, rate: u32) -> Self {
        Self {
            candidate: Candidate::new(name, TIMING),
            rate,
            flight: None,
            late: Vec::new(),
            next: Duration::ZERO,
            frozen: Duration::ZERO,
        }
    }

    fn local(&self, now: Duration) -> Duration {
        now * self.rate / 1000
    }

    fn step(&mut self, server: &mut Server, now: Duration, fate: &mut impl FnMut() -> Fate) {
        self.arrive(server, now);
        if now < self.frozen {
            return;
        }
        if let Some(flight) = self.flight.take() {
            let answered = flight.answered_at.is_some_and(|at| now >= at);
            let answer = match flight.answer {
                Some(answer) if answered => answer,
                _ if now < flight.gives_up => {
                    self.flight = Some(flight);
                    return;
                }
                Some(_) => Answer::Unknown,
                None => {
                    let late = flight.handled_at.map(|at| (at, flight.request.clone()));
                    self.late.extend(late);
                    Answer::Unknown
                }
            };
            let local = self.local(now);
            self.candidate
                .answer(&flight.request, flight.sent, local, answer);
            self.next = now + self.candidate.pause(local);
        }
        if now >= self.next {
            self.send(now, fate());
            self.arrive(server, now);
        }
    }

    fn send(&mut self, now: Duration, fate: Fate) {
        let sent = self.local(now);
        let (handled_at, answered_at) = match fate {
            Fate::Answered(there, back) => (Some(now + there), Some(now + there + back)),
            Fate::Lost => (None, None),
            Fate::Unanswered(there) => (Some(now + there), None),
        };
        self.flight = Some(Flight {
            request: self.candidate.request(sent),
            sent,
            handled_at,
            answered_at,
            gives_up: now + GIVE_UP,
            answer: None,
        });
    }

    /// The server's side goes on while this process is frozen or has given up.
    fn arrive(&mut self, server: &mut Server, now: Duration) {
        self.late.retain(|(at, request)| {
            if now >= *at {
                server.handle(request);
            }
            now < *at
        });
        if let Some(flight) = &mut self.flight
            && flight.answer.is_none()
            && flight.handled_at.is_some_and(|at| now >= at)
        {
            flight.answer = Some(server.handle(&flight.request));
        }
    }
}

/// Runs two candidates for `length`, checking after every step, then lets the network heal.
fn run(
    seed: &str,
    length: Duration,
    rates: [u32; 2],
    mut fate: impl FnMut() -> Fate,
    mut freeze: impl FnMut() -> Option<Duration>,
) {
    let mut server = Server::default();
    let mut processes = [Process::new("a", rates[0]), Process::new("b", rates[1])];
    let mut terms: Vec<(usize, Term)> = Vec::new();
    let heal = Duration::from_mins(1);
    let mut now = Duration::ZERO;
    while now < length + heal {
        let healthy = now >= length;
        for process in &mut processes {
            let mut one = || {
                if healthy {
                    Fate::Answered(STEP, STEP)
                } else {
                    fate()
                }
            };
            process.step(&mut server, now, &mut one);
            if !healthy
                && now >= process.frozen
                && let Some(long) = freeze()
            {
                process.frozen = now + long;
            }
        }
        // A frozen process does nothing, whatever it believes: it looks at its clock when it wakes.
        let leaders: Vec<_> = (0..2)
            .filter_map(|i| {
                let process = &processes[i];
                Some((i, process.candidate.leading(process.local(now))?.clone()))
            })
            .collect();
        assert!(
            leaders.len() <= 1,
            "{seed}: two lead at {now:?}: {leaders:?}"
        );
        for (who, term) in leaders {
            match terms.last() {
                Some((last, same)) if *last == who && *same == term => {}
                Some((_, last)) => {
                    assert!(
                        term.transitions > last.transitions,
                        "{seed}: {last:?} then {term:?}"
                    );
                    terms.push((who, term));
                }
                None => terms.push((who, term)),
            }
        }
        now += STEP;
    }
    let leading = processes
        .iter()
        .filter(|p| p.candidate.leading(p.local(now)).is_some());
    assert_eq!(leading.count(), 1, "{seed}: nobody leads a healthy network");
}

#[test]
fn no_two_lead_whatever_is_lost_or_late() {
    for seed in 0..400u64 {
        let mut random = StdRng::seed_from_u64(seed);
        // Clocks that differ by a fifth of their rate.
        let rates = [
            random.random_range(900..1100),
            random.random_range(900..1100),
        ];
        let bad = random.random_range(0..70);
        let mut clone = StdRng::seed_from_u64(seed ^ 0xfeed);
        let fate = move || {
            let there = STEP * random.random_range(0..60);
            match random.random_range(0..100) {
                roll if roll >= bad => Fate::Answered(STEP, STEP * random.random_range(0..3)),
                roll if roll % 3 == 0 => Fate::Lost,
                roll if roll % 3 == 1 => Fate::Unanswered(there),
                _ => Fate::Answered(there, STEP * random.random_range(0..14)),
            }
        };
        let freeze =
            move || (clone.random_range(0..400) == 0).then(|| STEP * clone.random_range(1..120));
        run(
            &format!("seed {seed}"),
            Duration::from_mins(4),
            rates,
            fate,
            freeze,
        );
    }
}

/// Every order of three fates for the first eight requests.
#[test]
fn no_two_lead_for_any_short_history() {
    let fates = [
        Fate::Answered(STEP, STEP),
        Fate::Lost,
        Fate::Unanswered(STEP * 2),
    ];
    for number in 0..3usize.pow(8) {
        let mut rest = number;
        let mut asked = 0;
        let fate = move || {
            asked += 1;
            let choice = if asked > 8 { 0 } else { rest % 3 };
            rest /= 3;
            fates[choice]
        };
        run(
            &format!("history {number}"),
            Duration::from_secs(25),
            [1000, 1000],
            fate,
            || None,
        );
    }
}

#[test]
fn a_released_lease_is_taken_at_the_next_look() {
    let mut server = Server::default();
    let mut first = Candidate::new("a", TIMING);
    let mut second = Candidate::new("b", TIMING);
    let at = Duration::from_secs;
    let mut turn = |candidate: &mut Candidate, now| {
        let request = candidate.request(now);
        let answer = server.handle(&request);
        candidate.answer(&request, now, now, answer);
    };
    turn(&mut first, at(0));
    assert_eq!(
        first.pause(at(0)),
        Duration::ZERO,
        "an absent lease is made at once"
    );
    turn(&mut first, at(0));
    assert_eq!(first.leading(at(1)).map(|term| term.transitions), Some(0));
    turn(&mut second, at(1));
    assert_eq!(second.pause(at(1)), TIMING.retry);
    let release = first.release();
    assert!(first.leading(at(1)).is_none());
    if let Some(request) = release {
        server.handle(&request);
    }
    let mut turn = |candidate: &mut Candidate, now| {
        let request = candidate.request(now);
        let answer = server.handle(&request);
        candidate.answer(&request, now, now, answer);
    };
    turn(&mut second, at(2));
    turn(&mut second, at(2));
    assert_eq!(second.leading(at(2)).map(|term| term.transitions), Some(1));
    turn(&mut first, at(2));
    turn(&mut first, at(4));
    assert!(first.leading(at(4)).is_none());
}
