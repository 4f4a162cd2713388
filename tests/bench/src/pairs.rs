//! Interleaving: A B A B …, one ratio per pair, so that a neighbour's load hits both sides alike.

use anyhow::Result;

/// What one run of one side moved and cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measurement {
    /// Units of work done: bytes, requests or records.
    pub(crate) work: f64,
    /// Wall time in seconds.
    pub(crate) wall_s: f64,
    /// CPU seconds of the server process, user and system.
    pub(crate) cpu_s: f64,
    /// How long its answers took.
    pub(crate) latency: Latency,
}

/// Latencies that half, 99 % and 99.9 % of the answers did not exceed, in microseconds.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_field_names, reason = "units last")]
pub(crate) struct Latency {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { p50_us: f64::NAN, p99_us: f64::NAN, p999_us: f64::NAN }
    }
}

impl std::fmt::Display for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { p50_us, p99_us, p999_us } = self;
        write!(f, "p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms", p50_us / 1e3, p99_us / 1e3, p999_us / 1e3)
    }
}

impl Measurement {
    /// Work per wall second.
    pub(crate) fn rate(&self) -> f64 {
        self.work / self.wall_s
    }

    /// Server CPU seconds per unit of work.
    pub(crate) fn cpu_per_work(&self) -> f64 {
        self.cpu_s / self.work
    }
}

/// The two sides of a row, run by run.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    /// (subject, ceiling) of each pair.
    pub(crate) runs: Vec<(Measurement, Measurement)>,
}

impl Pairs {
    /// Runs `pairs` pairs after one discarded warm-up of each side; every second pair runs the sides in the other order.
    pub(crate) fn measure(
        pairs: u32,
        mut subject: impl FnMut() -> Result<Measurement>,
        mut ceiling: impl FnMut() -> Result<Measurement>,
    ) -> Result<Self> {
        subject()?;
        ceiling()?;
        let mut runs = Vec::with_capacity(pairs as usize);
        for pair in 0..pairs {
            runs.push(if pair % 2 == 0 {
                let s = subject()?;
                (s, ceiling()?)
            } else {
                let c = ceiling()?;
                (subject()?, c)
            });
        }
        Ok(Self { runs })
    }

    /// Each pair's ratio of subject to ceiling under `figure`.
    pub(crate) fn ratios(&self, figure: impl Fn(&Measurement) -> f64) -> Ratios {
        Ratios::of(self.runs.iter().map(|(s, c)| figure(s) / figure(c)).collect())
    }

    /// The median of `figure` over the subject's runs.
    pub(crate) fn subject_median(&self, figure: impl Fn(&Measurement) -> f64) -> f64 {
        Ratios::of(self.runs.iter().map(|(s, _)| figure(s)).collect()).median
    }

    /// The median latencies of both sides: subject, ceiling.
    pub(crate) fn latencies(&self) -> (Latency, Latency) {
        let figures: [fn(&Measurement) -> f64; 3] =
            [|run| run.latency.p50_us, |run| run.latency.p99_us, |run| run.latency.p999_us];
        let of = |[p50_us, p99_us, p999_us]: [f64; 3]| Latency { p50_us, p99_us, p999_us };
        (of(figures.map(|figure| self.subject_median(figure))), of(figures.map(|figure| self.ceiling_median(figure))))
    }

    /// The median of `figure` over the ceiling's runs.
    pub(crate) fn ceiling_median(&self, figure: impl Fn(&Measurement) -> f64) -> f64 {
        Ratios::of(self.runs.iter().map(|(_, c)| figure(c)).collect()).median
    }
}

/// Minimum, median and maximum of a row's ratios.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ratios {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
    pub(crate) pairs: usize,
}

impl Ratios {
    /// Summarises a non-empty list of ratios; an empty one gives NaN, which the report prints as invalid.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let pairs = values.len();
        let at = |i: usize| values.get(i).copied().unwrap_or(f64::NAN);
        let median =
            if pairs % 2 == 1 { at(pairs / 2) } else { f64::midpoint(at((pairs / 2).wrapping_sub(1)), at(pairs / 2)) };
        Self { min: at(0), median, max: at(pairs.wrapping_sub(1)), pairs }
    }
}
