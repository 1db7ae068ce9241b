//! Share of the inputs for one of several processes, such as the tasks of an array job.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use crate::failure::Failure;
use crate::inputs::Input;

/// Share `index` (from 1) of `count`. Which inputs are in it depends on their names alone, so that it is the same on every
/// machine, whatever the other inputs are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shard {
    index: u64,
    count: NonZeroU64,
}

/// Value of `--shard`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ShardArg {
    Given(Shard),
    /// From the environment of an array job, whose number of tasks may be given.
    Auto(Option<NonZeroU64>),
}

/// Environment variables of array jobs: index of the task, first index, difference between indices, number of tasks.
const ARRAY_JOBS: [[&str; 4]; 3] = [
    [
        "SLURM_ARRAY_TASK_ID",
        "SLURM_ARRAY_TASK_MIN",
        "SLURM_ARRAY_TASK_STEP",
        "SLURM_ARRAY_TASK_COUNT",
    ],
    [
        "AWS_BATCH_JOB_ARRAY_INDEX",
        "",
        "",
        "AWS_BATCH_JOB_ARRAY_SIZE",
    ],
    // Kubernetes states no number of tasks.
    ["JOB_COMPLETION_INDEX", "", "", ""],
];

impl FromStr for ShardArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected I/N with I from 1 to N, auto or auto/N".to_owned();
        let (index, count) = match text.split_once('/') {
            Some((index, count)) => (index, Some(count.parse().map_err(|_| expected())?)),
            None => (text, None),
        };
        match (index, count) {
            ("auto", count) => Ok(Self::Auto(count)),
            (index, Some(count)) => match index.parse() {
                Ok(index) if (1..=count.get()).contains(&index) => {
                    Ok(Self::Given(Shard { index, count }))
                }
                _ => Err(expected()),
            },
            _ => Err(expected()),
        }
    }
}

impl ShardArg {
    /// Returns the shard; `variable` reads the environment.
    ///
    /// # Errors
    /// [`Failure::Usage`] if the environment does not state it.
    pub(crate) fn resolve(
        self,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Shard, Failure> {
        let count = match self {
            Self::Given(shard) => return Ok(shard),
            Self::Auto(count) => count,
        };
        let number = |name: &str| variable(name)?.trim().parse::<u64>().ok();
        let jobs = ARRAY_JOBS.iter();
        let Some((names, id)) = jobs
            .filter_map(|names| Some((names, number(names[0])?)))
            .next()
        else {
            let names = ARRAY_JOBS.map(|names| names[0]).join(", ");
            return Err(Failure::Usage(format!(
                "--shard auto: none of {names} is set; give --shard I/N"
            )));
        };
        let [first, step] =
            [(names[1], 0), (names[2], 1)].map(|(name, default)| number(name).unwrap_or(default));
        let index = id.saturating_sub(first) / step.max(1) + 1;
        let count = count.or_else(|| NonZeroU64::new(number(names[3])?));
        match count {
            Some(count) if index <= count.get() => Ok(Shard { index, count }),
            Some(count) => Err(Failure::Usage(format!(
                "--shard auto: {} is task {index} of {count}; give --shard auto/N with the number of tasks",
                names[0]
            ))),
            None => Err(Failure::Usage(format!(
                "--shard auto: {} is set, but not the number of tasks; give --shard auto/N",
                names[0]
            ))),
        }
    }
}

impl Shard {
    /// Returns whether `input` is in this share.
    pub(crate) fn has(self, input: &Input) -> bool {
        let digest = ring::digest::digest(&ring::digest::SHA256, input.display().as_bytes());
        let first = digest.as_ref().first_chunk().copied().unwrap_or_default();
        u64::from_be_bytes(first) % self.count == self.index - 1
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::inputs::Input;

    fn resolve(text: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let shard = text.parse::<ShardArg>()?.resolve(variable);
        shard
            .map(|shard| shard.to_string())
            .map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn a_shard_is_given_or_read_from_an_array_job() {
        assert_eq!(resolve("2/3", &[]).unwrap(), "2/3");
        for wrong in [
            "0/3", "4/3", "1/0", "1", "a/3", "1/", "/", "-1/3", "auto/0", "",
        ] {
            assert!(
                resolve(wrong, &[]).unwrap_err().contains("expected I/N"),
                "{wrong}"
            );
        }
        let slurm = [
            ("SLURM_ARRAY_TASK_ID", "14"),
            ("SLURM_ARRAY_TASK_MIN", "10"),
            ("SLURM_ARRAY_TASK_STEP", "2"),
            ("SLURM_ARRAY_TASK_COUNT", "5"),
        ];
        assert_eq!(resolve("auto", &slurm).unwrap(), "3/5");
        let aws = [
            ("AWS_BATCH_JOB_ARRAY_INDEX", "0"),
            ("AWS_BATCH_JOB_ARRAY_SIZE", "7"),
        ];
        assert_eq!(resolve("auto", &aws).unwrap(), "1/7");
        let kubernetes = [("JOB_COMPLETION_INDEX", "3")];
        assert_eq!(resolve("auto/4", &kubernetes).unwrap(), "4/4");
        assert!(resolve("auto", &kubernetes).unwrap_err().contains("auto/N"));
        assert!(
            resolve("auto/3", &kubernetes)
                .unwrap_err()
                .contains("task 4 of 3")
        );
        assert!(resolve("auto", &[]).unwrap_err().contains("none of"));
    }

    #[test]
    fn every_input_is_in_one_shard() {
        for i in 0..200 {
            let input = Input::file(format!("audio/{i}.wav").into(), "".as_ref());
            let shards = (1..=7).map(|index| format!("{index}/7"));
            let n = shards
                .filter(|text| match text.parse() {
                    Ok(ShardArg::Given(shard)) => shard.has(&input),
                    _ => false,
                })
                .count();
            assert_eq!(n, 1, "{i}");
        }
    }
}
