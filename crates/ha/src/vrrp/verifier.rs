//! Whether the segment believes that a master has its addresses.
//!
//! A master hears nothing of its own announcements: a switch or a port's filter that drops them is
//! silent, and the election goes on as if all were well. So it asks a neighbor twice, once in the name
//! of the virtual address and once in its own (ARP requests, neighbor solicitations). Who answers the
//! one and not the other has been told by somebody on the way that the address is not ours. Who answers
//! neither says nothing about it.

use std::time::Duration;

/// How often, and what becomes of an address that nobody believes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyConfig {
    /// Time between two rounds.
    pub every: Duration,
    /// For how long a router that nobody believes is no master, the first time; then twice as
    /// long, and so on. None stays master.
    pub step_down: Option<Duration>,
}

/// What is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Belief {
    /// Nothing yet: no master, or nobody answers at all.
    Unknown,
    /// Answers to the virtual address come.
    Believed,
    /// Answers come, but none to the virtual address.
    Disbelieved,
}

/// What the caller is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyOutput {
    /// Ask somebody on the segment, in both names.
    Ask,
    /// Tell people: the belief changed.
    Tell(Belief),
    /// Be no master.
    StepDown,
    /// Take part again.
    StepUp,
}

/// Rounds without an answer that make a verdict.
const ROUNDS: u32 = 3;
/// Time between rounds while it is not known, and for which answers are awaited.
const QUICK: Duration = Duration::from_secs(1);
/// The longest time out.
const LONGEST: Duration = Duration::from_secs(3600);

/// Asks, listens and judges for one virtual router.
#[derive(Debug)]
pub struct Verifier {
    config: VerifyConfig,
    belief: Belief,
    master: bool,
    /// Answers of the round under way: to the virtual address, to the own one.
    heard: Option<[bool; 2]>,
    /// Rounds in a row in which only the own one was answered.
    silent: u32,
    next: Option<Duration>,
    out_until: Option<Duration>,
    /// For how long it is out the next time.
    pause: Option<Duration>,
}

impl Verifier {
    /// A verifier of a router that is no master.
    pub fn new(config: VerifyConfig) -> Self {
        Self {
            config,
            belief: Belief::Unknown,
            master: false,
            heard: None,
            silent: 0,
            next: None,
            out_until: None,
            pause: config.step_down,
        }
    }

    /// What is known.
    pub fn belief(&self) -> Belief {
        self.belief
    }

    /// Tells whether the router is master.
    pub fn handle_master(&mut self, master: bool, now: Duration) {
        if std::mem::replace(&mut self.master, master) == master {
            return;
        }
        self.heard = None;
        self.silent = 0;
        // The first announcements are on their way.
        self.next = master.then(|| now + QUICK);
        // Why it stepped down stays known until it tries again.
        if master || self.out_until.is_none() {
            self.belief = Belief::Unknown;
        }
    }

    /// Tells of an answer: to the virtual address, or to the own one.
    pub fn handle_answer(&mut self, to_virtual: bool) {
        if let Some(heard) = &mut self.heard {
            heard[usize::from(!to_virtual)] = true;
        }
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let timers = [self.next, self.out_until];
        timers.into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Duration) -> Vec<VerifyOutput> {
        let mut outputs = Vec::new();
        if self.out_until.is_some_and(|at| at <= now) {
            self.out_until = None;
            outputs.push(VerifyOutput::StepUp);
        }
        if self.next.is_none_or(|at| at > now) {
            return outputs;
        }
        if let Some([to_virtual, to_own]) = self.heard.take() {
            self.judge(to_virtual, to_own, now, &mut outputs);
        }
        if self.out_until.is_some() {
            self.next = None;
            return outputs;
        }
        self.heard = Some([false, false]);
        let sure = self.belief == Belief::Believed && self.silent == 0;
        self.next = Some(now + if sure { self.config.every } else { QUICK });
        outputs.push(VerifyOutput::Ask);
        outputs
    }

    fn judge(
        &mut self,
        to_virtual: bool,
        to_own: bool,
        now: Duration,
        outputs: &mut Vec<VerifyOutput>,
    ) {
        let belief = match (to_virtual, to_own) {
            (true, _) => {
                self.silent = 0;
                self.pause = self.config.step_down;
                Belief::Believed
            }
            (false, true) => {
                self.silent += 1;
                if self.silent < ROUNDS {
                    return;
                }
                Belief::Disbelieved
            }
            (false, false) => return,
        };
        if std::mem::replace(&mut self.belief, belief) != belief {
            outputs.push(VerifyOutput::Tell(belief));
        }
        if let (Belief::Disbelieved, Some(pause)) = (belief, self.pause) {
            self.out_until = Some(now + pause);
            self.pause = Some((pause * 2).min(LONGEST));
            outputs.push(VerifyOutput::StepDown);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn verifier(step_down: Option<u64>) -> Verifier {
        let mut verifier = Verifier::new(VerifyConfig {
            every: at(5),
            step_down: step_down.map(at),
        });
        assert_eq!(verifier.poll_timeout(), None);
        verifier.handle_master(true, at(0));
        verifier
    }

    /// One round with these answers; what it says.
    fn round(verifier: &mut Verifier, answers: &[bool]) -> Vec<VerifyOutput> {
        for to_virtual in answers {
            verifier.handle_answer(*to_virtual);
        }
        let now = verifier.poll_timeout().expect("a time");
        verifier.handle_timeout(now)
    }

    #[test]
    fn answers_to_both_are_belief() {
        let mut verifier = verifier(Some(60));
        assert_eq!(round(&mut verifier, &[]), [VerifyOutput::Ask]);
        let said = round(&mut verifier, &[true, false]);
        assert_eq!(
            said,
            [VerifyOutput::Tell(Belief::Believed), VerifyOutput::Ask]
        );
        assert_eq!(verifier.poll_timeout(), Some(at(2 + 5)));
        assert_eq!(round(&mut verifier, &[true]), [VerifyOutput::Ask]);
    }

    #[test]
    fn who_answers_nothing_proves_nothing() {
        let mut verifier = verifier(Some(60));
        for _ in 0..10 {
            assert_eq!(round(&mut verifier, &[]), [VerifyOutput::Ask]);
        }
        assert_eq!(verifier.belief(), Belief::Unknown);
    }

    #[test]
    fn three_rounds_answered_to_the_own_address_alone_are_disbelief() {
        let mut verifier = verifier(None);
        round(&mut verifier, &[]);
        for _ in 0..2 {
            assert_eq!(round(&mut verifier, &[false]), [VerifyOutput::Ask]);
        }
        let said = round(&mut verifier, &[false]);
        assert_eq!(
            said,
            [VerifyOutput::Tell(Belief::Disbelieved), VerifyOutput::Ask]
        );
        // It is told once, and told again when it is over.
        assert_eq!(round(&mut verifier, &[false]), [VerifyOutput::Ask]);
        let said = round(&mut verifier, &[true]);
        assert_eq!(said[0], VerifyOutput::Tell(Belief::Believed));
    }

    #[test]
    fn who_is_not_believed_steps_down_longer_each_time() {
        let mut verifier = verifier(Some(60));
        let mut began = at(0);
        for pause in [60, 120, 240] {
            verifier.handle_master(true, began);
            round(&mut verifier, &[]);
            round(&mut verifier, &[false]);
            round(&mut verifier, &[false]);
            let now = verifier.poll_timeout().expect("a time");
            let said = round(&mut verifier, &[false]);
            assert_eq!(said.last(), Some(&VerifyOutput::StepDown));
            verifier.handle_master(false, now);
            assert_eq!(verifier.belief(), Belief::Disbelieved);
            began = now + at(pause);
            assert_eq!(verifier.poll_timeout(), Some(began));
            assert_eq!(verifier.handle_timeout(began), [VerifyOutput::StepUp]);
        }
    }

    #[test]
    fn no_master_asks() {
        let mut verifier = verifier(None);
        round(&mut verifier, &[]);
        verifier.handle_master(false, at(3));
        assert_eq!(verifier.poll_timeout(), None);
        verifier.handle_answer(true);
        assert!(verifier.handle_timeout(at(100)).is_empty());
    }
}
