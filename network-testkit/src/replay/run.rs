//! Runs one scenario on our API, in a time that stands still.

use std::{sync::Arc, time::Duration};

use tokio::task::yield_now;

use super::{
    address::Addresses,
    chain::{Chains, Setting},
    event::Event,
    scenario::Scenario,
    steps::run_step,
    world::{Notes, World},
};

/// How long a scenario may take by the clock on the wall.
pub const TIME_LIMIT: Duration = Duration::from_secs(10);

/// What was seen of ours.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// For each step that was waited for, and at last for `end`.
    pub(super) segments: Vec<(String, Vec<Event>)>,
    pub(super) notes: Notes,
}

/// Runs the steps of a scenario, on a thread of its own.
///
/// # Errors
/// It did not end, or something in it panicked.
pub(super) fn run(scenario: &Scenario, chains: Option<Arc<dyn Chains>>) -> Result<Seen, String> {
    let (done, outcome) = std::sync::mpsc::channel();
    let scenario = scenario.clone();
    let thread = std::thread::Builder::new().name(format!("replay {}", scenario.id));
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .map_err(|error| format!("no runtime: {error}"));
        // Nobody waits any more if this took too long.
        let _ =
            done.send(runtime.and_then(|runtime| runtime.block_on(all_steps(&scenario, chains))));
    };
    if let Err(error) = thread.spawn(work) {
        return Err(format!("no thread: {error}"));
    }
    match outcome.recv_timeout(TIME_LIMIT) {
        Ok(seen) => seen,
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
            Err(format!("it did not end within {TIME_LIMIT:?}"))
        }
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => Err("the run panicked".to_owned()),
    }
}

async fn all_steps(scenario: &Scenario, chains: Option<Arc<dyn Chains>>) -> Result<Seen, String> {
    let steps = &scenario.steps;
    let world = World::new(Addresses::of(steps), Setting::of(steps), chains);
    let mut segments = Vec::new();
    let mut waiting = Vec::new();
    for step in &scenario.steps {
        world.started(&step.id);
        let (id, nowait) = (step.id.clone(), step.nowait);
        waiting.push(tokio::spawn(run_step(world.clone(), step.clone(), Vec::new())));
        if nowait {
            // Core hands these to tasks of their own, which begin a turn later.
            if ["bind", "addListener", "removeListener", "revoke"].contains(&step.op.as_str()) {
                yield_now().await;
            }
            continue;
        }
        rest(&world).await.map_err(|()| format!("step {id} did not come to rest"))?;
        panicked(&mut waiting).await?;
        if world.unsettled().contains(&id) {
            world.see(Event::Stalled { step: id.clone() });
        }
        segments.push((id, world.take_log()));
    }
    rest(&world).await.map_err(|()| "the end did not come to rest".to_owned())?;
    panicked(&mut waiting).await?;
    for step in world.unsettled() {
        world.see(Event::Pending { step });
    }
    segments.push(("end".to_owned(), world.take_log()));
    let notes = world.notes();
    world.clear();
    Ok(Seen { segments, notes })
}

/// Waits until nothing can happen any more: every task has been polled many times and nothing
/// new was seen. Time does not pass meanwhile.
async fn rest(world: &Arc<World>) -> Result<(), ()> {
    const QUIET: usize = 64;
    const TRIES: usize = 4096;
    for _ in 0..TRIES {
        let before = world.activity();
        for _ in 0..QUIET {
            yield_now().await;
        }
        if world.activity() == before {
            return Ok(());
        }
    }
    Err(())
}

/// Looks after the tasks of steps that have ended.
async fn panicked(waiting: &mut Vec<tokio::task::JoinHandle<()>>) -> Result<(), String> {
    for task in std::mem::take(waiting) {
        if !task.is_finished() {
            waiting.push(task);
        } else if let Err(error) = task.await {
            return Err(format!("a step panicked: {error}"));
        }
    }
    Ok(())
}
