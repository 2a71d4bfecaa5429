//! Reloads: renewing lives without anybody missing them.
//!
//! A reload raises what each of its places wants, and that is all that there is of it; the rest follows from what is
//! there at any time. A place whose life began before what it wants is renewed when nobody in it is still leaving and
//! no successor boots anywhere: its successor is forked, and when that one is ready, the old one is asked to leave, with
//! a deadline of its own. So whatever comes in between needs no rule of its own: a second reload wants more; a death puts
//! another life in place; a stop wants nothing any more.
//!
//! Of several places that may be renewed it is the turn of the one whose life is the oldest. Reloads without end therefore renew
//! them all in turn, and none twice while another waits.
#![forbid(unsafe_code)]

use super::place::Place;
use super::{Command, Millis, Phase, Supervisor, Which};

/// How far a reload has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    renewed: usize,
    kept: usize,
}

impl Supervisor {
    pub(super) fn reload(&mut self, which: Which, out: &mut Vec<Command>) {
        if self.phase != Phase::Running {
            return;
        }
        self.epoch += 1;
        for (id, place) in self.places.iter_mut().enumerate() {
            let meant = match which {
                Which::All => true,
                Which::Group(group) => place.group == group,
                Which::Place(place) => place == id,
            };
            if meant {
                place.wanted = self.epoch;
                place.spoilt = 0;
            }
        }
        if self.reload.is_none() {
            self.reload = Some(Progress::default());
            out.push(Command::TellReload);
        }
    }

    /// A worker wants to be renewed. The word of one that is not the one of its place any more says nothing about its successor.
    pub(super) fn worn(&mut self, id: usize, said_by: u32, out: &mut Vec<Command>) {
        let current = self.places.get(id).and_then(|place| place.current.as_ref());
        if current.is_some_and(|life| life.seat.generation == said_by && life.is_running()) {
            self.reload(Which::Place(id), out);
        }
    }

    /// When a successor may be forked; `None` while one boots, or when there is nothing to renew.
    pub(super) fn next_renewal(&self) -> Option<Millis> {
        let idle = self.phase == Phase::Running && !self.places.iter().any(Place::is_renewing);
        self.renewals().map(|(at, ..)| at).min().filter(|_| idle)
    }

    fn renewals(&self) -> impl Iterator<Item = (Millis, u64, usize)> {
        self.places.iter().zip(0..).filter_map(|(place, id)| place.renewal().map(|(at, epoch)| (at, epoch, id)))
    }

    /// Forks the next successor if it is time, and ends the reload if there is nothing left to renew.
    pub(super) fn renew(&mut self, now: Millis, out: &mut Vec<Command>) {
        if self.phase != Phase::Running {
            return;
        }
        if !self.places.iter().any(Place::is_renewing) {
            let due = self.renewals().filter(|(at, ..)| *at <= now).min_by_key(|(_, epoch, id)| (*epoch, *id));
            if let Some((.., id)) = due {
                out.push(self.places[id].fork(now, self.epoch));
            }
        }
        if !self.places.iter().any(|place| place.is_outdated() || place.is_renewing())
            && let Some(Progress { renewed, kept }) = self.reload.take()
        {
            out.push(Command::TellReloaded { renewed, kept });
        }
    }

    /// Another life is in this place now, or on its way, instead of one as old as `epoch`.
    pub(super) fn renewed(&mut self, id: usize, epoch: u64) {
        if let Some(progress) = &mut self.reload
            && epoch < self.places[id].wanted
        {
            progress.renewed += 1;
        }
    }

    /// Gives up to renew this place.
    pub(super) fn keep(&mut self, id: usize, deaths: u32, out: &mut Vec<Command>) {
        let place = &mut self.places[id];
        place.wanted = place.current.as_ref().map_or(place.wanted, |life| life.epoch);
        place.spoilt = 0;
        if let Some(progress) = &mut self.reload {
            progress.kept += 1;
        }
        out.push(Command::TellKept { id, deaths });
    }

    /// It is over with the reload, however far it has come.
    pub(super) fn break_off(&mut self, out: &mut Vec<Command>) {
        let old = self.places.iter().filter(|place| place.is_outdated()).count();
        if let Some(Progress { renewed, kept }) = self.reload.take() {
            out.push(Command::TellReloaded { renewed, kept: kept + old });
        }
    }
}
