//! What an operation is to the harness.

use std::rc::Rc;

use crate::checker::Death;
use crate::kit::Check;
use crate::world::World;

/// What the traced child does between its marks; what it does before, it does while this is made.
pub type Act<'a> = Box<dyn FnOnce() + 'a>;

#[derive(Clone)]
pub struct Op {
    pub name: String,
    /// Brings a fresh world into the interesting state, before the fork.
    pub arrange: Rc<dyn Fn(&mut World)>,
    /// In the traced child.
    pub child: for<'a> fn(&'a World) -> Act<'a>,
    /// In the tracer, when the child has come to its first mark: those who wait for what the child holds.
    pub meanwhile: fn(&mut World),
    /// In a checker.
    pub check: fn(&World, &Death) -> Check,
    /// Like a check, while the child is stopped and lives.
    pub alive: fn(&World, &Death) -> Check,
    /// What a process that comes by does, and may die of in its turn.
    pub rescue: fn(&World),
    /// The stage that the check finds once the operation has returned.
    pub last: Option<u64>,
    /// The operation ends in `exit` instead of coming back.
    pub exits: bool,
    /// Another operation leaves the same to be recovered: nobody is killed inside recovery, and fewer for real.
    pub brief: bool,
}

impl Op {
    pub fn new(
        name: impl Into<String>,
        child: for<'a> fn(&'a World) -> Act<'a>,
        check: fn(&World, &Death) -> Check,
    ) -> Op {
        Op {
            name: name.into(),
            arrange: Rc::new(|_| {}),
            child,
            meanwhile: |_| {},
            check,
            alive: |_, _| Ok(0),
            rescue: |world| drop(world.scratch.try_lock()),
            last: None,
            exits: false,
            brief: false,
        }
    }
    pub fn arrange(self, arrange: impl Fn(&mut World) + 'static) -> Op {
        Op { arrange: Rc::new(arrange), ..self }
    }
    pub fn meanwhile(self, meanwhile: fn(&mut World)) -> Op {
        Op { meanwhile, ..self }
    }
    pub fn alive(self, alive: fn(&World, &Death) -> Check) -> Op {
        Op { alive, ..self }
    }
    pub fn rescue(self, rescue: fn(&World)) -> Op {
        Op { rescue, ..self }
    }
    pub fn last(self, stage: u64) -> Op {
        Op { last: Some(stage), ..self }
    }
    pub fn brief(self, brief: bool) -> Op {
        Op { brief, ..self }
    }
    pub fn exits(self) -> Op {
        Op { exits: true, ..self }
    }
}
