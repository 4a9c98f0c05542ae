//! What `programs/crunch.py` and `programs/Crunch.java` compute, computed once more.
use ckpt_tests::real::{Program, Steps};
use std::path::Path;

/// What `crunch.py` and `Crunch.java` compute.
struct Crunch {
    arrays: Vec<Vec<u64>>,
    sums: Vec<u64>,
}

impl Crunch {
    fn new() -> Self {
        Crunch { arrays: (0..4).map(|n| (n * 5000..(n + 1) * 5000).collect()).collect(), sums: Vec::new() }
    }

    /// The checksum of a step, counted from 1.
    fn checksum(&mut self, step: u64) -> u64 {
        let step = usize::try_from(step).expect("a step");
        while self.sums.len() < step {
            for numbers in &mut self.arrays {
                for (i, number) in (0..).zip(numbers) {
                    *number = number
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407 + i);
                }
            }
            let all = self.arrays.iter().flatten();
            self.sums.push(all.fold(0, |sum: u64, number| sum.wrapping_mul(31).wrapping_add(*number)));
        }
        self.sums[step - 1]
    }
}

/// A program that tells its steps in a file.
pub(crate) struct Stepping {
    job: &'static str,
    steps: Steps,
    crunch: Crunch,
}

impl Stepping {
    pub(crate) fn new(job: &'static str, steps: &Path) -> Self {
        Stepping { job, steps: Steps::of(steps), crunch: Crunch::new() }
    }
}

impl Program for Stepping {
    fn job(&self) -> &'static str {
        self.job
    }

    fn work(&mut self) {
        self.steps.go_on(&mut |step| self.crunch.checksum(step));
    }

    fn state(&mut self) -> u64 {
        self.steps.last(&mut |step| self.crunch.checksum(step))
    }

    fn forget(&mut self) {
        self.steps.forget();
    }

    fn first_state(&mut self) -> u64 {
        self.steps.first(&mut |step| self.crunch.checksum(step))
    }
}
