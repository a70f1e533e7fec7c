// SPDX-License-Identifier: BSD-2-Clause
//! Builds the images of tests and boots them, in rounds if tests are repeated.

use super::judge;
use super::soak::Record;
use super::{Options, Tally};
use crate::build::{Builder, Image};
use crate::error::{Error, Result, make_folder};
use crate::guest;
use crate::overhead::Overhead;
use crate::plan::{self, Dialogue, Job, Subject};
use crate::protocol::Verdict;
use crate::qemu::{self, Machine};
use crate::system::System;
use crate::toolchain::Variant;
use crate::ui::Step;
use crate::workspace::Workspace;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An image, and what it was made of; or why there is none.
type Built = (Subject, std::result::Result<Image, String>);

/// Boots of tests.
pub struct Boots<'a, 'b> {
    workspace: &'a Workspace,
    builder: &'a mut Builder<'b>,
    options: &'a Options,
    logs: PathBuf,
    images: BTreeMap<(String, Variant), Built>,
    record: Record,
}

impl<'a, 'b> Boots<'a, 'b> {
    /// Nothing is built.
    pub fn new(
        workspace: &'a Workspace,
        builder: &'a mut Builder<'b>,
        options: &'a Options,
    ) -> Result<Self> {
        let logs = workspace.target.join("test-logs");
        make_folder(&logs)?;
        Ok(Self {
            workspace,
            builder,
            options,
            logs,
            images: BTreeMap::new(),
            record: Record::new(workspace),
        })
    }

    /// Boots every job as often as it says: in rounds, so that all have run before one runs again. With a
    /// length of time all that starts anew until that is over.
    pub fn run(mut self, jobs: &[Job], tally: &mut Tally) -> Result<Record> {
        let rounds = jobs.iter().map(|job| job.repeat).max().unwrap_or(0);
        let endless = self.options.length.is_some() && rounds > 0;
        loop {
            for round in 1..=rounds {
                if self.is_over() {
                    break;
                }
                let due = jobs.iter().filter(|job| job.repeat >= round);
                let due: Vec<Job> = due
                    .map(|job| job.in_run(self.record.runs(&job.name) as u32 + 1))
                    .collect();
                let name = match rounds {
                    1 if !endless => format!("{} boots", due.len()),
                    _ => format!("round {round} of {rounds}: {} boots", due.len()),
                };
                self.round(name, &due, tally)?;
            }
            if !endless || self.is_over() {
                return Ok(self.record);
            }
        }
    }

    /// Whether the time is over.
    fn is_over(&self) -> bool {
        let length = self.options.length;
        length.is_some_and(|length| self.record.age() >= length)
    }

    /// Builds what has changed, then boots every job once, some at a time.
    fn round(&mut self, name: String, jobs: &[Job], tally: &mut Tally) -> Result<()> {
        let mut ready: Vec<(&Job, Machine)> = Vec::new();
        for job in jobs {
            let board = self.workspace.board(&job.variant.board)?;
            match self.image(job) {
                Ok(image) => {
                    ready.push((job, machine(job, Machine::new(&board, image))));
                }
                Err(why) => {
                    let failures = vec![("image".into(), why.clone())];
                    let verdict = Verdict {
                        passed: 0,
                        failures,
                    };
                    self.record.add(&job.name, &verdict);
                    tally.add(&job.name, verdict);
                }
            }
        }
        if ready.is_empty() {
            return Ok(());
        }
        self.record.start();
        let step = Step::new(name);
        let failures = tally.failures.len();
        // Several cores run in wall time: such a machine needs host processors of its own.
        let (several, one): (Vec<_>, Vec<_>) = ready
            .iter()
            .partition(|(job, _)| job.smp > 1 && !job.icount);
        let parallel = self.options.parallel.max(1);
        let results = Mutex::new((&mut self.record, &mut *tally));
        for (boots, workers) in [(one, parallel), (several, (parallel / 2).max(1))] {
            let next = AtomicUsize::new(0);
            let work = || {
                while let Some((job, machine)) = boots.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let lock = || results.lock().unwrap_or_else(PoisonError::into_inner);
                    let (run, age) = {
                        let (record, _) = &*lock();
                        (record.runs(&job.name) + 1, record.age())
                    };
                    if self.options.length.is_some_and(|length| age >= length) {
                        return Ok(());
                    }
                    step.detail(job.name.clone());
                    let log = log_path(&self.logs, &job.name, run);
                    let clock = Instant::now();
                    let (verdict, tail) = judge::boot(job, machine, &log);
                    report(&step, job, run, clock.elapsed(), &verdict, &tail);
                    // Of the runs after the first, only what went wrong is of interest.
                    if run > 1 && verdict.failures.is_empty() {
                        remove_log(&log);
                    }
                    let (record, tally) = &mut *lock();
                    record.add(&job.name, &verdict);
                    record.save()?;
                    tally.add(&job.name, verdict);
                }
                Ok(())
            };
            std::thread::scope(|scope| {
                let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
                workers.into_iter().try_for_each(|worker| {
                    let ended = worker.join();
                    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
            })?;
        }
        let note = format!("logs in {}", self.logs.display());
        if tally.failures.len() == failures {
            step.done(&note);
        } else {
            step.failed(&note);
        }
        Ok(())
    }

    /// The image of a job, built if there is none of just this.
    fn image(&mut self, job: &Job) -> std::result::Result<&Image, &String> {
        let key = (job.subject.image(&job.name), job.variant.clone());
        let made_of = job.subject.contents();
        if self.images.get(&key).is_none_or(|(old, _)| *old != made_of) {
            let built = build(self.workspace, self.builder, job, self.options.download)
                .and_then(|image| check_memory(job, image));
            let image = built.map_err(|error| {
                eprintln!("  FAILED image of {}: {error}", job.name);
                error.to_string()
            });
            self.images.insert(key.clone(), (made_of, image));
        }
        self.images[&key].1.as_ref()
    }
}

/// The machine that a job wants.
fn machine(job: &Job, mut machine: Machine) -> Machine {
    machine.smp = job.smp;
    if let Some(memory) = &job.memory {
        machine.memory.clone_from(memory);
    }
    machine.icount = job.icount;
    machine
}

impl Subject {
    /// Name of the image: a system that the test alters has one of its own, named after the test.
    fn image(&self, job: &str) -> String {
        match self {
            Subject::Suite { package, .. } | Subject::Guest { package, .. } => package.clone(),
            Subject::System { alterations, .. } if alterations.any() => plain(job),
            Subject::System { system, .. } => system.clone(),
        }
    }

    /// What decides the contents of the image: tests with several dialogues may share one.
    fn contents(&self) -> Self {
        let mut contents = self.clone();
        if let Self::System { dialogue, .. } = &mut contents {
            *dialogue = Dialogue::default();
        }
        contents
    }
}

/// A system takes little memory beside its guests', where they have what they say.
fn check_memory(job: &Job, image: Image) -> Result<Image> {
    let bounded = match &job.subject {
        Subject::Suite { .. } => false,
        Subject::Guest { alterations, .. } | Subject::System { alterations, .. } => {
            alterations.guest_backing.is_none()
        }
    };
    if bounded && let Some(overhead) = Overhead::of(&image)? {
        overhead.check()?;
    }
    Ok(image)
}

fn build(workspace: &Workspace, builder: &mut Builder, job: &Job, download: bool) -> Result<Image> {
    workspace.config(&job.variant.config)?;
    let memory = job.memory.as_deref().map(qemu::memory_bytes);
    let memory = memory.transpose().map_err(Error::Usage)?;
    match &job.subject {
        Subject::Suite {
            package,
            environment,
        } => builder.suite(package, environment, &job.variant),
        Subject::Guest { alterations, .. } => {
            let mut system = System::find(workspace, plan::GUEST_SYSTEM)?;
            system.memory = memory;
            let system = guest::altered(workspace, system, alterations, download)?;
            builder.system(&system, &job.variant)
        }
        Subject::System {
            system,
            alterations,
            ..
        } => {
            let mut system = System::find(workspace, system)?;
            system.name = job.subject.image(&job.name);
            system.memory = memory;
            let system = guest::altered(workspace, system, alterations, download)?;
            builder.system(&system, &job.variant)
        }
    }
}

/// The name in characters that every file name may have.
fn plain(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "-_.".contains(c) {
            c
        } else {
            '-'
        }
    };
    name.chars().map(plain).collect()
}

fn log_path(logs: &Path, name: &str, run: usize) -> PathBuf {
    let name = plain(name);
    match run {
        1 => logs.join(format!("{name}.log")),
        _ => logs.join(format!("{name}.run-{run}.log")),
    }
}

fn remove_log(log: &Path) {
    for file in [log.to_path_buf(), log.with_extension("err")] {
        // What is left behind does no harm.
        let _ = std::fs::remove_file(file);
    }
}

fn report(step: &Step, job: &Job, run: usize, time: Duration, verdict: &Verdict, tail: &str) {
    let name = match run {
        1 => job.name.clone(),
        _ => format!("{}, run {run}", job.name),
    };
    let (passed, seconds) = (verdict.passed, time.as_secs_f32());
    if verdict.failures.is_empty() {
        step.line(&format!(
            "      ok {name} ({passed} passed, {seconds:.1} s)"
        ));
        return;
    }
    step.line(&format!("  FAILED {name} ({seconds:.1} s)"));
    for (test, why) in &verdict.failures {
        step.line(&format!("         {test}: {why}"));
    }
    step.line(tail.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_names_are_file_names() {
        let path = |run| log_path(Path::new("/l"), "system a/b-debug-1", run);
        assert_eq!(path(1), Path::new("/l/system-a-b-debug-1.log"));
        assert_eq!(path(2), Path::new("/l/system-a-b-debug-1.run-2.log"));
    }
}
