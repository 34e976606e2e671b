//! One priority level's seats and fair queues. Pure: time comes in, decisions go out.
//!
//! As in the original: a flow is dealt a hand of queues and waits in the one with the least ahead of it; each
//! queue has its own virtual clock, and among the queues with something waiting the one that would finish
//! first in virtual time goes next. A request takes as many seats as it is wide. Invariants: the seats in use
//! are those of the requests that were let in and have not finished; nobody waits while there is room.

use std::collections::VecDeque;

use super::schema::Queuing;

/// What a request is taken to last before it is known, in seconds; the original's guess.
const SERVICE_SECONDS: f64 = 0.003;

/// A request in the level.
pub(super) type Id = u64;

#[derive(Debug, Clone, Copy)]
struct Waiting {
    id: Id,
    seats: u32,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    waiting_seats: u32,
    seats_in_use: u32,
    executing: u32,
    /// Virtual time at which its next request would start.
    next_start: f64,
}

/// A request that was let in: given back when it ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seat {
    seats: u32,
    queue: Option<usize>,
    since_seconds: f64,
}

/// What becomes of a request that comes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Arrival {
    Runs(Seat),
    Waits,
    Refused,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queues {
    config: Option<Queuing>,
    queues: Vec<Queue>,
    /// Seats that may be in use now.
    pub limit: u32,
    pub seats_in_use: u32,
    pub executing: u32,
    pub waiting: u32,
    waiting_seats: u32,
    /// The most seats that were wanted at once since it was last asked.
    demand: u32,
    virtual_now: f64,
    real_now: f64,
    robin: usize,
    next_id: Id,
}

impl Queues {
    /// Takes on another configuration; what waits in a queue that is gone moves to the first.
    pub(super) fn configure(&mut self, config: Option<Queuing>, limit: u32) {
        self.limit = limit;
        if self.config == config && !self.queues.is_empty() {
            return;
        }
        self.config = config;
        let wanted = config.map_or(0, |config| config.queues.max(1));
        if self.queues.len() < wanted || (self.waiting == 0 && self.executing == 0) {
            self.queues.resize_with(wanted.max(1), Queue::default);
        }
    }

    /// The most seats wanted at once since the last call.
    pub(super) fn take_demand(&mut self) -> u32 {
        std::mem::replace(&mut self.demand, self.seats_in_use + self.waiting_seats)
    }

    pub(super) fn next_id(&mut self) -> Id {
        self.next_id += 1;
        self.next_id
    }

    /// A request comes.
    pub(super) fn arrive(&mut self, now: f64, id: Id, flow: u64, seats: u32) -> Arrival {
        self.advance(now);
        self.demand = self.demand.max(self.seats_in_use + self.waiting_seats + seats);
        let Some(config) = self.config else {
            if !self.has_room(seats) {
                return Arrival::Refused;
            }
            self.seats_in_use += seats;
            self.executing += 1;
            return Arrival::Runs(Seat {
                seats,
                queue: None,
                since_seconds: now,
            });
        };
        let index = self.deal(config, flow);
        if self.waiting == 0 && self.has_room(seats) {
            self.wake(index);
            return Arrival::Runs(self.run(index, seats, now));
        }
        if self.queues[index].waiting.len() >= config.queue_length_limit {
            return Arrival::Refused;
        }
        self.wake(index);
        let queue = &mut self.queues[index];
        queue.waiting.push_back(Waiting { id, seats });
        queue.waiting_seats += seats;
        self.waiting += 1;
        self.waiting_seats += seats;
        Arrival::Waits
    }

    /// A request ends.
    pub(super) fn finish(&mut self, now: f64, seat: Seat) {
        self.advance(now);
        self.seats_in_use = self.seats_in_use.saturating_sub(seat.seats);
        self.executing = self.executing.saturating_sub(1);
        if let Some(queue) = seat.queue.and_then(|index| self.queues.get_mut(index)) {
            queue.seats_in_use = queue.seats_in_use.saturating_sub(seat.seats);
            queue.executing = queue.executing.saturating_sub(1);
            let took = (now - seat.since_seconds).max(0.0);
            queue.next_start += f64::from(seat.seats) * (took - SERVICE_SECONDS);
        }
    }

    /// Lets in the next one that waits, if there is room for it.
    pub(super) fn next(&mut self, now: f64) -> Option<(Id, Seat)> {
        if self.waiting == 0 {
            return None;
        }
        self.advance(now);
        let count = self.queues.len();
        let mut best: Option<(f64, usize)> = None;
        for step in 1..=count {
            let index = (self.robin + step) % count;
            let queue = &self.queues[index];
            let Some(first) = queue.waiting.front() else {
                continue;
            };
            let finish = queue.next_start + SERVICE_SECONDS * f64::from(first.seats);
            if best.is_none_or(|(least, _)| finish < least) {
                best = Some((finish, index));
            }
        }
        let (_, index) = best?;
        let first = *self.queues[index].waiting.front()?;
        if !self.has_room(first.seats) {
            return None;
        }
        self.robin = index;
        self.queues[index].waiting.pop_front();
        self.left(index, first.seats);
        Some((first.id, self.run(index, first.seats, now)))
    }

    /// Takes a waiting request out; false where it does not wait.
    pub(super) fn cancel(&mut self, id: Id) -> bool {
        for index in 0..self.queues.len() {
            let queue = &mut self.queues[index];
            if let Some(position) = queue.waiting.iter().position(|one| one.id == id)
                && let Some(one) = queue.waiting.remove(position)
            {
                self.left(index, one.seats);
                return true;
            }
        }
        false
    }

    fn left(&mut self, index: usize, seats: u32) {
        self.queues[index].waiting_seats -= seats;
        self.waiting -= 1;
        self.waiting_seats -= seats;
    }

    fn run(&mut self, index: usize, seats: u32, now: f64) -> Seat {
        let queue = &mut self.queues[index];
        queue.seats_in_use += seats;
        queue.executing += 1;
        queue.next_start += SERVICE_SECONDS * f64::from(seats);
        self.seats_in_use += seats;
        self.executing += 1;
        Seat {
            seats,
            queue: Some(index),
            since_seconds: now,
        }
    }

    /// A request that is wider than the level runs alone.
    fn has_room(&self, seats: u32) -> bool {
        self.seats_in_use == 0 || self.seats_in_use + seats <= self.limit
    }

    /// A queue that was idle starts from now: it saved nothing up.
    fn wake(&mut self, index: usize) {
        let queue = &mut self.queues[index];
        if queue.waiting.is_empty() && queue.executing == 0 {
            queue.next_start = self.virtual_now;
        }
    }

    fn advance(&mut self, now: f64) {
        let passed = (now - self.real_now).max(0.0);
        self.real_now = now;
        if self.executing == 0 && self.waiting == 0 {
            return;
        }
        let active = self
            .queues
            .iter()
            .filter(|queue| queue.executing > 0 || !queue.waiting.is_empty())
            .count();
        if active > 0 {
            let wanted = (self.seats_in_use + self.waiting_seats).min(self.limit.max(1));
            self.virtual_now += passed * f64::from(wanted) / active as f64;
        }
    }

    /// The queue of the flow's hand with the least ahead.
    fn deal(&self, config: Queuing, mut flow: u64) -> usize {
        let deck = config.queues.clamp(1, self.queues.len().max(1));
        let hand = config.hand_size.clamp(1, deck);
        let mut dealt: Vec<usize> = Vec::with_capacity(hand);
        let mut best = (u32::MAX, 0);
        for position in 0..hand {
            let left = (deck - position) as u64;
            let mut card = (flow % left) as usize;
            flow /= left;
            // The card counts only those that are still in the deck.
            for one in &dealt {
                if card >= *one {
                    card += 1;
                }
            }
            let place = dealt.partition_point(|one| *one < card);
            dealt.insert(place, card);
            let queue = &self.queues[card];
            let ahead = queue.waiting_seats + queue.seats_in_use;
            if ahead < best.0 {
                best = (ahead, card);
            }
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(limit: u32, queues: usize, length: usize) -> Queues {
        let mut level = Queues::default();
        level.configure(
            Some(Queuing {
                queues,
                hand_size: 1,
                queue_length_limit: length,
            }),
            limit,
        );
        level
    }

    fn arrive(level: &mut Queues, now: f64, flow: u64, seats: u32) -> (Id, Arrival) {
        let id = level.next_id();
        (id, level.arrive(now, id, flow, seats))
    }

    #[test]
    fn seats_are_given_once_and_queues_are_bounded() {
        let mut level = level(2, 4, 2);
        let Arrival::Runs(first) = arrive(&mut level, 0.0, 1, 1).1 else {
            panic!("there is room");
        };
        assert!(matches!(arrive(&mut level, 0.0, 1, 1).1, Arrival::Runs(_)));
        let (waiting, arrival) = arrive(&mut level, 0.0, 1, 1);
        assert_eq!(arrival, Arrival::Waits);
        let (gone, _) = arrive(&mut level, 0.0, 1, 1);
        assert_eq!(arrive(&mut level, 0.0, 1, 1).1, Arrival::Refused);
        assert!(level.next(0.0).is_none());
        assert!(level.cancel(gone) && !level.cancel(gone));
        level.finish(1.0, first);
        assert_eq!(level.next(1.0).map(|(id, _)| id), Some(waiting));
        assert!(level.next(1.0).is_none());
        assert_eq!((level.seats_in_use, level.waiting, level.executing), (2, 0, 2));
        assert_eq!((level.take_demand(), level.take_demand()), (5, 2));
    }

    #[test]
    fn a_wide_request_runs_alone_and_nothing_is_queued_without_queues() {
        let mut level = level(2, 1, 9);
        let Arrival::Runs(wide) = arrive(&mut level, 0.0, 0, 5).1 else {
            panic!("it runs alone");
        };
        assert_eq!(arrive(&mut level, 0.0, 0, 1).1, Arrival::Waits);
        level.finish(0.1, wide);
        assert!(level.next(0.1).is_some());
        let mut none = Queues::default();
        none.configure(None, 1);
        assert!(matches!(arrive(&mut none, 0.0, 0, 1).1, Arrival::Runs(_)));
        assert_eq!(arrive(&mut none, 0.0, 0, 1).1, Arrival::Refused);
    }

    /// A flow that floods its queue does not starve one that asks now and then.
    #[test]
    fn a_mouse_is_not_starved_by_an_elephant() {
        let mut level = level(1, 8, 1000);
        let mut now = 0.0;
        let Arrival::Runs(mut running) = arrive(&mut level, now, 0, 1).1 else {
            panic!("there is room");
        };
        for _ in 0..200 {
            assert_eq!(arrive(&mut level, now, 0, 1).1, Arrival::Waits);
        }
        let (mouse, _) = arrive(&mut level, now, 3, 1);
        for turn in 0.. {
            now += 0.01;
            level.finish(now, running);
            let (id, seat) = level.next(now).unwrap();
            running = seat;
            if id == mouse {
                assert!(turn <= 2, "the mouse waited {turn} turns");
                break;
            }
        }
    }

    #[test]
    fn a_hand_has_no_queue_twice_and_flows_spread() {
        let mut level = level(0, 16, 50);
        level.config = Some(Queuing {
            queues: 16,
            hand_size: 4,
            queue_length_limit: 50,
        });
        let mut used = std::collections::HashSet::new();
        for flow in 0..2000_u64 {
            used.insert(level.deal(level.config.unwrap(), flow.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        }
        assert_eq!(used.len(), 16);
    }
}
