//! When a reading that comes and goes is a problem, and when it no longer is.

/// Set after so many bad readings in a row, cleared after so many good ones in a row.
#[derive(Debug, Clone)]
pub struct Streak {
    bad_to_set: u32,
    good_to_clear: u32,
    set: bool,
    run: u32,
}

impl Streak {
    /// Clear at first.
    pub fn new(bad_to_set: u32, good_to_clear: u32) -> Self {
        Self {
            bad_to_set: bad_to_set.max(1),
            good_to_clear: good_to_clear.max(1),
            set: false,
            run: 0,
        }
    }

    /// One reading; returns whether the problem is there now.
    pub fn reading(&mut self, good: bool) -> bool {
        // A reading that agrees with how things stand ends the run against it.
        if good != self.set {
            self.run = 0;
            return self.set;
        }
        self.run += 1;
        let needed = if self.set {
            self.good_to_clear
        } else {
            self.bad_to_set
        };
        if self.run >= needed {
            self.set = !self.set;
            self.run = 0;
        }
        self.set
    }

    /// Takes over how things stood.
    pub fn resume(&mut self, set: bool) {
        (self.set, self.run) = (set, 0);
    }
}

/// Set when a value falls below one threshold, cleared when it rises above a higher one.
#[derive(Debug, Clone, Copy)]
pub struct Hysteresis {
    /// Set below this.
    pub below: f64,
    /// Cleared at or above this.
    pub clear_at: f64,
}

impl Hysteresis {
    /// Whether the problem is there, given whether it was.
    pub fn judge(&self, was_set: bool, value: f64) -> bool {
        if was_set {
            value < self.clear_at
        } else {
            value < self.below
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_streak_needs_its_readings_in_a_row() {
        let mut streak = Streak::new(3, 2);
        let seen: Vec<bool> = [false, false, true, false, false, false, true, false, true, true]
            .into_iter()
            .map(|good| streak.reading(good))
            .collect();
        assert_eq!(
            seen,
            [false, false, false, false, false, true, true, true, true, false]
        );
    }

    #[test]
    fn between_the_thresholds_things_stay_as_they_are() {
        let limits = Hysteresis {
            below: 10.0,
            clear_at: 15.0,
        };
        for (was_set, value, set) in [
            (false, 12.0, false),
            (true, 12.0, true),
            (false, 9.0, true),
            (true, 15.0, false),
        ] {
            assert_eq!(limits.judge(was_set, value), set, "{was_set} {value}");
        }
    }
}
