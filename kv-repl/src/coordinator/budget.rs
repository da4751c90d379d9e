//! How many messages a coordinator may send beyond those that its requests need: hedges and retries.
//!
//! When answers are late because everybody has too much to do, asking again makes it worse, and asking again without a bound
//! keeps the cluster down after the cause is gone. So each message that a request needs earns a tenth of an extra one, and
//! extra messages are paid for. A few a second are free, so that a node with few requests can ask again at all.
//!
//! Source: the retry budget of Finagle, and Dean and Barroso, "The tail at scale" (CACM 2013), for hedges.

use kv_core::time::Millis;

use crate::status::ExtraMessages;

/// A message that costs one token is worth so many units.
const TOKEN: u64 = 1000;
/// A needed message earns a tenth of a token.
const EARNED: u64 = TOKEN / 10;
/// Ten free tokens a second.
const EARNED_PER_MS: u64 = 10 * TOKEN / 1000;
/// No more is saved than this.
const SAVED_MAX: u64 = 100 * TOKEN;
/// What there is at the beginning: some losses while nodes start and tables are created.
const SAVED_AT_FIRST: u64 = 10 * TOKEN;

/// Why an extra message is sent.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Extra {
    /// Somebody takes longer than usual: ask one more.
    Hedge,
    /// There was no answer for long: ask again.
    Retry,
}

/// A token bucket.
#[derive(Debug)]
pub(super) struct Budget {
    saved: u64,
    filled_at: Millis,
    pub(super) count: ExtraMessages,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { saved: SAVED_AT_FIRST, filled_at: Millis::ZERO, count: ExtraMessages::default() }
    }

    /// Messages that a request needs are sent.
    pub(super) fn earn(&mut self, messages: usize) {
        let messages = messages as u64;
        self.count.needed += messages;
        self.saved = (self.saved + messages * EARNED).min(SAVED_MAX);
    }

    /// Whether an extra message may be sent.
    pub(super) fn spend(&mut self, now: Millis, extra: Extra) -> bool {
        let free = now.saturating_sub(self.filled_at).0.saturating_mul(EARNED_PER_MS);
        self.filled_at = self.filled_at.max(now);
        self.saved = self.saved.saturating_add(free).min(SAVED_MAX);
        if self.saved < TOKEN && !sabotaged!(SpendWithoutBudget) {
            self.count.refused += 1;
            return false;
        }
        self.saved = self.saved.saturating_sub(TOKEN);
        match extra {
            Extra::Hedge => self.count.hedges += 1,
            Extra::Retry => self.count.retries += 1,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_is_spent_and_a_few_a_second() {
        let mut budget = Budget::new();
        let spend = |budget: &mut Budget, now: u64, tries: u64| {
            (0..tries).filter(|_| budget.spend(Millis(now), Extra::Retry)).count()
        };
        assert_eq!(spend(&mut budget, 0, 1000), 10, "what there is at first");
        budget.earn(500);
        assert_eq!(spend(&mut budget, 0, 1000), 50);
        assert_eq!(spend(&mut budget, 1_000, 1000), 10);
        assert_eq!(spend(&mut budget, 1_000, 1000), 0);
        budget.earn(1_000_000);
        assert_eq!(spend(&mut budget, 1_000, 1000), 100, "what is saved is bounded");
        assert_eq!(spend(&mut budget, 1_000_000_000, 1000), 100);
        let ExtraMessages { needed, hedges, retries, refused } = budget.count;
        assert_eq!((needed, hedges, retries, refused), (1_000_500, 0, 270, 6_000 - 270));
    }
}
