//! How fast the protocol goes. Everything follows from its period and the number of nodes.

use kv_core::time::Millis;

/// How many others are asked to reach a node that does not answer. With three, five frames in a hundred lost and no
/// suspicion at all, one probe in 1,600 fails although its target is well.
pub(super) const HELPERS: usize = 3;
/// How many nodes are told news at a time, besides those that are talked to anyway.
pub(super) const NEWS_FANOUT: usize = 3;
/// Most rumours in one message, besides the one about its receiver.
pub(super) const RUMOURS_MAX: usize = 12;
/// Most rumours in one message of an exchange: some 20 KiB.
pub(super) const EXCHANGED_MAX: usize = 1000;
/// Most probes carried out for others at a time.
pub(super) const RELAYS_MAX: usize = 1000;
/// How many independent confirmations bring a suspicion to its shortest time.
pub(super) const CONFIRMATIONS: usize = 2;

/// News goes out so many times in a period.
const NEWS_PER_PERIOD: u64 = 5;
/// Every so many periods the whole state is exchanged with somebody.
const EXCHANGE_PERIODS: u64 = 30;
/// Every so many periods the whole state is exchanged with somebody who is believed to be dead.
const REUNION_PERIODS: u64 = 5;
/// Who has heard nothing from anybody for so many periods is cut off, and not just slow.
const CUT_OFF_PERIODS: u64 = 5;
/// Each rumour is told so many times for each power of ten of the number of nodes.
const TELLINGS: u32 = 4;
/// The shortest time of a suspicion, in periods for each power of ten of the number of nodes.
const SUSPICION_PERIODS: u64 = 4;
/// How much longer than that a suspicion lasts which nobody confirms.
const UNCONFIRMED_FACTOR: u64 = 6;

/// Spans of time that follow from the period and the number of nodes.
#[derive(Copy, Clone, Debug)]
pub(super) struct Pace {
    period: Millis,
    /// The decimal logarithm of the number of nodes, in thousandths, at least one.
    scale_thousandths: u64,
}

impl Pace {
    pub(super) fn new(period: Millis, nodes: usize) -> Self {
        let scale = (nodes.max(1) as f64).log10().max(1.0) * 1000.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1,000 and 20,000")]
        Self { period, scale_thousandths: scale as u64 }
    }

    /// From one probe to the next.
    pub(super) const fn period(&self) -> Millis {
        self.period
    }

    /// How long a probed node has to answer before others are asked for help. They have the rest of the period.
    pub(super) const fn direct(&self) -> Millis {
        Millis(self.period.0 / 2)
    }

    /// After how long a helper says that it has reached nobody, so that this arrives within the asker's period.
    pub(super) const fn helper(&self) -> Millis {
        Millis(self.period.0 * 2 / 5)
    }

    pub(super) const fn news(&self) -> Millis {
        Millis(self.period.0.div_ceil(NEWS_PER_PERIOD))
    }

    pub(super) const fn exchange(&self) -> Millis {
        Millis(self.period.0 * EXCHANGE_PERIODS)
    }

    pub(super) const fn reunion(&self) -> Millis {
        Millis(self.period.0 * REUNION_PERIODS)
    }

    /// After how long a silence of everybody a node is cut off from them.
    pub(super) const fn cut_off(&self) -> Millis {
        Millis(self.period.0 * CUT_OFF_PERIODS)
    }

    /// How often each node tells each rumour.
    pub(super) fn tellings(&self) -> u32 {
        TELLINGS * u32::try_from(self.scale_thousandths.div_ceil(1000)).expect("at most twenty")
    }

    /// How long a suspicion that is fully confirmed lasts.
    pub(super) const fn suspicion_min(&self) -> Millis {
        Millis(self.period.0 * SUSPICION_PERIODS * self.scale_thousandths / 1000)
    }

    /// How long a suspicion that nobody confirms lasts.
    pub(super) const fn suspicion_max(&self) -> Millis {
        Millis(self.suspicion_min().0 * UNCONFIRMED_FACTOR)
    }
}
