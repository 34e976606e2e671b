//! One condition that bad readings in a row set and good ones clear.

use super::{Conditions, Findings, Streak};
use crate::Fault;

/// A condition with the streak that decides about it; what it knows is handed over on a swap.
#[derive(Debug)]
pub struct Alarm {
    type_name: &'static str,
    streak: Streak,
    conditions: Conditions,
    told: bool,
}

impl Alarm {
    /// Unknown until the first reading.
    pub fn new(type_name: &'static str, bad_to_set: u32, good_to_clear: u32) -> Self {
        Self {
            type_name,
            streak: Streak::new(bad_to_set, good_to_clear),
            conditions: Conditions::default(),
            told: false,
        }
    }

    /// One reading: what is bad about it, as reason and message, or nothing; and what is said when all is well.
    /// After a hand-off the first one says again how things stand.
    pub fn reading(
        &mut self,
        bad: Option<(&str, String)>,
        (well, message): (&str, &str),
        now_ms: u64,
        found: &mut Findings,
    ) {
        if !std::mem::replace(&mut self.told, true) {
            self.conditions.repeat(found);
        }
        let was = self.conditions.is_set(self.type_name);
        let now = self.streak.reading(bad.is_none());
        match bad {
            Some((reason, message)) if now && !was => {
                self.conditions
                    .set(self.type_name, reason, message, now_ms, found);
            }
            _ if !now && (was || !self.conditions.is_known(self.type_name)) => {
                self.conditions
                    .clear(self.type_name, well, message, now_ms, found);
            }
            _ => {}
        }
    }

    /// For [`HandOff::save`](crate::HandOff::save).
    pub fn save(&self) -> Vec<u8> {
        self.conditions.save()
    }

    /// For [`HandOff::restore`](crate::HandOff::restore).
    ///
    /// # Errors
    /// When the state is of another format.
    pub fn restore(&mut self, state: &[u8]) -> Result<(), Fault> {
        self.conditions = Conditions::restore(state)?;
        self.streak.resume(self.conditions.is_set(self.type_name));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_goes_on_where_the_alarm_stood() {
        let new = || Alarm::new("Sick", 2, 1);
        let read = |alarm: &mut Alarm, bad: bool| {
            let mut found = Vec::new();
            let bad = bad.then(|| ("Fever", "39".to_owned()));
            alarm.reading(bad, ("Well", "37"), 1, &mut found);
            found.len()
        };
        let mut alarm = new();
        let told: Vec<usize> = [false, true, true, true].map(|bad| read(&mut alarm, bad)).into();
        assert_eq!(told, [1, 0, 1, 0]);
        let mut next = new();
        next.restore(&alarm.save()).expect("its own state");
        // It repeats what stands, then needs one good reading to clear it.
        assert_eq!((read(&mut next, true), read(&mut next, false)), (1, 1));
    }
}
