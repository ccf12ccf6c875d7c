//! Was nothing like this ever seen here?
//!
//! A value is looked at from several sides ([`Stream`]): against the last few values, against the last hundred, against
//! the hour of the day and of the week, as part of a shift or of unrest. Each stream knows how large its residuals have
//! been ([`crate::tail`]), and says how surprising this one is, in decades. **Something is only surprising if nothing
//! nearly as large has been seen**, and no more than the number of values that were seen allows: a young series hardly
//! raises an alarm. That is what [`crate::level`] is for.
//!
//! The most surprised stream speaks. What hardly moves the value beside all it has been is worth less (effect), so is
//! one of many points a day (rate), one of many alarms (budget), and one that was not seen entirely (coverage); within an
//! incident only what is worse than its worst is passed on ([`crate::hold`]).
//!
//! Every value is learned with full weight, abnormal or not: what comes back is known. After a gap the fast means begin
//! anew; a value at the time of the one before, or earlier, is let be, so is what is no number ([`Ignored`]). A constant
//! series has no residuals; the first that differs is measured against itself, and is surprising after some 300 points.

use crate::hold::Hold;
use crate::mean::Mean;
use crate::point::{Ignored, Point};
use crate::season::Season;
use crate::state::{Kind, Reader, StateError, Writer};
use crate::tail::{Side, Surprise, Tail};

/// From which side a value is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Against the last few values.
    Step,
    /// Against the last hundred.
    Trend,
    /// Against the hour of the day or of the week, whichever is nearer.
    Season,
    /// The last few values against the long run.
    Burst,
    /// The last twenty-five values against the long run.
    Shift,
    /// Many small surprises in a row.
    Unrest,
}

/// Streams there are.
pub const STREAMS: usize = 6;

impl Stream {
    /// All, in the order of [`Tuning::streams`].
    pub const ALL: [Self; STREAMS] = [Self::Step, Self::Trend, Self::Season, Self::Burst, Self::Shift, Self::Unrest];

    /// As in explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::Trend => "trend",
            Self::Season => "season",
            Self::Burst => "burst",
            Self::Shift => "shift",
            Self::Unrest => "unrest",
        }
    }

    /// What the value was compared with, for people.
    pub fn compared_with(self) -> &'static str {
        match self {
            Self::Step => "the last few values",
            Self::Trend => "the last hundred values",
            Self::Season => "this hour of the day and of the week",
            Self::Burst => "the long run, over a few values",
            Self::Shift => "the long run, over some twenty-five values",
            Self::Unrest => "how quiet it usually is",
        }
    }
}

/// What the scorer is made of. [`Tuning::SHIPPED`] is used everywhere; others are for measuring what each part is worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tuning {
    /// Which of [`Stream::ALL`] are used.
    pub streams: [bool; STREAMS],
    /// From here on it is an alarm.
    pub alarm_decades: f64,
    /// How long an incident lasts; 0 for no hold.
    pub hold_s: f64,
    /// Whether what hardly moves the value is worth less.
    pub effect: bool,
    /// Whether points that come often are worth less.
    pub rate: bool,
    /// Whether many alarms make the next one dearer.
    pub budget: bool,
}

impl Tuning {
    /// What is shipped.
    pub const SHIPPED: Self = Self {
        streams: [true; STREAMS],
        alarm_decades: 2.5,
        hold_s: 12.0 * 3600.0,
        effect: true,
        rate: true,
        budget: true,
    };

    /// The score from which on it is an alarm.
    pub fn alarm_score(&self) -> f64 {
        score_of(self.alarm_decades)
    }
}

/// Decades to [0, 1).
fn score_of(decades: f64) -> f64 {
    decades.max(0.0) / (decades.max(0.0) + 10.0)
}

/// What is known of the value: who is most surprised, and by what.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reason {
    /// The most surprised stream.
    pub stream: Stream,
    /// What it looked at: the value, or what was made of it.
    pub observed: f64,
    /// Which side it is off.
    pub side: Side,
    /// Values so far that were nearly as far out.
    pub seen: f64,
    /// Of so many.
    pub of: f64,
    /// All but a fiftieth on each side were between these.
    pub expected: (f64, f64),
}

/// What the scorer says of one value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// 0..1; 0 while an incident is under way that saw worse.
    pub score: f64,
    /// The score is an alarm.
    pub alarm: bool,
    /// What the score is made of, before the hold; may be negative.
    pub decades: f64,
    /// 0..1: coverage of the point, and how much was learned before it.
    pub confidence: f64,
    /// Nothing while too little was learned.
    pub reason: Option<Reason>,
}

/// Decades at which a stream's part in [`Stream::Unrest`] ends, so that one great surprise is not many small ones.
const MOST_UNREST: f64 = 2.5;

/// Values the tails remember at most.
const MEMORY: u32 = 10_000;

/// Mean surprise below which nothing is restless, however calm it was: plain noise has more than twice that.
const LEAST_UNREST: f64 = 0.2;

/// Of the size of the values, the share that counts as their range at least.
const LEAST_RANGE: f64 = 0.01;

/// Steps without a point after which the fast means begin anew.
const GAP_STEPS: f64 = 30.0;

/// Points after which the scorer knows the series.
const KNOWN_AFTER: f64 = 1000.0;

/// Means by their rates, fastest first.
const RATES: [f64; 5] = [0.3, 0.15, 0.04, 0.01, 0.002];
/// Of these, how many are fast; and the slowest is the long run.
const FAST: usize = 3;
const LONG_RUN: usize = RATES.len() - 1;

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub struct Novelty {
    points: u64,
    last_s: f64,
    step_s: f64,
    least: f64,
    most: f64,
    means: [Mean; RATES.len()],
    unrest: Mean,
    season: Season,
    tails: Box<[Tail<MEMORY>; STREAMS]>,
    hold: Hold,
}

impl Default for Novelty {
    fn default() -> Self {
        Self {
            points: 0,
            last_s: f64::NEG_INFINITY,
            step_s: 0.0,
            least: f64::INFINITY,
            most: f64::NEG_INFINITY,
            means: Default::default(),
            unrest: Mean::default(),
            season: Season::default(),
            tails: Box::default(),
            hold: Hold::default(),
        }
    }
}

/// A residual, what it is the residual of, and the value it was compared with.
type Residual = Option<(f64, f64)>;

impl Novelty {
    /// Judges a point by all before it, then learns it.
    ///
    /// # Errors
    /// When the point is none; nothing is learned from it then.
    pub fn observe(&mut self, point: Point) -> Result<Verdict, Ignored> {
        self.observe_with(point, &Tuning::SHIPPED)
    }

    /// The same with parts left out.
    ///
    /// # Errors
    /// As [`Novelty::observe`].
    pub fn observe_with(&mut self, point: Point, tuning: &Tuning) -> Result<Verdict, Ignored> {
        point.check(self.last_s)?;
        self.keep_time(&point);
        self.points += 1;
        self.least = self.least.min(point.value);
        self.most = self.most.max(point.value);
        let residuals = self.residuals(&point);
        let (decades, reason) = self.surprise(&residuals, tuning);
        let decades = self.weigh(decades, point.coverage, tuning);
        let passed = match reason {
            Some(_) => self.hold.pass(point.time_s, self.points, decades, tuning),
            None => 0.0,
        };
        Ok(Verdict {
            score: score_of(passed),
            alarm: passed >= tuning.alarm_decades,
            decades,
            confidence: point.coverage.min(1.0) * (self.points as f64 / KNOWN_AFTER).min(1.0),
            reason,
        })
    }

    /// Memory it takes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.tails) + self.tails.iter().map(Tail::bytes).sum::<usize>()
    }

    /// Points learned.
    pub fn points(&self) -> u64 {
        self.points
    }

    /// Time of the newest; negative infinity before the first.
    pub fn last_s(&self) -> f64 {
        self.last_s
    }

    fn keep_time(&mut self, point: &Point) {
        if self.points > 0 {
            let step = point.time_s - self.last_s;
            if self.points == 1 {
                self.step_s = step;
            } else if step > GAP_STEPS * self.step_s {
                self.means[..FAST].iter_mut().for_each(|mean| mean.restart(point.value));
            }
            self.step_s += 0.05 * (step.min(2.0 * self.step_s) - self.step_s);
        }
        self.last_s = point.time_s;
    }

    /// The residuals of all streams but the last; what follows the value is compared before it is learned.
    fn residuals(&mut self, point: &Point) -> [Residual; STREAMS - 1] {
        let value = point.value;
        let before = self.means;
        for (mean, rate) in self.means.iter_mut().zip(RATES) {
            mean.learn(value, rate, self.points);
        }
        let season = self.season.residual(point.time_s, value);
        self.season.learn(point.time_s, value);
        if self.points == 1 {
            return [None; STREAMS - 1];
        }
        let off = |mean: usize| Some((value - before[mean].value(), value));
        let apart = |fast: usize| {
            let fast = self.means[fast].value();
            Some((fast - before[LONG_RUN].value(), fast))
        };
        [off(0), off(3), season.map(|off| (off, value)), apart(1), apart(2)]
    }

    /// The most surprised stream, and why; all learn.
    fn surprise(&mut self, residuals: &[Residual], tuning: &Tuning) -> (f64, Option<Reason>) {
        let mut most: Option<(f64, usize, f64, f64, Surprise)> = None;
        let (mut sum, mut count) = (0.0, 0.0);
        let used = |at: usize| residuals[at].filter(|_| tuning.streams[at]);
        for at in 0..residuals.len() {
            let Some((residual, observed)) = used(at) else { continue };
            let Some(surprise) = self.tails[at].judge(residual) else { continue };
            let decades = surprise.decades + self.effect(residual.abs(), tuning);
            sum += decades.max(0.0);
            count += 1.0;
            if most.is_none_or(|(most, ..)| decades > most) {
                most = Some((decades, at, residual, observed, surprise));
            }
        }
        let last = STREAMS - 1;
        let unrest = (count > 0.0 && tuning.streams[last]).then(|| {
            self.unrest.learn((sum / count).min(MOST_UNREST), 0.05, self.points);
            self.unrest.value()
        });
        if let Some(unrest) = unrest
            && unrest >= LEAST_UNREST
            && let Some(surprise) = self.tails[last].judge(unrest)
            && most.is_none_or(|(most, ..)| surprise.decades > most)
        {
            most = Some((surprise.decades, last, unrest, unrest, surprise));
        }
        let reason = most
            .map(|(_, at, residual, observed, surprise)| self.reason(Stream::ALL[at], residual, observed, surprise));
        for at in 0..residuals.len() {
            if let Some((residual, _)) = used(at) {
                self.tails[at].learn(residual);
            }
        }
        if let Some(unrest) = unrest {
            self.tails[last].learn(unrest);
        }
        (most.map_or(f64::NEG_INFINITY, |(decades, ..)| decades), reason)
    }

    fn reason(&self, stream: Stream, residual: f64, observed: f64, surprise: Surprise) -> Reason {
        let tail = &self.tails[stream as usize];
        let usual = observed - residual;
        let expected = (usual - tail.exceeded_by(Side::Below, 0.02), usual + tail.exceeded_by(Side::Above, 0.02));
        Reason { stream, observed, side: surprise.side, seen: surprise.seen, of: surprise.of, expected }
    }

    /// A tenth of all the value has been through is worth full weight, a hundredth one decade less.
    fn effect(&self, size: f64, tuning: &Tuning) -> f64 {
        // What was constant for long and moves by next to nothing has not moved.
        let range = (self.most - self.least).max(LEAST_RANGE * self.most.abs().max(self.least.abs()));
        if !tuning.effect || range <= 0.0 {
            return 0.0;
        }
        ((size / range).max(0.001) / 0.1).log10().min(0.0)
    }

    fn weigh(&self, decades: f64, coverage: f64, tuning: &Tuning) -> f64 {
        let rate = if tuning.rate && self.step_s > 0.0 { 0.5 * (300.0 / self.step_s).log10() } else { 0.0 };
        decades - rate - self.hold.price() + coverage.min(1.0).log10()
    }

    /// As bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new(Kind::Novelty);
        out.i64(self.points as i64);
        for number in [self.last_s, self.step_s, self.least, self.most] {
            out.f64(number);
        }
        for mean in self.means.iter().chain([&self.unrest]) {
            mean.write(&mut out);
        }
        self.season.write(&mut out);
        self.tails.iter().for_each(|tail| tail.write(&mut out));
        self.hold.write(&mut out);
        out.finish()
    }

    /// From bytes of [`Novelty::to_bytes`].
    ///
    /// # Errors
    /// When they are cut off, damaged or of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        let mut from = Reader::new(bytes, Kind::Novelty)?;
        let mut novelty = Self { points: from.i64()? as u64, ..Self::default() };
        let Self { last_s, step_s, least, most, .. } = &mut novelty;
        for number in [last_s, step_s, least, most] {
            *number = from.f64()?;
        }
        let Self { means, unrest, .. } = &mut novelty;
        for mean in means.iter_mut().chain([unrest]) {
            *mean = Mean::read(&mut from)?;
        }
        novelty.season = Season::read(&mut from)?;
        for tail in novelty.tails.iter_mut() {
            *tail = Tail::read(&mut from)?;
        }
        novelty.hold = Hold::read(&mut from)?;
        from.end()?;
        Ok(novelty)
    }
}
