//! Share of the inputs for one of several processes, such as the tasks of an array job.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use crate::failure::Failure;
use crate::inputs::Input;

/// Share `index` (from 1) of `count`: the inputs in the order of their resolved paths are dealt out in turn. So shares are even,
/// and do not depend on the order of the inputs or on how they are spelled; all processes must be given the same ones.
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
    /// Returns for each of `inputs` whether it is in this share.
    pub(crate) fn of(self, inputs: &[Input]) -> Vec<bool> {
        let mut order: Vec<usize> = (0..inputs.len()).collect();
        // Stable: a file that is listed again keeps its place.
        order.sort_by_key(|&index| &inputs[index].identity);
        let mut is_in = vec![false; inputs.len()];
        for (turn, index) in (0..).zip(order) {
            is_in[index] = turn % self.count == self.index - 1;
        }
        is_in
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
    fn every_input_is_in_one_shard_whatever_its_spelling_and_place() {
        let folder = tempfile::tempdir().unwrap();
        let input = |i: usize, spelled: &str| {
            let path = folder.path().join(spelled).join(format!("{i}.wav"));
            Input::file(path, "".as_ref())
        };
        let shard = |text: &str| match text.parse() {
            Ok(ShardArg::Given(shard)) => shard,
            other => panic!("{other:?}"),
        };
        for n_inputs in [1, 3, 7, 20] {
            let inputs: Vec<Input> = (0..n_inputs).map(|i| input(i, "")).collect();
            let reversed: Vec<Input> = (0..n_inputs).rev().map(|i| input(i, "./")).collect();
            let mut n_shards = vec![0; n_inputs];
            for index in 1..=7 {
                let shard = shard(&format!("{index}/7"));
                let is_in = shard.of(&inputs);
                let n_in = is_in.iter().filter(|&&is_in| is_in).count();
                assert!(
                    (n_inputs / 7..=n_inputs.div_ceil(7)).contains(&n_in),
                    "even"
                );
                for (n_shards, is_in) in n_shards.iter_mut().zip(&is_in) {
                    *n_shards += usize::from(*is_in);
                }
                assert!(shard.of(&reversed).iter().rev().eq(&is_in), "{index}");
            }
            assert_eq!(n_shards, vec![1; n_inputs]);
        }
    }
}
