//! Nonsense, half sense and almost sense for decoder and verifier: nothing panics, nothing that is not in order gets
//! past, and nothing of it ever changes the host.
//!
//! `SKEP_FUZZ_CPU_S` says for how many seconds of CPU (2 if nothing is said), `SKEP_FUZZ_SEED` where to begin; `cargo xtask fuzz
//! act` sets them. A command gets to the engine as it would from its socket: out of frames, among which others are spoilt too.

use rustix::time::{ClockId, clock_gettime};
use skep_wire::v1::executor_request::Request;
use skep_wire::{frame, order};

use super::*;
use crate::journal::State;

/// Commands to one engine before the next: receipts and nonces are kept.
const ROUND: usize = 2_000;

/// SplitMix64: any seed gives a good sequence.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.next() as u8).collect()
    }

    /// Changed, cut, doubled or lengthened somewhere.
    fn spoil(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(5) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 if !bytes.is_empty() => bytes[at] = self.pick(&[0, 1, 0x7f, 0x80, 0xff]),
                2 => bytes.truncate(at),
                3 => bytes.extend(self.bytes(12)),
                _ => {
                    let piece = bytes[at.min(bytes.len())..].to_vec();
                    bytes.extend(piece.into_iter().take(20));
                }
            }
        }
    }

    fn text(&mut self) -> String {
        let words =
            ["", "/", "/busy", "/busy/../calm", "x.service", "ssh.service", "192.0.2.7", "::/0", "auto", "\0", "é%20 "];
        self.pick(&words).to_owned()
    }

    fn number(&mut self) -> u64 {
        let random = self.next();
        self.pick(&[0, 1, 22, 250, 65_535, 1 << 20, u64::from(u32::MAX), i64::MAX as u64, u64::MAX, random])
    }

    fn action(&mut self) -> Action {
        let (n, m) = (self.number(), self.number());
        match self.below(15) {
            0 => Action::Throttle(v1::Throttle { cpu_millicores: n as u32 }),
            1 => Action::Undo(v1::Undo { action_id: self.text() }),
            2 => Action::LimitMemory(v1::LimitMemory { high_bytes: n }),
            3 => Action::LimitIo(v1::LimitIo { read_bytes_per_s: n, write_bytes_per_s: m }),
            4 => Action::Freeze(v1::Freeze {}),
            5 => Action::Kill(v1::Kill { scope: n as i32, grace_s: m as u32 }),
            6 => Action::ChangeUnit(v1::ChangeUnit { verb: n as i32 }),
            7 => Action::Block(v1::Block { address: self.text(), port: n as u32, protocol: self.text() }),
            8 => Action::Isolate(v1::Isolate {}),
            9 => Action::Clean(v1::Clean { folder: self.text(), older_than_s: n }),
            10 => Action::Run(v1::Run { name: self.text() }),
            11 => Action::Extend(v1::Extend { action_id: self.text() }),
            12 => Action::ChangeContainer(v1::ChangeContainer { verb: n as i32 }),
            13 => Action::ChangeObject(v1::ChangeObject { verb: n as i32, replicas: m as u32, revision: n as i64 }),
            _ => Action::Throttle(v1::Throttle { cpu_millicores: 250 }),
        }
    }

    /// Some fields of a command that is in order.
    fn change(&mut self, command: &mut v1::Command) {
        for _ in 0..=self.below(3) {
            match self.below(12) {
                0 => command.id = self.text(),
                1 => command.nonce = self.text(),
                2 => command.node = self.text(),
                3 => command.boot = self.text(),
                4 => command.not_after_us = self.number() as i64,
                5 => command.issued_us = self.number() as i64,
                6 => command.lease_s = self.number() as u32,
                7 => command.mode = self.text(),
                8 => command.action = None,
                9 => command.action = Some(self.action()),
                10 => {
                    let process = v1::ProcessTarget { pid: self.number() as i32, start_ns: self.number() as i64 };
                    let unit = v1::UnitTarget { name: self.text(), invocation_id: self.text() };
                    let (process, unit) = (self.pick(&[None, Some(process)]), self.pick(&[None, Some(unit)]));
                    let (cgroup, cgroup_id) = (self.text(), self.number() as i64);
                    let container = v1::ContainerTarget { id: self.text(), started: self.text() };
                    let container = self.pick(&[None, Some(container)]);
                    let workload = self.text();
                    command.target =
                        Some(v1::Target { workload, cgroup, cgroup_id, process, unit, container, object: None });
                }
                _ => {
                    let at_least = f64::from_bits(self.next());
                    command.trigger = Some(v1::Trigger { signal: self.number() as i32, at_least });
                }
            }
        }
    }
}

fn cpu_s() -> i64 {
    clock_gettime(ClockId::ThreadCPUTime).tv_sec
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// What reads bytes of the network or of a row, on bytes that are anything.
fn decode(dice: &mut Dice, command: &v1::Command) {
    let random = dice.bytes(200);
    let _ = v1::ExecutorRequest::decode(random.as_slice());
    let _ = v1::SignedCommand::decode(random.as_slice());
    let _ = v1::Command::decode(random.as_slice());
    let mut spoilt = command.encode_to_vec();
    dice.spoil(&mut spoilt);
    if let Ok(command) = v1::Command::decode(spoilt.as_slice()) {
        let verb = order::verb(command.action.as_ref());
        let _ = order::read(verb, &order::parameters(&command));
        let _ = Deed::of(command);
    }
    let mut text = order::parameters(command).into_bytes();
    dice.spoil(&mut text);
    let _ = order::read(dice.pick(&order::VERBS), &String::from_utf8_lossy(&text));
}

/// What the agent and a later life of this program read, on what is almost right: answers, and the journal.
fn decode_answers(dice: &mut Dice, receipts: &[v1::Receipt]) {
    let Some(receipt) = receipts.last() else { return };
    let reply = v1::ExecutorReply { reply: Some(v1::executor_reply::Reply::Receipt(receipt.clone())) };
    let mut spoilt = reply.encode_to_vec();
    dice.spoil(&mut spoilt);
    let _ = v1::ExecutorReply::decode(spoilt.as_slice());
    let command = receipt.command.clone();
    let standing = Standing { command, boot: dice.text(), previous: dice.text(), ours: dice.text(), lease_until_us: 0 };
    let mut spoilt = Entry::of([What::Receipt(receipt.clone()), What::Standing(standing)]).encode_to_vec();
    dice.spoil(&mut spoilt);
    if let Ok(entry) = Entry::decode(spoilt.as_slice()) {
        let mut state = State::default();
        if state.apply(entry).is_ok() {
            let now = Now { wall_us: dice.number() as i64, boot_ns: dice.number(), boot: dice.number() };
            let mut again = State::default();
            again.apply(state.snapshot(now)).unwrap();
            // As bytes: what is no number equals nothing.
            let bytes = |state: &State| state.standing.values().map(Message::encode_to_vec).collect::<Vec<_>>();
            assert_eq!(bytes(&again), bytes(&state));
        }
    }
}

/// Commands as they come out of a connection on which these bytes are sent.
fn received(bytes: &[u8]) -> Vec<v1::SignedCommand> {
    let mut from = bytes;
    let mut commands = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        while let Ok(Some(request)) = frame::read::<v1::ExecutorRequest>(&mut from).await {
            if let Some(Request::Execute(signed)) = request.request {
                commands.push(signed);
            }
        }
    });
    commands
}

/// The same as bytes of a connection.
fn framed(signed: &v1::SignedCommand) -> Vec<u8> {
    let body = v1::ExecutorRequest { request: Some(Request::Execute(signed.clone())) }.encode_to_vec();
    [(body.len() as u32).to_le_bytes().as_slice(), &body].concat()
}

#[test]
fn nothing_that_is_not_in_order_gets_past() {
    let (seconds, seed) = (setting("SKEP_FUZZ_CPU_S", 2), setting("SKEP_FUZZ_SEED", 1));
    let (began, mut commands, mut passed) = (cpu_s(), 0, 0);
    for round in 0.. {
        let mut dice = Dice(seed.wrapping_add(round));
        let mut bench = Bench::new();
        let mut engine = bench.start();
        for _ in 0..ROUND {
            let signed = bench.throttle(60);
            let mut command = v1::Command::decode(signed.command.as_slice()).unwrap();
            decode(&mut dice, &command);
            let sent = match dice.below(3) {
                // Something happens to it on its way.
                0 => {
                    let mut sent = signed.clone();
                    match dice.below(3) {
                        0 => dice.spoil(&mut sent.command),
                        1 => dice.spoil(&mut sent.signature),
                        _ => sent.key_id = dice.text(),
                    }
                    sent
                }
                // The holder of the key signs bytes that are almost a command.
                1 => {
                    let mut bytes = signed.command.clone();
                    dice.spoil(&mut bytes);
                    let signature = bench.key.sign(&[COMMAND_CONTEXT, &bytes].concat()).to_bytes().to_vec();
                    v1::SignedCommand { command: bytes, signature, ..signed.clone() }
                }
                // Or a command that says other things.
                _ => {
                    dice.change(&mut command);
                    bench.sign(&command)
                }
            };
            let mut bytes = framed(&sent);
            if dice.below(4) == 0 {
                dice.spoil(&mut bytes);
            }
            for sent in received(&bytes) {
                let touched = sent.command != signed.command
                    || sent.signature != signed.signature
                    || sent.key_id != signed.key_id;
                let job = engine.execute(&sent).unwrap();
                commands += 1;
                if let Some(job) = job {
                    passed += 1;
                    let same = sent.command == signed.command;
                    assert!(
                        !touched || !same,
                        "seed {}: a signature that was changed counts",
                        seed.wrapping_add(round)
                    );
                    // Nobody has a reading: it goes no further.
                    engine.found(&job.action, Found::Observed(None)).unwrap();
                }
            }
            assert!(engine.status().active.is_empty());
            decode_answers(&mut dice, &engine.receipts().borrow());
            let last = engine.receipts().borrow().last().map_or(0, |receipt| receipt.number);
            engine.acknowledge(last).unwrap();
        }
        assert_eq!(bench.limit(), "max 100000");
        if cpu_s() - began >= seconds as i64 {
            println!("{commands} commands, {passed} in order, {round} rounds from seed {seed}");
            break;
        }
    }
    assert!(passed > 0, "some are in order, or nothing was tried");
}
